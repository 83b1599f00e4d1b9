"""A detector that is away, dead or stuck costs the objects alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_support import (
    SAMPLE,
    HangingModels,
    Serving,
    change_model,
    picture,
    serving,
    stub_of,
    wait_for,
)

from product_match_client import MatchResult, ProductMatchClient

pytestmark = [pytest.mark.server, pytest.mark.slow]

PRODUCT = {"product_id": "p1", "name": "Pattern", "category": "pattern"}
DETECTOR = "object_detector"
PHOTO = SAMPLE / "scenes" / "0002.webp"


@pytest.fixture
def hanging(tmp_path: Path) -> HangingModels:
    return HangingModels(tmp_path, DETECTOR)


@pytest.fixture
def own_server(hanging: HangingModels, database_uri: str, tmp_path: Path) -> Iterator[Serving]:
    """A Triton for one test alone, with a product, whose calls are soon overdue."""
    name = f"objects_{tmp_path.name}"[:60]
    settings = {"PRODUCT_MATCH_CALL_TIMEOUT_MS": "3000"}
    with serving(
        tmp_path / "triton", database_uri, name, hanging.repository, **settings
    ) as running:
        with running.client() as client:
            client.upsert(PRODUCT, picture(1))
            wait_for(lambda: client.match(texts="pattern").matches, "the product is found")
            wait_for(lambda: objects_of(client).objects, "objects are found")
        yield running


def objects_of(client: ProductMatchClient, mode: str = "always") -> MatchResult:
    return client.match(PHOTO, objects=mode, caption="never")


def assert_whole_photo(result: MatchResult) -> None:
    assert result.objects == ()
    assert result.details["objects"]["status"] == "unavailable"
    assert result.details["objects"]["reason"]
    assert result.details["degraded"] == ["objects"]


def test_unloaded_or_dead_it_costs_the_objects_until_it_is_loaded_again(
    own_server: Serving,
) -> None:
    with own_server.client("http") as http, own_server.client("grpc") as grpc:
        change_model(own_server, DETECTOR, "unload")
        wait_for(lambda: not objects_of(http).objects, "it is unloaded")
        for client in (http, grpc):
            for mode in ("auto", "always"):
                assert_whole_photo(objects_of(client, mode))
            plain = client.match(picture(1), caption="never")
            assert plain.details["degraded"] == []
            assert plain.matches[0].product_id == "p1"
        change_model(own_server, DETECTOR, "load")
        wait_for(lambda: objects_of(http).objects, "objects are found again")
        os.kill(stub_of(own_server, DETECTOR), signal.SIGKILL)
        result = objects_of(http)
        assert_whole_photo(result)
        entry = own_server.log_entry(result.details["request_id"])
        assert (entry["status"], entry["degraded"]) == ("ok", ["objects"])


def test_one_that_hangs_delays_nobody_who_wants_no_objects(
    own_server: Serving, hanging: HangingModels
) -> None:
    results: list[MatchResult] = []

    def ask() -> None:
        with own_server.client() as own:
            results.append(objects_of(own))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    with own_server.client() as client:
        with hanging.held(DETECTOR):
            for thread in threads:
                thread.start()
            wait_for(lambda: hanging.taken(DETECTOR), "it has taken a request")
            for number in range(20):
                assert client.match(picture(number), caption="never").details["degraded"] == []
            for thread in threads:
                thread.join()
        assert len(results) == 4
        for result in results:
            assert_whole_photo(result)
        wait_for(lambda: objects_of(client).objects, "objects are found again")
