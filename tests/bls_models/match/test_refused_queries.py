"""A query that the index refuses fails alone, and answers tell what they took."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from caption_support import no_caption_wanted
from match_support import MatchSender, match_request
from serving_support import SMALL_BUNDLE, ContentEncoders, unit

from bls_models.captions.queue import CaptionQueue
from bls_models.errors import RequestError
from bls_models.index.engine import IndexedProduct
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.match.matcher import ProductMatcher
from bls_models.match.record import MatchRequest
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings

SETTINGS = Settings()
PRODUCTS = 20


class StoreOfAll:
    """A database with a document for every id."""

    def find_products(self, ids: list[str]) -> dict[str, Any]:
        return {name: {"_id": name, "name": "杯" * 200, "revision": 1} for name in ids}


class Entries:
    """The log; keeps what is written."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, entries: list[dict[str, Any]]) -> None:
        self.written += entries


@pytest.fixture
def log() -> Entries:
    return Entries()


def index_of(options: IndexOptions) -> ProductIndex:
    index = ProductIndex(SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim, 1000, options)
    vectors = unit(np.random.default_rng(0).normal(size=(PRODUCTS, SMALL_BUNDLE.text_dim)))
    none = np.zeros((0, SMALL_BUNDLE.image_dim), np.float32)
    index.upsert(
        [
            IndexedProduct(f"p{at}", "w", {"price": at, "name": f"n{at}"}, none, vector[None])
            for at, vector in enumerate(vectors)
        ]
    )
    return index


def services_of(index: ProductIndex, log: Entries, settings: Settings) -> Services:
    return Services(
        SMALL_BUNDLE,
        settings,
        ContentEncoders(SMALL_BUNDLE),
        CaptionQueue(no_caption_wanted, 1, 1.0),
        lambda queries: (index.answers(queries), {"following": True}),
        log,  # type: ignore[arg-type]
    )


@pytest.fixture
def sender(log: Entries) -> MatchSender:
    index = index_of(IndexOptions(max_search_work=PRODUCTS, max_filter_work=25))
    return sender_of(services_of(index, log, SETTINGS))


def sender_of(services: Services) -> MatchSender:
    matcher = ProductMatcher(services, StoreOfAll())  # type: ignore[arg-type]
    return MatchSender(matcher, services.settings)


def test_a_page_of_more_bytes_than_a_client_takes_is_refused_in_words(log: Entries) -> None:
    index = index_of(IndexOptions())
    services = services_of(index, log, Settings(max_answer_bytes=4000))
    small, large = request(["mug"]), request(["mug"], top_k=8)
    sender_of(services).run([small, large])
    assert small.error is None
    # In UTF-8, where a character of these takes three bytes, not six.
    assert 3000 < sum(map(len, small.products)) < 4000
    assert isinstance(large.error, RequestError)
    assert "at most 4000 (PRODUCT_MATCH_MAX_ANSWER_BYTES)" in str(large.error)
    assert "with top_k and offset" in str(large.error)


def request(words: list[str], filter_json: str = "", top_k: int = 5) -> MatchRequest:
    tensors: dict[str, Any] = {"text": np.array([[text.encode() for text in words]], np.object_)}
    tensors["top_k"] = np.array([[top_k]], np.int32)
    if filter_json:
        tensors["filter"] = np.array([[filter_json.encode()]], np.object_)
    return match_request(match_query_from_tensors(tensors, SETTINGS))


def test_queries_that_take_too_much_are_refused_between_others(
    sender: MatchSender, log: Entries
) -> None:
    plain, filtered = request(["mug"]), request(["mug"], '{"price": {"$lt": 15}}')
    many = request(["mug", "vase"])
    wide = request(["mug"], '{"$or": [{"price": {"$gte": 0}}, {"name": {"$gt": "a"}}]}')
    sender.run([plain, many, filtered, wide])
    assert [item.error for item in (plain, filtered)] == [None, None]
    assert plain.details["search"] == {"scored": 20, "filtered": 0}
    assert filtered.details["search"] == {"scored": 20, "filtered": 15}
    assert len(plain.products) == len(filtered.products) == 5
    assert isinstance(many.error, RequestError)
    assert "at most 20 (PRODUCT_MATCH_MAX_SEARCH_WORK)" in str(many.error)
    assert isinstance(wide.error, RequestError)
    assert "at most 25 (PRODUCT_MATCH_MAX_FILTER_WORK)" in str(wide.error)
    statuses = {entry["request_id"]: entry["status"] for entry in log.written}
    assert [statuses[item.request_id] for item in (plain, filtered)] == ["ok", "ok"]
    assert [statuses[item.request_id] for item in (many, wide)] == ["error", "error"]
