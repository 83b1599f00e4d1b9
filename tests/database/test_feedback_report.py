"""What the feedback says of the matches, over a real database."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database
from rich.console import Console
from serving_support import picture

from bls_models.database.store import FEEDBACK, MATCH_LOG, Document
from bls_models.errors import SetupError
from bls_models.feedback.entries import Feedback, feedback_entry
from bls_models.report.feedback import (
    accuracy,
    feedback_report,
    requests_with_feedback,
    share_interval,
)
from evaluation.sets import evaluation_set
from local_server import feedback_tables
from local_server.feedback_queries import photos_by_hash, write_queries
from local_server.options import Options

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Shop:
    """Writes matches and feedback as the models do."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database

    def matched(self, request_id: str, *products: str, day: int = 0, **entry: Any) -> None:
        self._database[MATCH_LOG].insert_one(
            {
                "time": MONDAY + timedelta(days=day),
                "request_id": request_id,
                "variant": "default",
                "status": "ok",
                "inputs": {"texts": ["mug"], "images": [{"sha256": "a1"}], "offset": 0},
                "matches": [{"product_id": product, "score": 0.9} for product in products],
            }
            | entry
        )

    def told(self, request_id: str, event: str, product: str, day: int = 0) -> None:
        entry = feedback_entry(
            Feedback(request_id, product, event), MONDAY + timedelta(days=day, hours=1)
        )
        self._database[FEEDBACK].insert_one(entry)


@pytest.fixture
def shop(database: Database[Document]) -> Shop:
    return Shop(database)


def test_an_accepted_product_gives_its_rank_and_the_querys_parts(
    shop: Shop, database: Database[Document]
) -> None:
    shop.matched("r", "a", "b", "c")
    shop.told("r", "accepted", "b")
    shop.told("r", "clicked", "a")
    (found,) = requests_with_feedback(database)
    assert (found.rank, found.accepted, found.clicks, found.judged) == (2, ("b",), 1, True)
    assert (found.texts, found.image_hashes) == (("mug",), ("a1",))
    assert found.time == MONDAY


@pytest.mark.parametrize(
    ("event", "product", "rank", "judged"),
    [
        ("accepted", "elsewhere", None, True),
        ("rejected", "a", None, True),
        ("rejected", "b", None, False),
        ("clicked", "a", None, False),
    ],
)
def test_only_acceptance_or_a_rejected_first_match_judges_an_answer(
    shop: Shop,
    database: Database[Document],
    event: str,
    product: str,
    rank: int | None,
    judged: bool,
) -> None:
    shop.matched("r", "a", "b")
    shop.told("r", event, product)
    (found,) = requests_with_feedback(database)
    assert (found.rank, found.judged) == (rank, judged)


def test_pages_further_down_count_from_their_offset(
    shop: Shop, database: Database[Document]
) -> None:
    shop.matched("r", "k", inputs={"texts": [], "images": [], "offset": 10})
    shop.told("r", "accepted", "k")
    shop.told("r", "rejected", "k")
    (found,) = requests_with_feedback(database)
    assert (found.rank, found.first_rejected) == (11, False)


def test_failed_matches_and_unknown_ids_are_left_out(
    shop: Shop, database: Database[Document]
) -> None:
    shop.matched("failed", "a", status="error")
    shop.matched("new", "a", day=2)
    for request_id in ("failed", "unknown", "new"):
        shop.told(request_id, "accepted", "a", 2)
    found = requests_with_feedback(database)
    assert [item.request_id for item in found] == ["new"]


def test_of_a_repeated_request_the_latest_answer_counts(
    shop: Shop, database: Database[Document]
) -> None:
    shop.matched("r", "b", "a", day=0)
    shop.matched("r", "a", "b", day=1)
    shop.told("r", "accepted", "a", day=1)
    (found,) = requests_with_feedback(database)
    assert found.rank == 1


def test_accuracy_is_told_by_day_and_by_variant(shop: Shop, database: Database[Document]) -> None:
    shop.matched("1", "a", "b")
    shop.told("1", "accepted", "a")
    shop.matched("2", "a", "b", variant="b")
    shop.told("2", "accepted", "b")
    shop.matched("3", "a", day=1, variant="b")
    shop.told("3", "rejected", "a", day=1)
    shop.matched("4", "a", day=1)
    shop.told("4", "clicked", "a", day=1)
    report = feedback_report(requests_with_feedback(database))
    days, variants = report["days"], report["variants"]
    assert list(days) == ["2026-03-02", "2026-03-03"]
    assert days["2026-03-02"] | {"top1_interval": None} == {
        "requests": 2,
        "judged": 2,
        "top1": 0.5,
        "top1_interval": None,
        "top5": 1.0,
        "mrr": 0.75,
        "clicks": 0,
    }
    assert (days["2026-03-03"]["judged"], days["2026-03-03"]["clicks"]) == (1, 1)
    assert {name: row["top1"] for name, row in variants.items()} == {"b": 0.0, "default": 1.0}


def test_without_judgements_there_are_no_shares() -> None:
    assert accuracy([])["top1"] is None
    assert accuracy([])["top1_interval"] == (0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Wilson's interval: published values for 0 of 10, 5 of 10, 81 of 263 (Newcombe 1998).
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_the_interval_is_wilsons(successes: int, count: int, low: float, high: float) -> None:
    assert share_interval(successes, count) == pytest.approx((low, high), abs=5e-5)


def test_the_tables_show_what_the_report_says(
    shop: Shop,
    database: Database[Document],
    database_uri: str,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options(state=str(tmp_path / "state"), mongodb_uri=database_uri)
    monkeypatch.setenv("PRODUCT_MATCH_DATABASE", database.name)
    empty = Console(record=True, width=120)
    assert feedback_tables.show_feedback(options, empty) == 0
    assert "no feedback yet" in empty.export_text()
    shop.matched("1", "a", "b")
    shop.told("1", "accepted", "a")
    console = Console(record=True, width=120)
    assert feedback_tables.show_feedback(options, console) == 0
    text = console.export_text()
    assert "2026-03-02" in text
    assert "100.0%" in text
    assert (tmp_path / "reports" / "feedback.json").is_file()


def test_accepted_requests_become_queries_that_can_be_evaluated(
    shop: Shop, database: Database[Document], tmp_path: Path
) -> None:
    photo = tmp_path / "photos" / "sent.png"
    photo.parent.mkdir()
    photo.write_bytes(picture(1))
    sent = [{"sha256": hashlib.sha256(picture(1)).hexdigest()}]
    unknown = [{"sha256": "b2"}]
    inputs = {"offset": 0, "texts": []}
    shop.matched("photo", "a", inputs={**inputs, "images": sent, "texts": ["red", "mug"]})
    shop.matched("words", "a", "b", inputs={**inputs, "images": unknown, "texts": ["vase"]})
    shop.matched("lost", "a", inputs={**inputs, "images": unknown})
    shop.matched("clicked", "a", inputs={**inputs, "images": sent})
    for request_id, event, product in (
        ("photo", "accepted", "a"),
        ("words", "accepted", "b"),
        ("words", "accepted", "a"),
        ("lost", "accepted", "a"),
        ("clicked", "clicked", "a"),
    ):
        shop.told(request_id, event, product)
    path = tmp_path / "queries.csv"
    requests = requests_with_feedback(database)
    assert write_queries(path, requests, photos_by_hash(photo.parent)) == (2, 1)

    catalogue = tmp_path / "catalogue.csv"
    catalogue.write_text("product_id,name,category\na,A,mug\nb,B,vase\n", encoding="utf-8")
    first, second = sorted(evaluation_set(path, catalogue).queries, key=lambda item: item.text)
    assert (first.image, first.text, first.product_ids) == (photo, "red mug", {"a"})
    assert (second.image, second.text, second.product_ids) == (None, "vase", {"a", "b"})


def test_a_folder_of_photos_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nowhere is no folder"):
        photos_by_hash(tmp_path / "nowhere")
