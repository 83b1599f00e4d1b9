"""The questions to the database, on a real one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from bls_models.database import queries
from bls_models.database.store import INGEST_LOG, MATCH_LOG, PRODUCTS, Document

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def product(product_id: str, name: str, category: str, price: float, currency: str) -> Document:
    return {
        "_id": product_id,
        "name": name,
        "category": category,
        "price": price,
        "currency": currency,
        "attributes": {},
        "images": [],
        "created": NOW,
        "updated": NOW,
        "revision": 1,
        "write_id": "w",
        "content_hash": "h",
        "fingerprint": "f",
    }


def match(minute: int, total: float, *ids: str) -> Document:
    return {
        "time": NOW + timedelta(minutes=minute),
        "request_id": f"r{minute}",
        "status": "ok",
        "milliseconds": {"decode": total / 10, "total": total},
        "matches": [
            {"product_id": product_id, "score": 0.9 - rank / 10}
            for rank, product_id in enumerate(ids)
        ],
    }


def failure(minute: int, message: str) -> Document:
    return {
        "time": NOW + timedelta(minutes=minute),
        "request_id": f"r{minute}",
        "status": "error",
        "milliseconds": {"total": 1000.0},
        "error": {"type": "ImageError", "message": message},
    }


@pytest.fixture
def filled(database: Database[Document]) -> Database[Document]:
    database[PRODUCTS].insert_many(
        [
            product("a", "Red mug (large)", "mug", 12.0, "EUR"),
            product("b", "Blue mug", "mug", 8.0, "EUR"),
            product("c", "Red kettle", "kettle", 30.0, "EUR"),
            product("d", "Red bowl", "bowl", 12.0, "USD"),
        ]
    )
    database[MATCH_LOG].insert_many(
        [
            match(0, 10.0, "a", "b"),
            match(1, 20.0, "b", "a"),
            match(2, 30.0, "a", "c"),
            match(3, 40.0),
            failure(4, "first"),
            failure(5, "second"),
        ]
    )
    database[INGEST_LOG].insert_one(failure(6, "of an ingest"))
    return database


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [item["product_id"] for item in found]


def test_products_by_id_come_in_the_order_asked_for_and_without_unknown_ones(
    filled: Database[Document],
) -> None:
    found = queries.products_by_id(filled, ["c", "nothing", "a"])
    assert ids(found) == ["c", "a"]
    assert not {"_id", "write_id", "content_hash", "fingerprint"} & set(found[0])


def test_products_by_category_are_paged_by_id(filled: Database[Document]) -> None:
    assert ids(queries.products_by_category(filled, "mug")) == ["a", "b"]
    assert ids(queries.products_by_category(filled, "mug", limit=1, skip=1)) == ["b"]
    assert queries.products_by_category(filled, "Mug") == []


def test_products_by_price_include_both_ends_and_can_be_of_one_currency(
    filled: Database[Document],
) -> None:
    assert set(ids(queries.products_by_price(filled, 8, 12))) == {"a", "b", "d"}
    assert ids(queries.products_by_price(filled, 8, 12, "EUR")) == ["b", "a"]


def test_products_by_name_hold_every_word_in_any_case_and_order(
    filled: Database[Document],
) -> None:
    assert ids(queries.products_by_name(filled, "MUG red")) == ["a"]
    assert ids(queries.products_by_name(filled, "red")) == ["d", "c", "a"]


def test_a_name_is_not_read_as_a_pattern(filled: Database[Document]) -> None:
    assert ids(queries.products_by_name(filled, "(large)")) == ["a"]
    assert queries.products_by_name(filled, ".*") == []


def test_categories_are_counted_most_first(filled: Database[Document]) -> None:
    assert list(queries.categories(filled).items()) == [("mug", 2), ("bowl", 1), ("kettle", 1)]


def test_recent_matches_and_errors_come_newest_first(filled: Database[Document]) -> None:
    assert [entry["request_id"] for entry in queries.recent_matches(filled, 2)] == ["r5", "r4"]
    errors = queries.recent_errors(filled)
    assert [entry["error"]["message"] for entry in errors] == ["second", "first"]
    (ingest,) = queries.recent_errors(filled, INGEST_LOG)
    assert ingest["error"]["message"] == "of an ingest"


def test_errors_of_another_collection_are_refused(filled: Database[Document]) -> None:
    with pytest.raises(ValueError, match="expected 'match_log' or 'ingest_log'"):
        queries.recent_errors(filled, PRODUCTS)


def test_latency_percentiles_are_by_stage_over_answered_requests(
    filled: Database[Document],
) -> None:
    found = queries.latency_percentiles(filled)
    assert set(found) == {"decode", "total"}
    assert found["total"]["count"] == 4
    assert found["total"]["p50_ms"] in {20.0, 30.0}
    assert found["total"]["p99_ms"] == 40.0
    later = queries.latency_percentiles(filled, since=NOW + timedelta(minutes=3))
    assert later["total"] == {"p50_ms": 40.0, "p95_ms": 40.0, "p99_ms": 40.0, "count": 1}


def test_latency_percentiles_of_an_empty_log_are_empty(database: Database[Document]) -> None:
    assert queries.latency_percentiles(database) == {}


def test_most_matched_counts_best_matches_or_all(filled: Database[Document]) -> None:
    best = queries.most_matched(filled)
    assert [(row["product_id"], row["matches"]) for row in best] == [("a", 2), ("b", 1)]
    assert best[0]["mean_score"] == pytest.approx(0.9)
    every = queries.most_matched(filled, first_only=False)
    assert [(row["product_id"], row["matches"]) for row in every] == [("a", 3), ("b", 2), ("c", 1)]
    assert queries.most_matched(filled, since=NOW + timedelta(minutes=3)) == []
