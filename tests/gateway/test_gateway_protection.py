"""Two kinds of request end this Triton's HTTP server; behind the gateway they do not."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_support import ANSWER_SECONDS, MATCH, SHOP_KEY, Gateway
from serving_support import Serving, serving, wait_for

from bls_models.bundle import Bundle
from local_server.processes import LOOPBACK

pytestmark = pytest.mark.server

FORM = "application/x-www-form-urlencoded"
FORM_BYTES = 12 * 2**20
# Triton keeps an entry on its stack for each piece of a body, and a stack of 8 MiB ends.
CHUNKS = 1_000_000
CHUNKS_A_WRITE = 10_000


def send_form(port: int) -> bytes:
    """A large body that says it is a form, as `curl -d` sends; returns what came back."""
    body = json.dumps({"text": "x" * FORM_BYTES}).encode()
    head = _head(FORM, f"Content-Length: {len(body)}")
    return _send(port, [head, body])


def send_chunks(port: int) -> bytes:
    """A body of 1 MB in chunks of a byte; returns what came back."""
    pieces = [b"1\r\nx\r\n" * CHUNKS_A_WRITE] * (CHUNKS // CHUNKS_A_WRITE)
    return _send(
        port, [_head("application/json", "Transfer-Encoding: chunked"), *pieces, b"0\r\n\r\n"]
    )


def _head(content_type: str, framing: str) -> bytes:
    lines = [f"POST {MATCH} HTTP/1.1", "Host: server", f"X-API-Key: {SHOP_KEY}"]
    return "\r\n".join([*lines, f"Content-Type: {content_type}", framing, "", ""]).encode()


def _send(port: int, pieces: list[bytes]) -> bytes:
    with socket.create_connection((LOOPBACK, port), ANSWER_SECONDS) as connection:
        # A server that ends, or refuses early, no longer reads.
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        with contextlib.suppress(ConnectionError):
            return connection.recv(4096)
    return b""


ATTACKS = pytest.mark.parametrize("attack", [send_form, send_chunks])


@pytest.fixture
def lonely(bundle: Bundle, database_uri: str, tmp_path: Path) -> Iterator[Serving]:
    """A Triton of the test's own, which may end."""
    with serving(tmp_path, database_uri, f"lonely_{uuid.uuid4().hex}") as running:
        yield running


@pytest.mark.slow
@ATTACKS
def test_triton_alone_ends(lonely: Serving, attack: object) -> None:
    assert callable(attack)
    assert attack(lonely.triton.ports.http) == b""
    wait_for(lambda: not lonely.triton.process.alive, "tritonserver has ended")


@ATTACKS
def test_behind_the_gateway_triton_lives_on(
    gateway: Gateway, server: Serving, attack: object
) -> None:
    assert callable(attack)
    answer = attack(gateway.http_port)
    assert answer.startswith(b"HTTP/1.1 "), "the gateway answers"
    status = int(answer.split()[1])
    # The form is refused; the chunks arrive as one body, which Triton finds to be no JSON.
    assert status == (415 if attack is send_form else 500)
    assert server.triton.process.alive
    with urllib.request.urlopen(f"{server.triton.http_url}/v2/health/live") as health:
        assert health.status == 200
