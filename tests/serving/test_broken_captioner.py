"""Captioners that are away, dead or stuck: matches go on without them, and nobody waits long."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving_support import (
    CALL_SECONDS,
    Serving,
    picture,
    serving,
    stub_of,
    stubs_of,
    wait_for,
)

from bls_models.bundle import Bundle
from product_match_client import MatchResult, ProductMatchClient

pytestmark = [pytest.mark.server, pytest.mark.slow]

PRODUCT = {"product_id": "p1", "name": "Pattern", "category": "pattern"}
# Triton gives up a Python stub that does not move after about a second.
TIMEOUT_MS = 300


@pytest.fixture
def bundle_with_captioner(bundle: Bundle) -> Bundle:
    bundle.require_captioner()
    return bundle


@pytest.fixture
def own_server(
    bundle_with_captioner: Bundle, database_uri: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Serving]:
    """A Triton for one test alone, with a product; ``param``: its settings."""
    settings = getattr(request, "param", {})
    name = f"captions_{tmp_path.name}"[:60]
    with serving(tmp_path / "triton", database_uri, name, **settings) as running:
        with running.client() as client:
            client.upsert(PRODUCT, picture(1))
            wait_for(lambda: client.match(texts="pattern").matches, "the product is found")
            # The first captions are slow: the engines prepare themselves.
            wait_for(lambda: client.match(picture(1)).caption, "there are captions")
        yield running


@pytest.fixture
def clients(own_server: Serving) -> Iterator[list[ProductMatchClient]]:
    with own_server.client("http") as http, own_server.client("grpc") as grpc:
        yield [http, grpc]


def change(server: Serving, model: str, action: str) -> None:
    """Load or unload a model through the repository API."""
    url = f"{server.triton.http_url}/v2/repository/models/{model}/{action}"
    request = urllib.request.Request(url, data=b"{}", method="POST")
    with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
        assert answer.status == 200


def assert_matched_without_caption(result: MatchResult, status: str) -> None:
    assert [match.product_id for match in result.matches] == ["p1"]
    assert result.matches[0].score == pytest.approx(1, abs=1e-3)
    assert result.caption == ""
    caption = result.details["caption"]
    assert caption["status"] == status
    assert caption["reason"]
    assert result.details["degraded"] == ["caption"]


def assert_captioned(result: MatchResult) -> None:
    assert result.caption
    assert result.details["degraded"] == []


@pytest.mark.parametrize("model", ["image_captioner", "caption_decoder"])
def test_an_unloaded_model_costs_the_captions_and_loading_it_brings_them_back(
    own_server: Serving, clients: list[ProductMatchClient], model: str
) -> None:
    change(own_server, model, "unload")
    wait_for(lambda: not clients[0].match(picture(1)).caption, f"{model} is unloaded")
    for client in clients:
        for mode in ("auto", "always"):
            result = client.match(picture(1), caption=mode)
            assert_matched_without_caption(result, "unavailable")
            assert f"{model} failed" in result.details["caption"]["reason"]
        never = client.match(picture(1), caption="never")
        assert never.details["degraded"] == []
    entry = own_server.log_entry(result.details["request_id"])
    assert (entry["status"], entry["degraded"]) == ("ok", ["caption"])
    stored = client.upsert({**PRODUCT, "product_id": "p2"}, picture(2), caption="missing")
    assert (stored.status, stored.details["degraded"]) == ("created", ["caption"])

    change(own_server, model, "load")
    assert_captioned(client.match(picture(1)))
    again = client.upsert({**PRODUCT, "product_id": "p2"}, picture(2), caption="missing")
    assert again.details["degraded"] == []


@pytest.mark.parametrize("model", ["image_captioner", "caption_vision", "caption_decoder"])
def test_a_dead_model_costs_the_captions_and_loading_it_anew_brings_them_back(
    own_server: Serving, clients: list[ProductMatchClient], model: str
) -> None:
    os.kill(stub_of(own_server, model), signal.SIGKILL)
    for client in clients:
        assert_matched_without_caption(client.match(picture(1)), "unavailable")
    change(own_server, model, "unload")
    change(own_server, model, "load")
    wait_for(lambda: clients[0].match(picture(1)).caption, "there are captions again")
    assert_captioned(client.match(picture(1)))


@pytest.mark.parametrize(
    "own_server", [{"PRODUCT_MATCH_CAPTION_TIMEOUT_MS": str(TIMEOUT_MS)}], indirect=True
)
def test_a_stuck_model_costs_the_timeout_and_no_match(own_server: Serving) -> None:
    pid = stub_of(own_server, "caption_decoder")
    with own_server.client() as client:
        os.kill(pid, signal.SIGSTOP)
        try:
            result = client.match(picture(1))
            assert_matched_without_caption(result, "timeout")
            assert result.details["caption"]["milliseconds"] >= TIMEOUT_MS
            never = client.match(picture(1), caption="never")
            assert never.details["caption"]["status"] == "not_asked"
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: client.match(picture(1)).caption, "there are captions again")


def test_matches_without_captions_overtake_those_that_wait_in_their_own_batch(
    own_server: Serving,
) -> None:
    answered: list[tuple[str, float, MatchResult]] = []
    decoder = stub_of(own_server, "caption_decoder")
    own = stubs_of(own_server, "product_match")
    start = threading.Barrier(13)

    def ask(mode: str) -> None:
        with own_server.client("grpc") as client:
            client.is_ready()
            start.wait()
            result = client.match(picture(1), caption=mode)
            answered.append((mode, time.monotonic(), result))

    modes = ["never", "always"] * 6
    threads = [threading.Thread(target=ask, args=(mode,)) for mode in modes]
    for thread in threads:
        thread.start()
    # While product_match stands still requests gather, and go on as batches of both kinds.
    for pid in own:
        os.kill(pid, signal.SIGSTOP)
    start.wait()
    time.sleep(0.3)
    os.kill(decoder, signal.SIGSTOP)
    for pid in own:
        os.kill(pid, signal.SIGCONT)
    wait_for(
        lambda: sum(mode == "never" for mode, _, _ in answered) == 6,
        "those without captions are answered",
    )
    os.kill(decoder, signal.SIGCONT)
    for thread in threads:
        thread.join()
    assert len(answered) == len(modes)
    assert all(result.matches[0].product_id == "p1" for _, _, result in answered)
    moments = {
        wanted: [moment for mode, moment, _ in answered if mode == wanted] for wanted in set(modes)
    }
    assert max(moments["never"]) < min(moments["always"])


@pytest.mark.parametrize("own_server", [{"PRODUCT_MATCH_CAPTION_QUEUE": "1"}], indirect=True)
def test_more_photos_than_the_queue_holds_are_matched_without_captions(
    own_server: Serving,
) -> None:
    results = at_once(own_server, 24, lambda client: client.match(picture(1), caption="always"))
    statuses = {result.details["caption"]["status"] for result in results}
    assert statuses <= {"ok", "low_confidence", "busy"}
    assert "busy" in statuses
    for result in results:
        assert [match.product_id for match in result.matches] == ["p1"]
        busy = result.details["caption"]["status"] == "busy"
        assert result.details["degraded"] == (["caption"] if busy else [])


def at_once(
    server: Serving, count: int, ask: Callable[[ProductMatchClient], MatchResult]
) -> list[MatchResult]:
    results: list[MatchResult] = []
    start = threading.Barrier(count)

    def run() -> None:
        with server.client("grpc") as client:
            client.is_ready()
            start.wait()
            results.append(ask(client))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return results
