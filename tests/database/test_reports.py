"""What ``product_report`` tells, from a real database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pymongo.database import Database
from serving_support import SMALL_BUNDLE, RestartableDatabase

from bls_models.database.connection import connect
from bls_models.database.store import FEEDBACK, INGEST_LOG, MATCH_LOG, Document, Store
from bls_models.errors import DatabaseError, IndexUnavailableError
from bls_models.feedback.entries import Feedback, feedback_entry
from bls_models.metric.catalogue import CatalogueMetrics
from bls_models.metric.fitting import Fit, Gain
from bls_models.metric.metric import Metric
from bls_models.product import json_bytes
from bls_models.report.reporter import Reporter
from bls_models.report.request import ReportQuery
from bls_models.report.server import ServerState
from bls_models.settings import Settings
from bls_models.specs import REPORTS

NOW = datetime.now(UTC).replace(microsecond=0)
INDEX = {"products": 2, "following": True, "lag_seconds": 0.0, "metric": "none"}


def about_index() -> dict[str, Any]:
    return INDEX


def no_index() -> dict[str, Any]:
    raise IndexUnavailableError("the index is not loaded yet")


def reporter(database: Database[Document], index: Any = about_index, **settings: Any) -> Reporter:
    given = Settings(**settings)
    state = ServerState(SMALL_BUNDLE, Store(database, 30), given, index)
    return Reporter(database, state, given)


def ask(reporter: Reporter, report: str, **asked: Any) -> dict[str, Any]:
    """A report as it goes over the wire."""
    told: dict[str, Any] = json.loads(
        json_bytes(reporter.report(ReportQuery(report, **asked), NOW))
    )
    assert (told["report"], told["time"]) == (report, NOW.isoformat())
    return told


def match(request_id: str, minutes: int, *products: str, **entry: Any) -> Document:
    return {
        "time": NOW - timedelta(minutes=minutes),
        "request_id": request_id,
        "variant": "default",
        "status": "ok",
        "milliseconds": {"decode": 1.0, "total": 10.0},
        "inputs": {"texts": ["mug"], "images": [{"bytes": 9, "sha256": "a1"}], "offset": 0},
        "matches": [{"product_id": product, "score": 0.5} for product in products],
        "degraded": [],
    } | entry


def failure(request_id: str, minutes: int) -> Document:
    return {
        "time": NOW - timedelta(minutes=minutes),
        "request_id": request_id,
        "status": "error",
        "milliseconds": {"total": 3.0},
        "error": {"type": "ImageError", "message": "image[0]: is no picture"},
    }


@pytest.fixture
def filled(database: Database[Document]) -> Database[Document]:
    database[MATCH_LOG].insert_many(
        [
            match("old", 60 * 24 * 9, "mug"),
            match("first", 50, "mug", "jug"),
            match("second", 40, "jug"),
            match("third", 30, "mug"),
            match("empty", 20),
            failure("failed", 10),
        ]
    )
    database[INGEST_LOG].insert_many(
        [failure("write", 5), failure("old write", 15), match("written", 1)]
    )
    for request_id, event in (("first", "accepted"), ("old", "rejected")):
        entry = feedback_entry(Feedback(request_id, "mug", event), NOW - timedelta(minutes=1))
        database[FEEDBACK].insert_one(entry)
    return database


def test_an_empty_database_gives_every_report(database: Database[Document]) -> None:
    for report in REPORTS:
        told = ask(reporter(database), report)
        assert not told.get("cut")
    told = ask(reporter(database), "history", limit=3)
    assert [row["requests"] for row in told["buckets"]] == [0, 0, 0]


def test_matches_and_errors_are_log_entries_newest_first(filled: Database[Document]) -> None:
    told = ask(reporter(filled), "matches", limit=2)
    assert [entry["request_id"] for entry in told["entries"]] == ["failed", "empty"]
    (entry,) = ask(reporter(filled), "matches", limit=1)["entries"]
    assert entry == failure("failed", 10) | {"time": (NOW - timedelta(minutes=10)).isoformat()}
    errors = ask(reporter(filled), "errors")["entries"]
    assert [(item["log"], item["request_id"]) for item in errors] == [
        (INGEST_LOG, "write"),
        (MATCH_LOG, "failed"),
        (INGEST_LOG, "old write"),
    ]
    assert len(ask(reporter(filled), "errors", limit=2)["entries"]) == 2


def test_an_answer_holds_no_more_entries_than_it_may(filled: Database[Document]) -> None:
    whole = ask(reporter(filled), "matches")
    sizes = [len(json_bytes(entry)) for entry in whole["entries"]]
    told = ask(reporter(filled, max_answer_bytes=sum(sizes[:3]) + 1), "matches")
    assert (told["entries"], told["cut"]) == (whole["entries"][:3], True)
    assert not whole["cut"]


def test_figures_are_of_the_last_hours(filled: Database[Document]) -> None:
    told = ask(reporter(filled), "history", limit=2, hours=1.0)
    assert [row["requests"] for row in told["buckets"]] == [2, 3]
    assert (told["bucket_seconds"], told["until"]) == (1800, NOW.isoformat())
    assert told["since"] == told["buckets"][0]["time"] == (NOW - timedelta(hours=1)).isoformat()
    stages = ask(reporter(filled), "stages")["stages"]
    assert stages["total"] == {"p50_ms": 10.0, "p95_ms": 10.0, "p99_ms": 10.0, "count": 4}
    products = ask(reporter(filled), "products", hours=300.0)["products"]
    assert [(row["product_id"], row["matches"]) for row in products] == [("mug", 3), ("jug", 1)]
    assert len(ask(reporter(filled), "products", limit=1)["products"]) == 1


def test_feedback_is_told_by_day_and_variant(filled: Database[Document]) -> None:
    told = ask(reporter(filled), "feedback")
    assert told["variants"]["default"]["judged"] == 2
    assert told["variants"]["default"]["top1"] == 0.5
    assert sum(day["judged"] for day in told["days"].values()) == 2
    filled[FEEDBACK].update_many({"request_id": "old"}, {"$set": {"time": NOW - timedelta(9)}})
    assert ask(reporter(filled), "feedback")["variants"]["default"]["top1"] == 1.0


@pytest.mark.parametrize("report", ["history", "stages", "products", "feedback"])
def test_a_report_reads_the_newest_entries_and_says_that_it_is_cut(
    filled: Database[Document], report: str
) -> None:
    feedback = [
        feedback_entry(
            Feedback(f"r{number}", "mug", "clicked"), NOW - timedelta(minutes=2 + number)
        )
        for number in range(3)
    ]
    filled[FEEDBACK].insert_many(feedback)
    told = ask(reporter(filled, report_entries=3), report, hours=24.0, limit=1)
    assert told["cut"]
    assert datetime.fromisoformat(told["since"]) > NOW - timedelta(hours=1)
    if report == "history":
        assert 1 <= told["buckets"][0]["requests"] <= 3


def test_the_server_tells_of_bundle_index_products_and_metrics(
    store: Store, database: Database[Document]
) -> None:
    store.products.insert_many([{"_id": "mug"}, {"_id": "jug"}])
    told = ask(reporter(database), "server")
    assert told["bundle"]["fingerprint"] == SMALL_BUNDLE.fingerprint
    assert (told["index"], told["products"], told["degraded"]) == (INDEX, 2, [])
    assert told["metric"] == {"mode": "auto", "version": "none", "fitted": None, "versions": []}

    catalogue = CatalogueMetrics(store, SMALL_BUNDLE)
    gains = (Gain("raw", 0.5, 0.4, 10, 10), Gain("fitted", 0.9, 0.6, 10, 10))
    dim = SMALL_BUNDLE.image_dim
    fitted = Metric("5ca1e", np.zeros(dim, np.float32), np.eye(dim, dtype=np.float32), 1.0)
    catalogue.add(Fit(fitted, "", gains, 2, 5))
    catalogue.serve(fitted.version)
    metric = ask(reporter(database), "server")["metric"]
    (version,) = metric["versions"]
    assert metric["version"] == version["version"] == fitted.version
    assert (version["seen"], version["unseen"], version["views"]) == (0.9, 0.6, 5)
    assert version["raw"] < version["both"]
    for time in (metric["fitted"], version["time"]):
        assert datetime.fromisoformat(time).utcoffset() == timedelta(0)


def test_a_server_whose_index_does_not_answer_tells_the_rest(
    database: Database[Document],
) -> None:
    told = ask(reporter(database, no_index), "server")
    assert (told["index"], told["degraded"]) == (None, ["index"])
    assert told["bundle"]["name"] == SMALL_BUNDLE.name


def test_without_a_database_there_is_no_report(
    restartable: RestartableDatabase, settings: Settings
) -> None:
    away = settings.model_copy(update={"mongodb_uri": restartable.uri, "mongodb_timeout_ms": 500})
    database = connect(away)
    restartable.stop()
    for report in REPORTS:
        with pytest.raises(DatabaseError, match="MongoDB failed while"):
            reporter(database, mongodb_timeout_ms=500).report(ReportQuery(report), NOW)
    database.client.close()
