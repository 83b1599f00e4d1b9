"""The questions to the request logs, on a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pymongo.database import Database

from bls_models.database import queries
from bls_models.database.store import INGEST_LOG, MATCH_LOG, PRODUCTS, Document

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = queries.Span(NOW, NOW + timedelta(hours=1))


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
    found = queries.latency_percentiles(filled, HOUR)
    assert set(found) == {"decode", "total"}
    assert found["total"]["count"] == 4
    assert found["total"]["p50_ms"] in {20.0, 30.0}
    assert found["total"]["p99_ms"] == 40.0


def test_latency_percentiles_of_an_empty_log_are_empty(database: Database[Document]) -> None:
    assert queries.latency_percentiles(database, HOUR) == {}


def test_most_matched_counts_best_matches(filled: Database[Document]) -> None:
    best = queries.most_matched(filled, HOUR)
    assert [(row["product_id"], row["matches"]) for row in best] == [("a", 2), ("b", 1)]
    assert best[0]["mean_score"] == pytest.approx(0.9)
    assert [row["product_id"] for row in queries.most_matched(filled, HOUR, limit=1)] == ["a"]


def test_figures_are_of_their_span_alone(filled: Database[Document]) -> None:
    span = queries.Span(NOW, NOW + timedelta(minutes=2))
    assert queries.latency_percentiles(filled, span)["total"]["count"] == 2
    assert [row["matches"] for row in queries.most_matched(filled, span)] == [1, 1]


def test_newest_entries_are_found_however_old_they_are(database: Database[Document]) -> None:
    now = datetime.now(UTC)
    ages = {"now": 0, "of today": 2, "of last month": 800}
    database[MATCH_LOG].insert_many(
        [
            {"time": now - timedelta(hours=hours), "request_id": name, "status": "error"}
            for name, hours in ages.items()
        ]
    )
    for count in (1, 2, 3, 4):
        for find in (queries.recent_matches, queries.recent_errors):
            found = [entry["request_id"] for entry in find(database, limit=count)]
            assert found == list(ages)[:count]


@pytest.mark.parametrize("most", [1, 5, 40, 63, 64, 1000])
def test_a_span_of_the_newest_entries_has_no_more_than_it_may(
    database: Database[Document], most: int
) -> None:
    log, until = database[MATCH_LOG], NOW + timedelta(days=30)
    # Of 64 minutes, and crowded towards the end, as in a storm.
    seconds = [60.0 * minute for minute in range(60)] + [3600.5, 3601.0, 3601.5, 3602.0]
    log.insert_many([{"time": until - timedelta(hours=2, seconds=-item)} for item in seconds])
    span = queries.newest_span(log, NOW, until, most)
    count = log.count_documents(span.condition)
    assert (span.until, span.cut) == (until, most < 64)
    assert min(most, 64) / 2 - 1 <= count <= most
    if not span.cut:
        assert span.since == NOW


def test_a_second_with_too_many_entries_is_not_divided(database: Database[Document]) -> None:
    log, until = database[MATCH_LOG], NOW + timedelta(hours=1)
    log.insert_many([{"time": until - timedelta(seconds=30)} for _ in range(10)])
    span = queries.newest_span(log, NOW, until, 5)
    assert span.cut
    assert log.count_documents(span.condition) == 0


def test_a_history_has_every_request_in_one_bucket(filled: Database[Document]) -> None:
    first, middle, last = queries.history(filled, HOUR, HOUR.since, 3)
    minutes = (0, 20, 40)
    assert [row["time"] for row in (first, middle, last)] == [
        NOW + timedelta(minutes=minute) for minute in minutes
    ]
    p50 = first.pop("p50_ms")
    assert p50 in {20.0, 30.0}
    assert first == {
        "time": NOW,
        "requests": 6,
        "found": 3,
        "degraded": 0,
        "empty": 1,
        "errors": 2,
        "p95_ms": 40.0,
        "p99_ms": 40.0,
    }
    assert middle["requests"] == last["requests"] == 0
    assert middle["p50_ms"] is None
    filled[MATCH_LOG].insert_one(match(40, 1.0, "a"))
    assert [row["requests"] for row in queries.history(filled, HOUR, HOUR.since, 3)] == [6, 0, 1]


def test_a_request_of_a_history_ended_in_one_way(filled: Database[Document]) -> None:
    # The last one has no matches either.
    for request_id in "r1", "r2", "r3":
        change = {"$set": {"degraded": ["caption"]}}
        filled[MATCH_LOG].update_one({"request_id": request_id}, change)
    (row,) = queries.history(filled, HOUR, HOUR.since, 1)
    ended = {name: row[name] for name in ("found", "degraded", "empty", "errors")}
    assert ended == {"found": 1, "degraded": 2, "empty": 1, "errors": 2}
    assert sum(ended.values()) == row["requests"]


def test_a_history_begins_with_what_is_read(filled: Database[Document]) -> None:
    span = queries.Span(NOW + timedelta(minutes=4), HOUR.until)
    rows = queries.history(filled, span, HOUR.since, 60)
    assert [row["requests"] for row in rows[:3]] == [1, 1, 0]
    assert len(rows) == 56
    (row,) = queries.history(filled, span, HOUR.since, 1)
    assert (row["time"], row["requests"], row["errors"]) == (span.since, 2, 2)
