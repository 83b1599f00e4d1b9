"""Captioners that are away, dead or stuck: matches go on without them, and nobody waits long."""

from __future__ import annotations

import os
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from serving_support import (
    CALL_SECONDS,
    HangingModels,
    Serving,
    change_model,
    picture,
    serving,
    stub_of,
    wait_for,
)

from bls_models.bundle import Bundle
from local_server.tuning import instance_count
from product_match_client import MatchResult, ProductMatchClient

pytestmark = [pytest.mark.server, pytest.mark.slow]

PRODUCT = {"product_id": "p1", "name": "Pattern", "category": "pattern"}
TIMEOUT_MS = 1500


@pytest.fixture
def bundle_with_captioner(bundle: Bundle) -> Bundle:
    bundle.require_captioner()
    return bundle


@pytest.fixture
def hanging(bundle_with_captioner: Bundle, tmp_path: Path) -> HangingModels:
    return HangingModels(tmp_path, "product_match", "caption_decoder")


@pytest.fixture
def own_server(
    hanging: HangingModels, database_uri: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Serving]:
    """A Triton for one test alone, with a product; ``param``: its settings."""
    settings = getattr(request, "param", {})
    name = f"captions_{tmp_path.name}"[:60]
    with serving(
        tmp_path / "triton", database_uri, name, hanging.repository, **settings
    ) as running:
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
    change_model(own_server, model, "unload")
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

    change_model(own_server, model, "load")
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
    change_model(own_server, model, "unload")
    change_model(own_server, model, "load")
    wait_for(lambda: clients[0].match(picture(1)).caption, "there are captions again")
    assert_captioned(client.match(picture(1)))


@pytest.mark.parametrize(
    "own_server", [{"PRODUCT_MATCH_CAPTION_TIMEOUT_MS": str(TIMEOUT_MS)}], indirect=True
)
def test_a_stuck_model_costs_the_timeout_and_no_match(
    own_server: Serving, hanging: HangingModels
) -> None:
    with own_server.client() as client:
        with hanging.held("caption_decoder"):
            result = client.match(picture(1))
            assert_matched_without_caption(result, "timeout")
            assert result.details["caption"]["milliseconds"] >= TIMEOUT_MS
            never = client.match(picture(1), caption="never")
            assert never.details["caption"]["status"] == "not_asked"
        wait_for(lambda: client.match(picture(1)).caption, "there are captions again")


class Asked:
    """Matches that are asked for at once, each in a thread of its own."""

    def __init__(self, server: Serving, modes: Sequence[str]) -> None:
        self.answers: list[tuple[str, MatchResult]] = []
        self._server = server
        self._start = threading.Barrier(len(modes))
        self._threads = [threading.Thread(target=self._ask, args=(mode,)) for mode in modes]
        for thread in self._threads:
            thread.start()

    def _ask(self, mode: str) -> None:
        with self._server.client("grpc") as client:
            client.is_ready()
            self._start.wait()
            self.answers.append((mode, client.match(picture(1), caption=mode)))

    def all(self) -> list[MatchResult]:
        """The answers, waited for."""
        for thread in self._threads:
            thread.join()
        assert len(self.answers) == len(self._threads)
        return [result for _, result in self.answers]


def pending(server: Serving, model: str) -> int:
    """Requests that wait for an instance of a model."""
    with urllib.request.urlopen(server.triton.metrics_url, timeout=CALL_SECONDS) as answer:
        text = answer.read().decode()
    found = re.search(
        rf'^nv_inference_pending_request_count{{model="{model}".*}} (\d+)', text, re.M
    )
    assert found is not None
    return int(found[1])


def test_matches_without_captions_overtake_those_that_wait_in_their_own_batch(
    own_server: Serving, hanging: HangingModels
) -> None:
    modes = ["never", "always"] * 6
    with hanging.held("caption_decoder"):
        # Requests gather, and go on as batches of both kinds.
        with hanging.held("product_match"):
            asked = Asked(own_server, modes)
            wait_for(
                lambda: (
                    hanging.taken("product_match") + pending(own_server, "product_match")
                    == len(modes)
                ),
                "all requests are there",
            )
        wait_for(lambda: len(asked.answers) >= 6, "those without captions are answered")
        assert [mode for mode, _ in asked.answers] == ["never"] * 6
    for result in asked.all():
        assert result.matches[0].product_id == "p1"
        assert result.details["degraded"] == []


@pytest.mark.parametrize("own_server", [{"PRODUCT_MATCH_CAPTION_QUEUE": "1"}], indirect=True)
def test_more_photos_than_the_queue_holds_are_matched_without_captions(
    own_server: Serving, hanging: HangingModels
) -> None:
    photos = 24
    # Of each instance one photo may be with the captioner, and one in the queue.
    most = 2 * instance_count(hanging.repository, "product_match")
    with hanging.held("caption_decoder"):
        asked = Asked(own_server, ["always"] * photos)
        wait_for(lambda: len(asked.answers) >= photos - most, "all others are answered")
        statuses = [result.details["caption"]["status"] for _, result in list(asked.answers)]
        assert set(statuses) == {"busy"}
    results = asked.all()
    statuses = [result.details["caption"]["status"] for result in results]
    assert set(statuses) <= {"ok", "low_confidence", "busy"}
    assert photos - most <= statuses.count("busy") < photos
    for result in results:
        assert [match.product_id for match in result.matches] == ["p1"]
        busy = result.details["caption"]["status"] == "busy"
        assert result.details["degraded"] == (["caption"] if busy else [])
