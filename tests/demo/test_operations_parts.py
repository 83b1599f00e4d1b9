"""Parts of the operations tab, made of reports: of empty, strange and failed ones too."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo.operations import entries, quality, traffic
from demo.operations.board import board
from demo.operations.index_state import MOST_SAMPLES, LagSample, index_state, lag, sampled
from demo.operations.reports import PERIODS, Report
from product_match_client import ServiceUnavailableError

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SPAN = {"time": NOW.isoformat(), "since": NOW.isoformat(), "until": NOW.isoformat(), "cut": False}
INDEX = {
    "products": 72, "image_vectors": 216, "text_vectors": 72, "type": "Flat", "following": True,
    "stale_products": 0, "loaded_share": 1.0, "lag_seconds": 0.25,
}  # fmt: skip
VERSION = {
    "version": "0123456789ab", "time": NOW.isoformat(), "products": 72, "views": 216,
    "seen": 0.9, "unseen": 0.8, "both": 0.88, "raw": 0.68,
}  # fmt: skip
HOSTILE = "<img src=x onerror='no'>"


def bucket(**counts: Any) -> Report:
    """A part of a history."""
    names = ("requests", "found", "degraded", "empty", "errors")
    nothing = dict.fromkeys(names, 0) | {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    return {"time": (NOW - timedelta(hours=1)).isoformat()} | nothing | counts


def history(*buckets: Report, cut: bool = False) -> Report:
    """A history of an hour each."""
    return SPAN | {"bucket_seconds": 3600.0, "buckets": list(buckets), "cut": cut}


def begun(minutes: int, **counts: Any) -> Report:
    """A part of a history that began so long ago."""
    return bucket(**counts) | {"time": (NOW - timedelta(minutes=minutes)).isoformat()}


def server(**parts: Any) -> Report:
    """A report on the server."""
    bundle = {"name": "mini", "fingerprint": "0f", "languages": ["en"]}
    metric: Report = {"mode": "auto", "version": "none", "fitted": None, "versions": []}
    return SPAN | {"bundle": bundle, "products": 72, "index": INDEX, "metric": metric} | parts


def empty_reports() -> dict[str, Report]:
    """All reports of a server that was never asked."""
    return {
        "matches": SPAN | {"entries": []},
        "errors": SPAN | {"entries": []},
        "history": history(bucket()),
        "stages": SPAN | {"stages": {}},
        "products": SPAN | {"products": []},
        "feedback": SPAN | {"days": {}, "variants": {}},
        "server": server(products=0),
    }


def test_a_server_that_was_never_asked_is_shown_plainly() -> None:
    shown = board({**empty_reports()}, sampled([], server()), PERIODS[0])
    for words in (
        "No requests in this time.",
        "Nothing was answered in this time.",
        "Nothing was matched in this time.",
        "No requests yet.",
        "No errors yet.",
        "No feedback yet.",
        "None was fitted yet.",
    ):
        assert words in shown


def test_a_report_that_failed_leaves_its_words_and_the_others() -> None:
    failed = ServiceUnavailableError("the database <away> does not answer")
    shown = board({**empty_reports(), "stages": failed}, sampled([], server()), PERIODS[0])
    assert "the database &lt;away&gt; does not answer" in shown
    assert shown.count('role="alert"') == 1
    assert "No feedback yet." in shown


def test_outcomes_are_those_of_all_parts() -> None:
    shown = traffic.traffic(
        history(begun(120, found=2, empty=1, errors=1), begun(60, found=1, degraded=1))
    )
    assert "6 in all: 3 found, 1 empty, 1 degraded, 1 errors." in shown


def test_parts_of_a_history_that_was_cut_follow_each_other() -> None:
    shown = traffic.traffic(history(begun(70), begun(60), cut=True))
    told = re.findall(r"<title>(.*)$", shown, re.MULTILINE)
    assert told == ["10:50:00 to 11:00:00", "11:00:00 to 12:00:00"] * 2


@pytest.mark.parametrize(
    ("matches", "degraded", "said"),
    [
        ([], [], "empty"),
        ([], ["documents"], "empty, without documents"),
        ([{"product_id": "a", "score": 0.9}], ["documents"], "without documents"),
    ],
)
def test_a_request_is_said_to_have_ended_as_it_is_counted(
    matches: list[Report], degraded: list[str], said: str
) -> None:
    entry = {
        "time": NOW.isoformat(), "request_id": "r", "status": "ok", "milliseconds": {},
        "matches": matches, "degraded": degraded,
    }  # fmt: skip
    kind = "degraded" if matches else "empty"
    shown = entries.requests(SPAN | {"entries": [entry], "cut": False})
    assert f'operations-{kind}"><span title="{said}">{said}<' in shown


def test_one_request_is_a_bar_and_a_dot() -> None:
    alone = bucket(requests=1, found=1, p50_ms=8.2, p95_ms=8.2, p99_ms=8.2)
    shown = traffic.traffic(history(alone))
    assert "1 in all: 1 found" in shown
    assert "Latest p50 8.2 ms" in shown
    assert shown.count('class="operations-bar') == 1
    assert shown.count("operations-point") == 3


def test_what_is_left_out_is_said() -> None:
    assert "older ones are left out" in traffic.traffic(history(cut=True))
    assert "older ones are left out" in traffic.traffic(history(bucket(), cut=True))
    assert "left out" in traffic.stages(SPAN | {"stages": {}, "cut": True})
    assert "left out" in entries.requests(SPAN | {"entries": [], "cut": True})


@pytest.mark.parametrize(
    ("inputs", "asked"),
    [
        ({"images": [{}, {}], "texts": ["red mug"], "filter": "price < 9"},
         "2 images; “red mug”; filter price &lt; 9"),
        ({"images": [], "texts": [], "like": ["mug"], "sort": "price", "objects": "auto"},
         "like mug; by price; objects auto"),
        ({}, "could not be read"),
    ],
)  # fmt: skip
def test_what_was_asked_is_a_line(inputs: Report, asked: str) -> None:
    assert f">{asked}</span>" in entries.asked({"inputs": inputs})
    assert "health check: " in entries.asked({"inputs": inputs, "probe": True})


def test_words_of_users_are_no_markup_and_no_longer_than_a_cell() -> None:
    entry = {
        "time": NOW.isoformat(), "request_id": HOSTILE, "status": "error", "milliseconds": {},
        "log": HOSTILE, "inputs": {"texts": [HOSTILE, "long " * 1000]},
        "error": {"type": "RequestError", "message": HOSTILE},
    }  # fmt: skip
    for part in entries.requests, entries.errors:
        shown = part(SPAN | {"entries": [entry]})
        assert "<img" not in shown
        assert "&lt;img" in shown
    assert "…</span>" in entries.asked(entry)
    products = [{"product_id": HOSTILE, "matches": 1, "mean_score": 0.5}]
    assert "<img" not in traffic.most_matched(SPAN | {"products": products})


def test_best_matches_are_few_and_the_others_counted() -> None:
    matches = [{"product_id": name, "score": 0.9} for name in "abcde"]
    assert entries.best_matches({"matches": matches}) == "a 0.90, b 0.90, c 0.90, 2 more"
    assert entries.best_matches({}) == "–"  # noqa: RUF001


def test_accuracy_has_its_interval_and_what_was_not_judged_has_none() -> None:
    judged = {"requests": 9, "judged": 8, "top1": 0.75, "top1_interval": [0.41, 0.93], "top5": 1.0}
    clicked = {"requests": 1, "judged": 0, "top1": None, "top1_interval": [0, 1], "top5": None}
    days = {"2026-01-30": judged | {"clicks": 0}, "2026-01-31": clicked | {"clicks": 3}}
    shown = quality.feedback(SPAN | {"days": days, "variants": {}})
    assert "41% to 93%" in shown
    assert shown.count("operations-interval") == 1
    assert shown.index("2026-01-31") < shown.index("2026-01-30")


def test_the_served_metric_is_told_with_its_gain() -> None:
    metric = {"mode": "auto", "version": VERSION["version"], "versions": [VERSION]}
    shown = quality.learned_metric(server(metric=metric))
    assert "88.0% of left-out pictures find their product first, 68.0% without it" in shown
    assert "+20.0" in shown
    # One that is chosen, and too old to be listed.
    assert "other is served" in quality.learned_metric(server(metric=metric | {"version": "other"}))


def test_an_index_that_lags_loads_or_is_away_says_so() -> None:
    lost = INDEX | {"following": False, "loaded_share": 0.5, "type": {"image": "A", "text": "B"}}
    shown = index_state(server(index=lost))
    for words in "It does not follow the database.", "50.0%", "image A, text B", "250 ms":
        assert words in shown
    assert "The index does not answer." in index_state(server(index=None))


def test_lag_is_kept_for_an_hour_and_broken_where_nobody_looked() -> None:
    samples = [LagSample(NOW - timedelta(seconds=10 * number), 0.5) for number in range(500, 5, -1)]
    known = sampled(samples, server())
    assert len(known) == MOST_SAMPLES
    assert known[-1] == LagSample(NOW, 0.25)
    shown = lag(known)
    assert "nobody looked" in shown
    assert "250 ms at last, 500 ms at most" in shown
    assert "did not say" in lag(sampled([], server(index=None)))


def test_samples_of_a_clock_that_was_set_back_are_forgotten() -> None:
    later = [LagSample(NOW - timedelta(minutes=1), 1.0), LagSample(NOW + timedelta(hours=1), 1.0)]
    assert [item.time for item in sampled(later, server())] == [NOW - timedelta(minutes=1), NOW]
