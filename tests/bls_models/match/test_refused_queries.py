"""A query that the index refuses fails alone, and answers tell what they took."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from caption_support import no_caption_wanted
from serving_support import SMALL_BUNDLE, ContentEncoders, unit

from bls_models.captions.queue import CaptionQueue
from bls_models.errors import RequestError
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import IndexedProduct, ProductIndex
from bls_models.match.matcher import ProductMatcher
from bls_models.match.record import MatchRequest
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings

SETTINGS = Settings()


class StoreOfAll:
    """A database with a document for every id."""

    def find_products(self, ids: list[str]) -> dict[str, Any]:
        return {product_id: {"_id": product_id, "revision": 1} for product_id in ids}


class Entries:
    """The log; keeps what is written."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, entries: list[dict[str, Any]]) -> None:
        self.written += entries


@pytest.fixture
def log() -> Entries:
    return Entries()


@pytest.fixture
def matcher(log: Entries) -> ProductMatcher:
    options = IndexOptions(max_search_work=20, max_filter_work=25)
    index = ProductIndex(SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim, 1000, options)
    vectors = unit(np.random.default_rng(0).normal(size=(20, SMALL_BUNDLE.text_dim)))
    none = np.zeros((0, SMALL_BUNDLE.image_dim), np.float32)
    index.upsert(
        [
            IndexedProduct(
                f"p{at}", "w", {"price": at, "name": f"n{at}"}, none, vectors[at : at + 1]
            )
            for at in range(20)
        ]
    )
    services = Services(
        SMALL_BUNDLE,
        SETTINGS,
        ContentEncoders(SMALL_BUNDLE),
        CaptionQueue(no_caption_wanted, 1, 1.0),
        lambda queries: (index.answers(queries), {"following": True}),
        log,  # type: ignore[arg-type]
    )
    return ProductMatcher(services, StoreOfAll())  # type: ignore[arg-type]


def request(words: list[str], filter_json: str = "") -> MatchRequest:
    tensors = {"text": np.array([[text.encode() for text in words]], np.object_)}
    if filter_json:
        tensors["filter"] = np.array([[filter_json.encode()]], np.object_)
    return MatchRequest("", match_query_from_tensors(tensors, SETTINGS))


def test_queries_that_take_too_much_are_refused_between_others(
    matcher: ProductMatcher, log: Entries
) -> None:
    plain, filtered = request(["mug"]), request(["mug"], '{"price": {"$lt": 15}}')
    many = request(["mug", "vase"])
    wide = request(["mug"], '{"$or": [{"price": {"$gte": 0}}, {"name": {"$gt": "a"}}]}')
    matcher.run([plain, many, filtered, wide])
    assert [item.error for item in (plain, filtered)] == [None, None]
    assert plain.details["search"] == {"scored": 20, "filtered": 0}
    assert filtered.details["search"] == {"scored": 20, "filtered": 15}
    assert len(plain.products) == len(filtered.products) == 5
    assert isinstance(many.error, RequestError)
    assert "at most 20 (PRODUCT_MATCH_MAX_SEARCH_WORK)" in str(many.error)
    assert isinstance(wide.error, RequestError)
    assert "at most 25 (PRODUCT_MATCH_MAX_FILTER_WORK)" in str(wide.error)
    assert [entry["status"] for entry in log.written] == ["ok", "error", "ok", "error"]
