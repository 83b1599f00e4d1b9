"""What a probe and the supervisor make of a server's answers, and of none."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local_server import probe, supervisor
from local_server.processes import LOOPBACK, free_port
from local_server.supervisor import FAILURES, Supervisor


@contextlib.contextmanager
def answering(
    status: int, body: bytes, before_match: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """A server that lives and answers every match alike."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            before_match()
            self.send_response(status)
            self.end_headers()
            # Whoever asked may have gone.
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


DEAD = b'{"error": "text_encoder failed: Stub process \'text_encoder_0_0\' is not healthy."}'


@pytest.mark.parametrize(
    ("status", "body", "live", "ready"),
    [
        (200, b'{"outputs": [{"name": "product_id"}]}', 0, 0),
        (503, b'{"error": "the index is not loaded yet"}', 0, 1),
        (503, b'{"error": "2 of 9 products are read, which has stood still for 400 s"}', 1, 1),
        (503, b'{"error": "image_encoder did not answer within 10 s"}', 0, 1),
        (503, b'{"error": "[request id: probe] Exceeds maximum queue size"}', 0, 1),
        (503, DEAD, 1, 1),
        (500, DEAD, 1, 1),
        (400, b"{}", 1, 1),
        (200, b"not JSON", 1, 1),
        (200, b'{"outputs": []}', 1, 1),
    ],
)
def test_a_probe_judges_answers(
    status: int, body: bytes, live: int, ready: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(status, body) as url:
        assert probe.main(["--url", url, "--level", "live"]) == live
        assert probe.main(["--url", url, "--level", "ready"]) == ready
    assert bool(capsys.readouterr().err) is bool(live or ready)


def test_a_server_that_lives_and_answers_no_match_in_time_is_not_ready_and_not_dead() -> None:
    go_on = threading.Event()
    with answering(200, b"{}", before_match=go_on.wait) as url:
        try:
            arguments = ["--url", url, "--timeout", "2"]
            assert probe.main([*arguments, "--level", "live"]) == 0
            assert probe.main([*arguments, "--level", "ready"]) == 1
        finally:
            go_on.set()


def test_a_probe_of_nothing_fails_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    for level in "ready", "live":
        url = f"http://{LOOPBACK}:{free_port()}"
        assert probe.main(["--url", url, "--timeout", "0.5", "--level", level]) == 1
        assert "no answer within 0.5 s" in capsys.readouterr().err


class OtherTriton:
    """A server that another process runs; it counts how often it should start again."""

    alive = True

    class process:  # noqa: N801
        pid = 0

    def __init__(self, url: str) -> None:
        self.http_url = url
        self.starts = 0

    def restart(self) -> None:
        self.starts += 1


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that probes at every look, and does not wait long."""
    monkeypatch.setattr(supervisor, "PROBE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "PROBE_SECONDS", 2.0)


def watched(url: str, looks: int) -> OtherTriton:
    triton: Any = OtherTriton(url)
    watching = Supervisor(triton, lambda line: None)
    for _ in range(looks):
        watching.check()
    return triton


@pytest.mark.usefixtures("hasty")
def test_too_much_load_starts_no_server_again() -> None:
    go_on = threading.Event()
    with answering(200, b"{}", before_match=go_on.wait) as url:
        try:
            assert watched(url, FAILURES).starts == 0
        finally:
            go_on.set()
    with answering(503, b'{"error": "Exceeds maximum queue size"}') as url:
        assert watched(url, FAILURES).starts == 0


def test_nobody_waits_for_answers_that_a_process_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    triton: Any = OtherTriton(f"http://{LOOPBACK}:{free_port()}")
    watching = Supervisor(triton, lambda line: None)
    for living in {1: "product_match", 2: "text_encoder"}, {2: "text_encoder"}:
        monkeypatch.setattr(supervisor, "model_processes", lambda pid, found=living: found)
        watching.check()
    assert triton.starts == 1


@pytest.mark.usefixtures("hasty")
def test_a_server_that_does_not_answer_at_all_is_started_again() -> None:
    assert watched(f"http://{LOOPBACK}:{free_port()}", FAILURES).starts == 1
