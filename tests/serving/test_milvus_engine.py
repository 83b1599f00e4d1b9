"""Whole servers with the index in Milvus: the sample catalogue, changes, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_support import (
    WAIT_SECONDS,
    SampleProduct,
    Serving,
    picture,
    serving,
    wait_for,
)

from bls_models.bundle import Bundle
from bls_models.settings import INDEX_ENGINE
from loadtest.faults.milvus import milvus_server
from local_server.sync_check import ask_for_check
from local_server.temporary_stack import wait_for_index
from product_match_client import BadRequestError

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def servers(
    bundle: Bundle,
    database_uri: str,
    sample: list[SampleProduct],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Serving]]:
    """Two servers of one database and one Milvus, with the sample catalogue."""
    state = tmp_path_factory.mktemp("milvus_servers")
    with milvus_server(tmp_path_factory.mktemp("milvus")) as milvus:
        settings = {
            INDEX_ENGINE: "milvus",
            "MILVUS_URI": milvus.uri,
            "MILVUS_CONSISTENCY": "Strong",
            "PRODUCT_MATCH_MILVUS_TIMEOUT_MS": "4000",
        }
        name = f"serving_{state.name}"[:60]
        with (
            serving(state / "first", database_uri, name, **settings) as first,
            serving(state / "second", database_uri, name, **settings) as second,
        ):
            with first.client("grpc") as client:
                for item in sample:
                    assert client.upsert(item.product, item.images).status == "created"
            for server in (first, second):
                wait_for_index(server.triton.http_url, len(sample), WAIT_SECONDS)
            yield [first, second]


def test_held_out_photos_find_their_product_on_every_server(
    servers: list[Serving], sample: list[SampleProduct]
) -> None:
    for server in servers:
        with server.client("grpc") as client:
            found = {
                item.product_id: client.match(images=item.queries[0], top_k=1).matches[0].product_id
                for item in sample[::3]
            }
            details = client.match(texts="red mug").details
        assert sum(wanted == given for wanted, given in found.items()) >= 0.9 * len(found)
        assert details["index"]["type"].startswith("Milvus")
        assert details["index"]["products"] == len(sample)
        assert details["index"]["following"]
        assert details["degraded"] == []


def test_filters_and_liked_products_are_answered_and_what_is_not_there_is_refused(
    servers: list[Serving],
) -> None:
    with servers[1].client("http") as client:
        cheap = client.match(
            texts="mug", filter={"category": "mug", "price": {"$lt": 13}}, top_k=50, min_score=-1
        )
        assert {match.product["category"] for match in cheap.matches} == {"mug"}
        assert all(match.product["price"] < 13 for match in cheap.matches)
        assert client.match(texts="x", filter={"category": "none"}, min_score=-1).matches == ()
        liked = client.match(like="mug-classic-red", texts="blue", text_weights=[2], top_k=3)
        assert liked.matches[0].product_id == "mug-classic-blue"
        with pytest.raises(BadRequestError, match="PRODUCT_MATCH_INDEX_ENGINE=faiss"):
            client.match(texts="mug", facets={"category": 3})
        with pytest.raises(BadRequestError, match="PRODUCT_MATCH_INDEX_ENGINE=faiss"):
            client.match(texts="mug", sort="price")


def test_a_product_written_on_one_server_is_found_on_both(
    servers: list[Serving], tmp_path: Path
) -> None:
    product = {"product_id": "new-one", "name": "A new thing", "category": "thing", "price": 1}
    with servers[1].client("grpc") as client:
        client.upsert(product, picture(7))
    for server in servers:
        with server.client("grpc") as client:

            def best(client: object = client) -> str | None:
                result = client.match(images=picture(7), top_k=1, min_score=-1)  # type: ignore[attr-defined]
                return result.matches[0].product_id if result.matches else None

            wait_for(lambda best=best: best() == "new-one", "it is found")
    with servers[0].client("grpc") as client:
        copy = client.upsert({**product, "product_id": "copy"}, picture(7))
        assert "new-one" in {item["product_id"] for item in copy.details["duplicates"]}
        client.delete("copy")
        client.delete("new-one")
        wait_for(
            lambda: (
                "new-one"
                not in {m.product_id for m in client.match(images=picture(7), min_score=-1).matches}
            ),
            "it is gone",
        )


def test_the_sync_check_finds_nothing_on_any_server(servers: list[Serving]) -> None:
    for server in servers:
        assert ask_for_check(server.triton.http_url, repair=False)["differences"] == {}
        with server.client("http") as client:
            assert client.report("server")["index"]["following"]
