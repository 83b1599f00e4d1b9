"""What many clients together may take of the gateway: requests, memory and its folder."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from gateway_support import (
    ANSWER_SECONDS,
    JSON,
    LOADER_KEY,
    MATCH,
    SHOP_KEY,
    Gateway,
    Recorder,
    match_message,
    running_gateway,
    running_grpc_recorder,
    running_recorder,
)
from serving_support import wait_for

from local_server.processes import LOOPBACK

pytestmark = pytest.mark.server

MIB = 2**20


@contextlib.contextmanager
def slow_upload(gateway: Gateway, key: str) -> Iterator[None]:
    """A client that has sent the first bytes of a body, and then nothing."""
    lines = [f"POST {MATCH} HTTP/1.1", "Host: gateway", f"X-API-Key: {key}"]
    lines += ["Content-Type: application/json", "Content-Length: 1000000", "", "{"]
    with socket.create_connection((LOOPBACK, gateway.http_port), ANSWER_SECONDS) as connection:
        connection.sendall("\r\n".join(lines).encode())
        yield


def status(gateway: Gateway, key: str) -> int:
    return gateway.ask(MATCH, b"{}", JSON, key=key).status


def test_slow_uploads_leave_room_for_others_and_for_health(
    recorder: Recorder, tmp_path: Path
) -> None:
    limits = {"requests": 5, "client_requests": 3, "address_connections": 2}
    with (
        running_gateway(tmp_path, recorder.port, 9, **limits) as gateway,
        contextlib.ExitStack() as uploads,
    ):

        def has_no_place(key: str) -> bool:
            """Ask, and take a place where there was one; the question may have taken the last."""
            if status(gateway, key) == 429:
                return True
            uploads.enter_context(slow_upload(gateway, key))
            return False

        for _ in range(2):
            assert not has_no_place(SHOP_KEY), "no more than before"
        wait_for(lambda: has_no_place(SHOP_KEY), "the client has its share")
        # All come from one address, as behind a proxy; who has a key is not counted by that.
        assert not has_no_place(LOADER_KEY)
        wait_for(lambda: has_no_place(LOADER_KEY), "the gateway takes no more")
        for path in "/healthz", "/v2/health/live":
            assert gateway.ask(path, key="").status == 200
        uploads.close()
        wait_for(lambda: status(gateway, SHOP_KEY) == 200, "their places are free again")


def test_large_grpc_messages_take_little_memory(tmp_path: Path) -> None:
    calls, size = 8, 8 * MIB
    message = match_message(request_id="x" * size)
    with (
        running_grpc_recorder(calls) as upstream,
        running_gateway(tmp_path, 9, upstream.port) as gateway,
        ThreadPoolExecutor(calls) as pool,
    ):
        assert gateway.call("ModelInfer", match_message())[0] is grpc.StatusCode.OK
        before = memory(gateway)
        upstream.answers.clear()
        answers = [pool.submit(gateway.call, "ModelInfer", message) for _ in range(calls)]
        wait_for(lambda: len(upstream.calls) == 1 + calls, "all have come through")
        taken = memory(gateway) - before
        upstream.answers.set()
        assert {answer.result()[0] for answer in answers} == {grpc.StatusCode.OK}
    assert all(received == message for _, received in upstream.calls[1:])
    # The buffers of a body, and what else a call has.
    assert taken < calls * MIB, f"{taken / MIB:.1f} MiB for {calls} messages of {size // MIB}"


def test_large_pictures_take_little_memory(tmp_path: Path) -> None:
    calls, picture = 8, bytes(range(256)) * (8 * MIB // 256)
    with running_recorder() as upstream, ThreadPoolExecutor(calls) as pool:
        # As Triton answers: some JSON, the length of the only element, and that.
        head = b'{"outputs": []}'
        upstream.body = head + len(picture).to_bytes(4, "little") + picture
        upstream.headers = {"Inference-Header-Content-Length": str(len(head))}
        with running_gateway(tmp_path, upstream.port, 9) as gateway:
            path = f"/pictures/{'0' * 64}"
            assert gateway.ask(path).body == picture
            before = memory(gateway)
            answers = [pool.submit(gateway.ask, path) for _ in range(calls)]
            taken = 0
            while not all(answer.done() for answer in answers):
                taken = max(taken, memory(gateway) - before)
            assert all(answer.result().body == picture for answer in answers)
            taken = max(taken, memory(gateway) - before)
    assert taken < calls * MIB, f"{taken / MIB:.1f} MiB for {calls} pictures of 8"


def memory(gateway: Gateway) -> int:
    """What nginx's processes have for themselves, in bytes."""
    (master,) = (item for item in psutil.process_iter() if item.pid == gateway.process.pid)
    return sum(item.memory_full_info().uss for item in (master, *master.children(recursive=True)))


def test_a_large_message_is_looked_through_as_a_small_one_is(tmp_path: Path) -> None:
    name = b"\x0a\x0dproduct_match"
    large = match_message(request_id="x" * MIB)
    with (
        running_grpc_recorder() as upstream,
        running_gateway(tmp_path, 9, upstream.port) as gateway,
    ):
        for message, code in (
            (large, grpc.StatusCode.OK),
            (large.removeprefix(name) + name, grpc.StatusCode.OK),
            (large + name, grpc.StatusCode.NOT_FOUND),
            (large[:-1], grpc.StatusCode.NOT_FOUND),
            # So many empty fields would keep the gateway busy for seconds.
            (name + b"\x20\x00" * 999, grpc.StatusCode.OK),
            (name + b"\x20\x00" * 1000, grpc.StatusCode.NOT_FOUND),
            (b"\x20\x00" * MIB + name, grpc.StatusCode.NOT_FOUND),
        ):
            assert gateway.call("ModelInfer", message)[0] is code
    assert [message for _, message in upstream.calls][:2] == [
        large,
        large.removeprefix(name) + name,
    ]


def test_secrets_do_not_go_on_over_grpc(tmp_path: Path) -> None:
    sent = {
        "x-api-key": SHOP_KEY,
        "authorization": f"Bearer {SHOP_KEY}",
        "triton-admin-key": "guess",
        "triton-grpc-protocol-triton-admin-key": "guess",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    with (
        running_grpc_recorder() as upstream,
        running_gateway(tmp_path, 9, upstream.port) as gateway,
    ):
        assert gateway.call("ModelInfer", match_message(), sent)[0] is grpc.StatusCode.OK
    ((metadata, _),) = upstream.calls
    assert metadata.keys() & sent.keys() == {"traceparent"}
    assert "x-request-id" in metadata
