"""``python -m demo`` as a process: how it begins and how it ends."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_support import opened_page
from demo_support import SAID, page_environment
from playwright.sync_api import Browser, expect
from serving_support import CALL_SECONDS, ROOT

from demo.options import DemoOptions
from local_server.processes import LOOPBACK, free_port

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
        process.kill()
        process.communicate()


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
