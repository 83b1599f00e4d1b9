"""Products with the same or nearly the same pictures are told of when one of them is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from ingest_support import RED, Ingest, request, upsert
from PIL import Image
from pymongo.database import Database
from serving_support import SMALL_BUNDLE, blocks, encoded, image_vector, picture, wait_for

from bls_models.database.store import INGEST_LOG, Document, Store
from bls_models.errors import IndexUnavailableError
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.ingest.ingester import IngestRequest, IngestResult
from bls_models.metric.metric import Metric
from bls_models.replication.index_generation import IndexGeneration
from bls_models.settings import Settings
from bls_models.telemetry.request_log import LogWriter


class Searched:
    """A real index that follows the database, and how often it was asked."""

    def __init__(self, store: Store, settings: Settings, metric: Metric | None = None) -> None:
        self.generation = IndexGeneration(settings, SMALL_BUNDLE, store, metric)
        self.index, self.follower = self.generation.index, self.generation.follower
        self.calls = 0
        self.away = False
        self.follower.start(60.0)

    def __call__(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        self.calls += 1
        if self.away:
            raise IndexUnavailableError("product_index is not loaded")
        return self.generation.search(queries)


# The index sees half of what there is; cosines are told of raw vectors all the same.
HALVES = Metric("halves", np.zeros(48, np.float32), np.eye(48, 24, dtype=np.float32), 1.5)


@pytest.fixture(params=[None, HALVES], ids=["raw", "metric"])
def search(store: Store, settings: Settings, request: pytest.FixtureRequest) -> Iterator[Searched]:
    searched = Searched(store, settings, request.param)
    yield searched
    searched.generation.close()


@pytest.fixture
def ingest(
    store: Store, database: Database[Document], settings: Settings, search: Searched
) -> Iterator[Ingest]:
    log = LogWriter(database[INGEST_LOG], settings)
    yield Ingest(store, log, settings, search=search)
    log.close()


def product(product_id: str) -> dict[str, Any]:
    return {**RED, "product_id": product_id}


def put(ingest: Ingest, search: Searched, product_id: str, *images: bytes) -> IngestResult:
    """Write a product and wait until the index has it."""
    result = ingest.upsert(product(product_id), *images)
    write_id = ingest.stored_write_id(product_id)
    wait_for(
        lambda: search.index.write_ids([product_id]) == {product_id: write_id},
        "the index has the product",
    )
    return result


def test_the_same_file_in_another_product_is_an_exact_duplicate(
    ingest: Ingest, search: Searched
) -> None:
    assert put(ingest, search, "a", picture(1)).details == {"duplicates": [], "degraded": []}
    found = put(ingest, search, "b", picture(2), picture(1)).details
    assert found == {
        "duplicates": [{"product_id": "a", "kind": "exact", "cosine": 1.0}],
        "degraded": [],
    }
    third = put(ingest, search, "c", picture(1)).details["duplicates"]
    assert {(item["product_id"], item["kind"]) for item in third} == {
        ("a", "exact"),
        ("b", "exact"),
    }


def test_the_same_picture_in_another_file_is_a_near_duplicate(
    ingest: Ingest, search: Searched
) -> None:
    put(ingest, search, "a", picture(1))
    put(ingest, search, "other", picture(2))
    copy = encoded(blocks(1), "JPEG", quality=60)
    (found,) = put(ingest, search, "b", copy).details["duplicates"]
    assert (found["product_id"], found["kind"]) == ("a", "near")
    assert 0.99 < found["cosine"] <= 1


def test_a_product_with_many_other_views_is_found_by_the_one_that_is_near(
    ingest: Ingest, search: Searched
) -> None:
    def cosine(share: float) -> float:
        vectors = [image_vector(np.asarray(item)) for item in (blocks(1), mixed(share))]
        return float(vectors[0] @ vectors[1])

    def mixed(share: float) -> Image.Image:
        return Image.blend(blocks(1), blocks(9), share)

    threshold = Settings().duplicate_cosine
    share = next(at for at in np.arange(0.99, 0, -0.01) if cosine(at) > threshold)
    assert cosine(share) < threshold + 0.01, "a mean over the views would lie below"
    put(ingest, search, "a", picture(1), *(picture(seed) for seed in range(10, 17)))
    (found,) = put(ingest, search, "b", encoded(mixed(share))).details["duplicates"]
    assert (found["product_id"], found["kind"]) == ("a", "near")
    assert found["cosine"] == pytest.approx(cosine(share), abs=0.002)


def test_duplicates_within_one_batch_are_told_of_on_both_sides(ingest: Ingest) -> None:
    copy = encoded(blocks(1), "JPEG", quality=60)
    outcomes = ingest.run(
        upsert(product("a"), picture(1)),
        upsert(product("b"), picture(1)),
        upsert(product("c"), copy),
        upsert(product("d"), picture(4)),
    )
    found = [
        {(other["product_id"], other["kind"]) for other in item.details["duplicates"]}
        for item in outcomes
        if isinstance(item, IngestResult)
    ]
    assert found == [
        {("b", "exact"), ("c", "near")},
        {("a", "exact"), ("c", "near")},
        {("a", "near"), ("b", "near")},
        set(),
    ]


def test_a_product_is_no_duplicate_of_itself(ingest: Ingest, search: Searched) -> None:
    put(ingest, search, "a", picture(1))
    copy = encoded(blocks(1), "JPEG", quality=60)
    assert put(ingest, search, "a", picture(1), copy).details["duplicates"] == []


def test_only_new_pictures_are_looked_for_and_a_batch_is_one_search(
    ingest: Ingest, search: Searched
) -> None:
    put(ingest, search, "a", picture(1))
    put(ingest, search, "b", picture(1))
    before = search.calls
    assert ingest.upsert(product("b"), picture(1)).details == {}, "unchanged"
    changed = ingest.upsert({**product("b"), "price": 1.0}, picture(1))
    assert (changed.status, changed.details["duplicates"]) == ("updated", [])
    assert ingest.one(request("reembed", "b")).details == {}
    assert search.calls == before
    ingest.run(*(upsert(product(f"n{number}"), picture(10 + number)) for number in range(5)))
    assert search.calls == before + 1


def test_without_the_index_the_product_is_stored_and_the_answer_says_what_is_missing(
    ingest: Ingest, search: Searched
) -> None:
    put(ingest, search, "a", picture(1))
    search.away = True
    result = ingest.upsert(product("b"), picture(1))
    assert result.status == "created"
    assert result.details["degraded"] == ["duplicates"]


def test_an_index_that_does_not_follow_the_database_is_told_of(
    ingest: Ingest, search: Searched
) -> None:
    search.follower.stop()
    assert ingest.upsert(product("a"), picture(1)).details["degraded"] == ["duplicates"]


def test_looking_for_duplicates_can_be_switched_off(ingest: Ingest, search: Searched) -> None:
    put(ingest, search, "a", picture(1))
    before = search.calls
    silent = IngestRequest(
        "r", "upsert", upsert(product("b")).product, (picture(1),), duplicates="never"
    )
    assert ingest.one(silent).details == {}
    assert search.calls == before


def test_many_duplicates_are_cut_to_the_best(ingest: Ingest) -> None:
    ingest.run(*(upsert(product(f"p{number}"), picture(1)) for number in range(12)))
    assert len(ingest.upsert(product("last"), picture(1)).details["duplicates"]) == 10


def test_duplicates_are_in_the_ingest_log(
    ingest: Ingest, search: Searched, database: Database[Document]
) -> None:
    put(ingest, search, "a", picture(1))
    put(ingest, search, "b", picture(1))
    log = database[INGEST_LOG]
    entry = wait_for(lambda: log.find_one({"product_id": "b"}), "the entry is written")
    assert entry["duplicates"] == [{"product_id": "a", "kind": "exact", "cosine": 1.0}]
