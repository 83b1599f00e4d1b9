"""What the page's container runs, with the variables of its image and of Compose."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from image_files import DOCKER, assemble, install, stages
from serving_support import ROOT, Serving, wait_for

from local_server.processes import LOOPBACK, ManagedProcess, answers_ok, free_port

START_SECONDS = 120.0


@dataclass(frozen=True)
class RunningPage:
    """A page and where it may write.

    Attributes:
        url: its address.
        process: its process.
        environment: the variables that it was given.
        scratch: its ``/tmp``.
        secrets: its keys and passwords.
    """

    url: str
    process: ManagedProcess
    environment: dict[str, str]
    scratch: Path
    secrets: Path

    @contextlib.contextmanager
    def visitor(self) -> Iterator[httpx.Client]:
        """A browser that has typed the password."""
        password = (self.secrets / "demo-password").read_text(encoding="utf-8").strip()
        typed = {"username": "demo", "password": password}
        with httpx.Client(base_url=self.url, timeout=START_SECONDS) as browser:
            browser.post("/login", data=typed).raise_for_status()
            yield browser


@contextlib.contextmanager
def running_page(
    tmp_path: Path, python: Path, folder: Path, server_url: str, **settings: str
) -> Iterator[RunningPage]:
    """The page's entry point in a folder that stands for the image's."""
    secrets, scratch = tmp_path / "secrets", tmp_path / "scratch"
    scratch.mkdir()
    subprocess.run([str(DOCKER / "make-secrets.sh"), str(secrets)], check=True)
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    told = stages()["demo"].environment() | compose["services"]["demo"]["environment"]
    told = {
        name: value.replace("/opt/product-match", str(folder)).replace("/run/secrets", str(secrets))
        for name, value in told.items()
    }
    port = free_port()
    environment = told | {
        "PATH": os.environ["PATH"],
        # As in the image, this is nowhere.
        "HOME": str(tmp_path / "nonexistent"),
        "TMPDIR": str(scratch),
        "DEMO_URL": server_url,
        "DEMO_HOST": LOOPBACK,
        "DEMO_PORT": str(port),
        **settings,
    }
    process = ManagedProcess(
        "the page",
        ["env", "-C", str(folder), str(python), "-m", "demo"],
        tmp_path / "page.log",
        environment,
    )
    url = f"http://{LOOPBACK}:{port}"
    try:
        process.wait_until(lambda: answers_ok(f"{url}/healthz", 5), START_SECONDS)
        yield RunningPage(url, process, environment, scratch, secrets)
    finally:
        process.stop()


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_the_container_asks_for_the_password_counts_visitors_and_ends_in_order(
    tmp_path: Path,
) -> None:
    with running_page(
        tmp_path,
        Path(sys.executable),
        ROOT,
        "http://127.0.0.1:9",
        DEMO_RATE="1",
        DEMO_BURST="1",
        FORWARDED_ALLOW_IPS="127.0.0.0/8",
    ) as page:
        health = stages()["demo"].values("HEALTHCHECK")[0].partition(" CMD ")[2]
        *_, program = yaml.safe_load(health)
        program = program.replace("http://127.0.0.1:7860", page.url)
        subprocess.run([sys.executable, "-c", program], check=True)

        assert httpx.get(f"{page.url}/config").status_code == 401
        with page.visitor() as visitor:
            assert visitor.get("/config").status_code == 200

        # Behind a proxy that it trusts, the page limits each visitor and not the proxy.
        def guess(visitor: str) -> int:
            headers = {"X-Forwarded-For": visitor}
            wrong = {"username": "demo", "password": "guess"}
            return httpx.post(f"{page.url}/login", data=wrong, headers=headers).status_code

        wait_for(lambda: guess("203.0.113.7") == 429, "a visitor asks for too much")
        assert guess("203.0.113.8") == 400

        os.kill(page.process.pid, signal.SIGTERM)
        wait_for(lambda: not page.process.alive, "the page has ended")
        assert "Traceback" not in page.process.log.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.server
def test_what_the_pages_image_holds_is_all_that_it_needs(server: Serving, tmp_path: Path) -> None:
    """The image without Docker: its environment by its script, its files, its settings."""
    stage, folder, environment = stages()["demo"], tmp_path / "opt", tmp_path / "venv"
    install(stages()["demo-environment"], environment)
    assemble(stage, folder)
    held = files(folder) | files(environment)
    python = environment / "bin" / "python"
    with running_page(tmp_path, python, folder, server.triton.http_url) as page:
        with page.visitor() as visitor:
            assert visitor.get("/").status_code == 200
            sent = visitor.post("/gradio_api/upload", files={"files": ("a.txt", b"a")})
            (stored,) = sent.json()
        assert Path(stored).is_relative_to(page.scratch)
        # What the page imports only when it is used.
        for arguments in (
            ["seed", "import", "seed/sample", "--url", server.triton.http_url],
            ["product_match_client", "--url", server.triton.http_url, "match", "--text", "mug"],
            ["product_match_client", "--url", server.url("grpc"), "match", "--text", "mug"],
        ):
            subprocess.run(
                [str(python), "-m", *arguments], cwd=folder, env=page.environment, check=True
            )
    written = (files(folder) | files(environment)) - held
    assert {path.name for path in written} <= {"hash_seed.txt", "import-errors.jsonl"}
    assert not (tmp_path / "nonexistent").exists()
