"""The questions to the request logs, on a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pymongo.database import Database

from bls_models.database import queries
from bls_models.database.store import INGEST_LOG, MATCH_LOG, PRODUCTS, Document

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


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


def test_latency_percentiles_of_an_empty_log_are_empty(database: Database[Document]) -> None:
    assert queries.latency_percentiles(database) == {}


def test_most_matched_counts_best_matches(filled: Database[Document]) -> None:
    best = queries.most_matched(filled)
    assert [(row["product_id"], row["matches"]) for row in best] == [("a", 2), ("b", 1)]
    assert best[0]["mean_score"] == pytest.approx(0.9)
    assert [row["product_id"] for row in queries.most_matched(filled, limit=1)] == ["a"]
