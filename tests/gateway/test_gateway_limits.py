"""Sizes, rates and times at the gateway, and what Triton gets to see of a request."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from gateway_support import (
    INFER,
    JSON,
    LOADER_KEY,
    MATCH,
    SHOP_KEY,
    Gateway,
    Recorder,
    match_message,
    running_gateway,
)
from serving_support import Serving

from local_server.processes import free_port
from product_match_client import AsyncProductMatchClient, ServiceUnavailableError
from seed.importer import ImportCounts, import_catalog
from seed.records import CatalogRow

pytestmark = pytest.mark.server

MIB = 2**20


@pytest.fixture
def small(server: Serving, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that takes bodies of 1 MiB."""
    ports = server.triton.ports
    with running_gateway(tmp_path / "small", ports.http, ports.grpc, max_body_mb=1) as gateway:
        yield gateway


def test_larger_bodies_are_refused(small: Gateway) -> None:
    body = json.dumps({"text": "mug", "filter": " " * MIB}).encode()
    assert small.ask(MATCH, body[:MIB], JSON).status == 500, "cut JSON reaches Triton"
    for sent in (body, (body[at : at + 1000] for at in range(0, len(body), 1000))):
        answer = small.ask(MATCH, sent, JSON)
        assert answer.status == 413
        assert "1m" in answer.json()["error"]


def test_larger_grpc_messages_are_refused(small: Gateway) -> None:
    passing = match_message(request_id="x" * (MIB - 100))
    assert small.call("ModelInfer", passing)[0] is grpc.StatusCode.OK
    refused = match_message(request_id="x" * MIB)
    assert small.call("ModelInfer", refused)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_chunks_reach_triton_as_one_body(recorded: Gateway, recorder: Recorder) -> None:
    body = json.dumps({"text": "x" * 5000}).encode()
    answer = recorded.ask(MATCH, (body[at : at + 1] for at in range(len(body))), JSON)
    assert answer.status == 200
    received = recorder.requests[-1]
    assert received.body == body
    assert received.headers["content-length"] == str(len(body))
    assert "transfer-encoding" not in received.headers


def test_only_named_headers_reach_triton(recorded: Gateway, recorder: Recorder) -> None:
    sent = {
        "Content-Type": "APPLICATION/JSON",
        "Authorization": f"Bearer {SHOP_KEY}",
        "triton-admin-key": "guess",
        "Cookie": "a=b",
        "Accept-Encoding": "gzip",
        "X-Request-ID": "order-1.2:3_4",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    assert recorded.ask(MATCH, b"{}", sent).status == 200
    headers = recorder.requests[-1].headers
    assert headers.pop("host")
    assert headers == {
        "content-type": "application/json",
        "content-length": "2",
        "x-request-id": "order-1.2:3_4",
        "traceparent": sent["traceparent"],
    }


@pytest.mark.parametrize(
    ("asked", "reached"),
    [
        ("/v2/repository/../models/product_match/infer", INFER),
        ("//v2/models//product_match/infer", INFER),
        ("/v2/models/product_match/infer?a=b", INFER),
        ("/v2/models/product%5Fmatch/infer", INFER),
    ],
)
def test_paths_reach_triton_in_one_spelling(
    recorded: Gateway, recorder: Recorder, asked: str, reached: str
) -> None:
    assert recorded.ask(asked, b"{}", JSON).status == 200
    assert recorder.requests[-1].path == reached


def test_connections_to_triton_are_kept(recorded: Gateway, recorder: Recorder) -> None:
    before = recorder.connections
    for _ in range(40):
        assert recorded.ask(MATCH, b"{}", JSON).status == 200
    # nginx has a worker a CPU, and each keeps connections of its own.
    assert recorder.connections - before < 40


@pytest.mark.parametrize("sent", ["", "has space", "x" * 129, "tab\there", "\u00fcn"])
def test_a_request_gets_an_id_of_its_own(recorded: Gateway, recorder: Recorder, sent: str) -> None:
    headers = JSON | ({"X-Request-ID": sent} if sent else {})
    answer = recorded.ask(MATCH, b"{}", headers)
    request_id = answer.headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert recorder.requests[-1].headers["x-request-id"] == request_id
    assert recorded.logged(answer)["status"] == 200


def test_a_request_keeps_its_id(gateway: Gateway) -> None:
    for path, status in (MATCH, 200), ("/nothing", 404):
        answer = gateway.ask(path, b'{"text": "mug"}', JSON | {"X-Request-ID": "mine-7"})
        assert (answer.status, answer.headers["X-Request-ID"]) == (status, "mine-7")


def test_the_log_names_clients_and_never_keys(gateway: Gateway) -> None:
    for key, client, status in (
        (SHOP_KEY, "shop", 200),
        (LOADER_KEY, "loader", 200),
        (SHOP_KEY + "0", "", 401),
    ):
        entry = gateway.logged(gateway.ask(MATCH, b'{"text": "mug"}', JSON, key=key))
        assert (entry["client"], entry["status"]) == (client, status)
        assert entry["request"] == f"POST {MATCH} HTTP/1.1"
    text = gateway.process.log.read_text(encoding="utf-8")
    assert SHOP_KEY not in text
    assert LOADER_KEY not in text


def test_each_client_has_its_rate(server: Serving, tmp_path: Path) -> None:
    ports = server.triton.ports
    with running_gateway(
        tmp_path / "slow", ports.http, ports.grpc, match_rate=1, match_burst=2
    ) as gateway:
        # One at once and two more; another client's share is its own.
        for key in (SHOP_KEY, LOADER_KEY):
            answers = [gateway.ask(MATCH, b'{"text": "mug"}', JSON, key=key) for _ in range(6)]
            statuses = [answer.status for answer in answers]
            assert statuses[:3] == [200, 200, 200]
            assert 429 in statuses[3:]
            refusal = answers[statuses.index(429)]
            assert refusal.headers["Retry-After"] == "1"
            assert "slow down" in refusal.json()["error"]
        codes = [gateway.call("ModelInfer", match_message())[0] for _ in range(6)]
        assert grpc.StatusCode.UNAVAILABLE in codes
        # Writes have a rate of their own.
        get = json.dumps({"operation": "get", "product": '{"product_id": "x"}'}).encode()
        path = "/v2/models/product_ingest/generate"
        answers = [gateway.ask(path, get, JSON, key=LOADER_KEY) for _ in range(6)]
        assert [answer.status for answer in answers] == [200] * 6


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_import_that_is_faster_than_its_rate_slows_down_and_loses_nothing(
    server: Serving, tmp_path: Path, protocol: str
) -> None:
    names = [f"slowed-{protocol}-{number}" for number in range(24)]
    rows = [
        CatalogRow(line, {"product_id": name, "name": "Stone", "category": "stone"}, ())
        for line, name in enumerate(names, 1)
    ]

    async def imported(url: str) -> ImportCounts:
        async with AsyncProductMatchClient(url, headers={"X-API-Key": LOADER_KEY}) as client:
            counts = await import_catalog(rows, client, concurrency=12)
            await asyncio.gather(*(delete(client, name) for name in names))
        return counts

    async def delete(client: AsyncProductMatchClient, name: str) -> None:
        for _ in range(20):
            try:
                await client.delete(name)
                return
            except ServiceUnavailableError:
                await asyncio.sleep(0.5)
        raise AssertionError(f"{name} could not be deleted")

    ports = server.triton.ports
    limits = {"ingest_rate": 8, "ingest_burst": 4}
    with running_gateway(tmp_path / "slow", ports.http, ports.grpc, **limits) as gateway:
        counts = asyncio.run(imported(gateway.url(protocol)))
    assert (counts.statuses["created"], counts.failed) == (24, 0)
    refused = {"http": '"status":429,', "grpc": '"grpc_status":"14",'}[protocol]
    assert refused in gateway.process.log.read_text(encoding="utf-8"), "the rate was exceeded"


def test_a_server_with_too_much_to_do_is_asked_again_later(
    recorded: Gateway, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Triton cannot say by itself when to come again.
    monkeypatch.setattr(recorder, "status", 503)
    answer = recorded.ask(MATCH, b'{"text": "mug"}', JSON)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert answer.body == b"{}", "Triton's own words reach the client"
    monkeypatch.setattr(recorder, "status", 200)
    assert "Retry-After" not in recorded.ask(MATCH, b'{"text": "mug"}', JSON).headers


def test_without_triton_the_answer_says_so(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "alone", free_port(), free_port()) as gateway:
        assert gateway.ask("/healthz", key="").status == 200
        answer = gateway.ask(MATCH, b"{}", JSON)
        assert answer.status == 502
        assert answer.headers["Retry-After"] == "1"
        assert "does not answer" in answer.json()["error"]
        assert gateway.call("ModelInfer", match_message())[0] is grpc.StatusCode.UNAVAILABLE
