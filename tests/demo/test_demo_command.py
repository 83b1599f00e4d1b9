"""``python -m demo`` as a process: how it begins and how it ends."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_support import opened_page
from demo_support import SAID, page_environment
from playwright.sync_api import Browser, expect
from serving_support import CALL_SECONDS, ROOT

from bls_models.bundle import Bundle
from demo.options import DemoOptions
from local_server.processes import LOOPBACK, free_port
from local_server.running import find_running
from local_server.temporary_stack import NO_FIT

AWAY = f"http://{LOOPBACK}:{free_port()}"
DOCUMENT = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")


@contextlib.contextmanager
def started(**settings: str) -> Iterator[subprocess.Popen[str]]:
    """The command; it is over at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=page_environment(AWAY, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        # It stops what it started.
        process.terminate()
        process.communicate(timeout=CALL_SECONDS)


def said_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    found = SAID.search(process.stdout.readline())
    assert found
    return found[1]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_peace_with_a_page_open_and_nothing_stays(
    browser: Browser, tmp_path: Path, ending: signal.Signals
) -> None:
    with started(TMPDIR=str(tmp_path)) as process:
        with opened_page(browser, said_address(process)) as watched:
            expect(watched.page.get_by_role("alert").first).to_contain_text("cannot reach")
            photos = watched.page.locator(".find-photo-input input[type=file]").first
            photo = {"name": "a.png", "mimeType": "image/png", "buffer": b"no photo"}
            photos.set_input_files(photo)
            expect(watched.page.get_by_role("alert").nth(1)).to_contain_text("cannot reach")
            assert list(tmp_path.rglob("a.png"))
            process.send_signal(ending)
            output, errors = process.communicate(timeout=CALL_SECONDS)
        assert (process.returncode, output, errors) == (0, "", "")
    assert not list(tmp_path.rglob("a.png"))


@pytest.mark.server
def test_a_server_that_it_started_ends_with_it(bundle: Bundle, tmp_path: Path) -> None:
    state = tmp_path / "state"
    ports = dict.fromkeys(("HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "MONGODB_PORT"), "0")
    with started(DEMO_URL="", STATE=str(state), **ports, **NO_FIT) as process:
        assert process.stdout
        found = next(found for line in process.stdout if (found := SAID.search(line)))
        running = find_running(state)
        assert running
        with urllib.request.urlopen(f"{found[1]}/healthz", timeout=CALL_SECONDS) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=CALL_SECONDS)
    assert (process.returncode, errors) == (0, "")
    assert find_running(state) is None
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{running.http_url}/v2/health/live", timeout=CALL_SECONDS)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with started(DEMO_PORT=str(port)) as process:
            _, errors = process.communicate(timeout=CALL_SECONDS)
    assert process.returncode == 1
    assert errors == (
        f"error: the page cannot listen on {LOOPBACK}:{port} (Address already in use); choose "
        "another port with --port\n"
    )


def test_the_document_has_all_options() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", DOCUMENT, re.MULTILINE)
    expected = []
    for name, field in DemoOptions.model_fields.items():
        default = f"`{field.default}`" if field.default != "" else "unset"
        expected.append((DemoOptions.variables()[name], default, field.description))
    assert rows == expected
