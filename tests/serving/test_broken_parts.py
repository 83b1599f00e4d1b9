"""When a part breaks the answer says so: never a wrong answer, never silence."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from serving_support import (
    UNSTEADY_MS,
    RestartableDatabase,
    Serving,
    picture,
    serving,
    stub_of,
    wait_for,
)

from bls_models.bundle import Bundle
from local_server import probe
from product_match_client import Match, ProductMatchClient, ServiceUnavailableError

pytestmark = [pytest.mark.server, pytest.mark.slow]

UNSTEADY = {"PRODUCT_MATCH_MONGODB_TIMEOUT_MS": str(UNSTEADY_MS)}
PRODUCTS = {
    f"p{number}": {
        "product_id": f"p{number}",
        "name": f"Pattern {number}",
        "category": "pattern",
        "price": float(number),
    }
    for number in range(4)
}


@pytest.fixture
def own_server(
    bundle: Bundle, restartable: RestartableDatabase, tmp_path: Path
) -> Iterator[Serving]:
    """A Triton and a database for one test alone, with four products."""
    state = tmp_path / "triton"
    with (
        serving(state, restartable.uri, "own", **UNSTEADY) as running,
        running.client() as client,
    ):
        for number, product in enumerate(PRODUCTS.values()):
            client.upsert(product, picture(number))
        wait_for(
            lambda: len(client.match(texts="pattern").matches) == len(PRODUCTS),
            "all products are found",
        )
        yield running


def test_a_dead_engine_or_way_to_the_index_leaves_the_rest_working(
    own_server: Serving,
) -> None:
    with own_server.client("http") as http, own_server.client("grpc") as grpc:
        os.kill(stub_of(own_server, "image_encoder"), signal.SIGKILL)
        for number, client in enumerate((http, grpc, http)):
            request_id = f"dead-{number}"
            with pytest.raises(ServiceUnavailableError, match="image_encoder failed"):
                client.match(images=picture(1), request_id=request_id)
            entry = own_server.log_entry(request_id)
            assert entry["status"] == "error"
            assert entry["error"]["type"] == "EncoderError"
            with pytest.raises(ServiceUnavailableError, match="image_encoder failed"):
                client.match(images=picture(1), texts="pattern")
            assert len(client.match(texts="pattern").matches) == len(PRODUCTS)
        with pytest.raises(ServiceUnavailableError, match="image_encoder failed"):
            http.upsert({**PRODUCTS["p1"], "product_id": "new"}, picture(9))
        assert own_server.database["products"].find_one({"_id": "new"}) is None

        # Triton itself says that all is well.
        url = own_server.triton.http_url
        assert probe.answers(url, 60)
        assert probe.DEAD_PART in probe.problem(url, probe.LIVE, 60)

        os.kill(stub_of(own_server, "product_index"), signal.SIGKILL)
        for client in (http, grpc):
            assert len(client.match(texts="pattern").matches) == len(PRODUCTS)
            assert client.get("p1") is not None


def test_without_the_database_matches_go_on_degraded_and_nothing_is_lost(
    own_server: Serving, restartable: RestartableDatabase
) -> None:
    with own_server.client("http") as http, own_server.client("grpc") as grpc:
        complete = http.match(images=picture(2))
        assert complete.matches[0].product["name"] == "Pattern 2"
        restartable.stop()
        ranking = [match.product_id for match in complete.matches]
        wait_for(
            lambda: http.match(images=picture(2)).details["degraded"] == ["documents"],
            "the index has noticed that nobody tells it of changes any more",
        )
        for number, client in enumerate((http, grpc)):
            assert_degraded(client, f"away-{number}", complete.matches)
        with pytest.raises(ServiceUnavailableError, match="MongoDB failed"):
            http.upsert({**PRODUCTS["p1"], "product_id": "new"}, picture(9))
        restartable.start()
        wait_for(
            lambda: http.match(images=picture(2)).details["degraded"] == [],
            "the documents are back",
        )
        assert http.match(images=picture(2)).matches[0].product["name"] == "Pattern 2"
        for number in range(2):
            entry = own_server.log_entry(f"away-{number}")
            assert entry["status"] == "ok"
            assert entry["degraded"] == ["documents"]
            assert [item["product_id"] for item in entry["matches"]] == ranking
        http.upsert({**PRODUCTS["p1"], "product_id": "new"}, picture(9))
        wait_for(
            lambda: http.match(images=picture(9), top_k=1).matches[0].product_id == "new",
            "the index follows the database again",
        )


def assert_degraded(client: ProductMatchClient, request_id: str, complete: Sequence[Match]) -> None:
    result = client.match(images=picture(2), request_id=request_id)
    assert result.details["degraded"] == ["documents"]
    assert [match.product_id for match in result.matches] == [item.product_id for item in complete]
    for match, known in zip(result.matches, complete, strict=True):
        # Each instance has the documents that it has answered with; of others the id alone.
        assert match.product in (known.product, {"product_id": known.product_id})
    assert result.matches[0].score == pytest.approx(1, abs=1e-4)


def test_a_server_started_without_the_database_serves_when_it_comes(
    bundle: Bundle, restartable: RestartableDatabase, tmp_path: Path
) -> None:
    restartable.stop()
    with (
        serving(tmp_path / "triton", restartable.uri, "own", **UNSTEADY) as running,
        running.client() as client,
    ):
        with pytest.raises(ServiceUnavailableError, match="not loaded yet"):
            client.match(texts="pattern")
        restartable.start()
        client.upsert(PRODUCTS["p1"], picture(1))
        wait_for(lambda: answers(client), "matches are answered")
        wait_for(lambda: client.match(images=picture(1)).matches, "the product is found")


def answers(client: ProductMatchClient) -> bool:
    try:
        client.match(texts="pattern")
    except ServiceUnavailableError:
        return False
    return True
