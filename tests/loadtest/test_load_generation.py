from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from serving_support import WAIT_SECONDS, wait_for

from bls_models.errors import SetupError
from loadtest.addresses import address_from_url, grpc_address_from_url
from loadtest.http_load import (
    Address,
    LoadResult,
    PacedLoad,
    answer_from_bytes,
    first_places,
    run_load,
)
from loadtest.match_wire import HEADER_LENGTH, request_from_photo
from loadtest.measurements import LoadError
from loadtest.photos import FIRST_SERIAL

GET = b"GET /%d HTTP/1.1\r\nHost: test\r\nPhoto: " + FIRST_SERIAL + b"\r\n\r\n"


@contextmanager
def http_server(status: int, body: bytes) -> Iterator[tuple[Address, list[str]]]:
    """A server that answers everything alike; yields its address and what was asked for.

    That is the path and the photo of each request, with a space between them.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Photo']}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield ("127.0.0.1", server.server_port), asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def loaded(
    address: Address, asked: list[str], least: int, requests: Sequence[bytes], **options: int
) -> LoadResult:
    """A load, begun anew and longer until it has at least so many requests."""
    seconds = 0.1
    while True:
        asked.clear()
        result = run_load(address, requests, seconds=seconds, **options)
        assert result.seconds >= seconds
        if len(asked) >= least:
            return result
        seconds *= 2
        assert seconds < WAIT_SECONDS, f"{len(asked)} requests"


def test_every_client_sends_every_request_in_turn_over_its_connection() -> None:
    body = b"x" * 200_000  # more than one read
    with http_server(200, body) as (address, asked):
        result = loaded(address, asked, 20, [GET % 1, GET % 2], clients=2)
    assert len(result.latencies_ms) == len(asked)
    assert {item.split()[0] for item in asked} == {"/1", "/2"}
    assert [answer.body for answer in result.kept[:2]] == [body, body]


def test_the_load_says_which_request_each_was() -> None:
    with http_server(200, b"") as (address, asked):
        result = loaded(address, asked, 8, [GET % number for number in range(8)], clients=2)
    assert len(result.sent) == len(result.latencies_ms)
    assert Counter(f"/{place}" for place in result.sent) == Counter(
        item.split()[0] for item in asked
    )


def test_clients_begin_with_different_kinds_of_a_mix() -> None:
    kinds = 4
    begun = Counter(place % kinds for place in first_places(72 * kinds, clients=8))
    assert begun == dict.fromkeys(range(kinds), 2)
    assert first_places(1, clients=3) == [0, 0, 0]


def test_a_request_without_a_photo_is_sent_as_it_is() -> None:
    request = b"GET /1 HTTP/1.1\r\nHost: test\r\nPhoto: none\r\n\r\n"
    with http_server(200, b"") as (address, asked):
        loaded(address, asked, 2, [request], clients=1)
    assert set(asked) == {"/1 none"}


def test_no_photo_is_sent_twice() -> None:
    with http_server(200, b"") as (address, asked):
        loaded(address, asked, 8, [GET % 1, GET % 2], clients=2)
        first = list(asked)
        loaded(address, asked, 8, [GET % 1, GET % 2], clients=2)
    assert len({*first, *asked}) == len(first) + len(asked)


def test_photos_repeat_as_often_as_is_asked_for() -> None:
    with http_server(200, b"") as (address, asked):
        loaded(address, asked, 8, [GET % 1], clients=1, repeat_every=4)
    repeated = [item.endswith(FIRST_SERIAL.decode()) for item in asked]
    assert repeated[:8] == [True, False, False, False] * 2


def test_an_answer_other_than_200_fails_the_benchmark_with_its_message() -> None:
    with (
        http_server(400, b"the photo is empty") as (address, _),
        pytest.raises(LoadError, match="photo is empty"),
    ):
        run_load(address, [GET % 1], clients=2, seconds=0.2)


def test_a_server_that_is_away_fails_the_benchmark() -> None:
    with http_server(200, b"") as (address, _):
        pass
    with pytest.raises(LoadError, match="no server at"):
        run_load(address, [GET % 1], clients=1, seconds=0.1)


def test_an_answer_is_taken_apart() -> None:
    answer = answer_from_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b:c\r\n\r\nhello")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers == {"content-length": "5", "x-a": "b:c"}


def test_a_request_is_a_whole_http_message_with_the_photo_and_no_wish_for_a_caption() -> None:
    photo = np.arange(256, dtype=np.uint8).tobytes()
    request = request_from_photo(photo, ("127.0.0.1", 8000))
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/product_match/infer HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    (length,) = (line for line in head.decode().split("\r\n") if line.startswith(HEADER_LENGTH))
    tensors = body[int(length.split(":")[1]) :]
    never = b"never"
    assert tensors == b"".join(len(value).to_bytes(4, "little") + value for value in (photo, never))


def test_a_url_gives_host_and_port() -> None:
    assert address_from_url("http://127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert address_from_url("http://shop.example") == ("shop.example", 80)


def test_a_grpc_url_gives_the_address() -> None:
    assert grpc_address_from_url("grpc://127.0.0.1:9001") == "127.0.0.1:9001"
    with pytest.raises(SetupError, match="grpc://host:port"):
        grpc_address_from_url("http://127.0.0.1:8000")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "grpc://127.0.0.1:8001", "http://"])
def test_a_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="http://host:port"):
        address_from_url(url)


def test_a_paced_load_sends_no_more_than_its_rate() -> None:
    with http_server(200, b"") as (address, asked):
        start = time.perf_counter()
        paced = PacedLoad(address, [GET % 1], rate=50)
        wait_for(lambda: len(asked) >= 20, "so many requests are sent")
        answered = paced.close()
        seconds = time.perf_counter() - start
    assert answered == len(asked)
    # One at once, and the others each in its turn.
    assert answered <= 1 + 50 * seconds
    assert len(set(asked)) == len(asked)


def test_a_paced_load_whose_requests_fail_says_so() -> None:
    with http_server(503, b"too busy") as (address, asked):
        paced = PacedLoad(address, [GET % 1], rate=50)
        wait_for(lambda: asked, "a request is sent")
        with pytest.raises(LoadError, match="too busy"):
            paced.close()
