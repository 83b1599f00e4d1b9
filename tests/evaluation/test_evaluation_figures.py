"""Figures, intervals and thresholds are what counting by hand gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bls_models.metric.fitting import Fit, Gain
from bls_models.report.feedback import share_interval
from evaluation.contact_sheet import GREEN, RED, TILE, contact_sheet
from evaluation.figures import (
    Outcome,
    bootstrap_interval,
    confusions,
    figures_by_category,
    figures_from_outcomes,
)
from evaluation.ranking import Ranking, parted
from evaluation.report import KindResult, MetricResult, report_from_results, show_results
from evaluation.sets import EvaluationQuery
from evaluation.thresholds import score_bins, strict_threshold, threshold_at

NO_METRIC = MetricResult(Fit(None, "too few products", (), 2, 4), {}, {})


def outcome(right: str, found: str, scores: tuple[float, ...] = (), name: str = "q") -> Outcome:
    """A query for products, a letter each, with what it found."""
    query = EvaluationQuery(name, None, name, frozenset(right), f"kind {min(right)}")
    values = scores or tuple(0.9 - 0.1 * place for place in range(len(found)))
    return Outcome(query, Ranking(tuple(found), values, 1.0))


def test_figures_are_those_of_the_right_products_places() -> None:
    found = figures_from_outcomes(
        [outcome("a", "abcdef"), outcome("a", "bacdef"), outcome("a", "bcdefa"), outcome("a", "bc")]
    )
    assert (found.queries, found.top1, found.top5) == (4, 0.25, 0.5)
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 6) / 4)
    assert found.map == pytest.approx(found.mrr)
    assert found.top1_interval == share_interval(1, 4)


def test_several_right_products_count_by_the_average_precision() -> None:
    found = figures_from_outcomes([outcome("ab", "axb")])
    assert found.mrr == 1
    assert found.map == pytest.approx((1 + 2 / 3) / 2)


def test_the_bootstrap_interval_holds_the_mean_and_narrows_with_the_queries() -> None:
    values = np.random.default_rng(1).random(400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    few = bootstrap_interval(values[:40])
    assert few[1] - few[0] > 2 * (high - low)
    assert bootstrap_interval(values) == (low, high)


def test_categories_and_confusions_are_counted() -> None:
    outcomes = [outcome("a", "ba"), outcome("a", "bc"), outcome("c", "ac"), outcome("c", "ca")]
    assert {name: part.top1 for name, part in figures_by_category(outcomes).items()} == {
        "kind a": 0,
        "kind c": 0.5,
    }
    assert confusions(outcomes) == [("a", "b", 2), ("c", "a", 1)]


def test_a_product_that_is_left_out_leaves_the_next_best_score() -> None:
    item = outcome("ab", "abc", (0.9, 0.8, 0.3))
    assert item.top_score == 0.9
    assert item.left_out_score == 0.3
    kept = threshold_at(0.5, [item, outcome("c", "ac", (0.6, 0.4))], [0.2, 0.55])
    assert (kept.known, kept.right, kept.left_out, kept.strangers) == (1, 1, 0.5, 0.5)
    assert threshold_at(0.7, [item], []).strangers is None


def test_an_answer_without_matches_is_wrong_and_below_every_threshold() -> None:
    item = outcome("a", "")
    assert not item.right
    assert (item.top_score, item.left_out_score) == (-1, -1)


def test_bins_say_how_often_a_score_is_right() -> None:
    bins = score_bins(
        [outcome("a", "a", (0.81,)), outcome("a", "b", (0.84,)), outcome("a", "a", (0.85,))]
    )
    assert [(item.low, item.queries, item.right) for item in bins] == [(0.8, 2, 0.5), (0.85, 1, 1)]


def test_the_strict_threshold_lets_one_stranger_of_a_hundred_through() -> None:
    assert strict_threshold([0.105] * 99 + [0.9]) == 0.11
    assert strict_threshold([]) is None


def test_the_reports_top_level_is_that_of_the_first_kind() -> None:
    results = {
        "image": KindResult([outcome("a", "ab"), outcome("a", "ba")], [0.1], 0.4),
        "text": KindResult([outcome("a", "ab")], [], None),
    }
    report = json.loads(json.dumps(report_from_results({"dataset": "d"}, results, NO_METRIC)))
    assert {name: report[name] for name in ("top1", "top5", "mrr", "queries", "kind")} == {
        "top1": 0.5,
        "top5": 1,
        "mrr": 0.75,
        "queries": 2,
        "kind": "image",
    }
    assert report["kinds"]["text"]["top1"] == 1
    assert report["kinds"]["text"]["scores"]["default_min_score"] is None
    assert report["kinds"]["image"]["scores"]["default_min_score"]["strangers"] == 0
    assert report["kinds"]["image"]["confusions"] == [{"right": "a", "found": "b", "queries": 1}]
    assert report["metric"]["reason_for_none"] == "too few products"
    assert report["raw_kinds"] == {}


def test_the_metrics_figures_stand_beside_those_of_raw_vectors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = {"image": KindResult([outcome("a", "ab"), outcome("a", "ba")], [0.5, 0.3], 0.4)}
    better = KindResult([outcome("a", "ab"), outcome("a", "ab")], [0.3, 0.2], 0.4)
    fit = Fit(None, "", (Gain("raw", 0.5, 0.5, 9, 9), Gain("best", 0.7, 0.6, 9, 9)), 2, 4)
    metric = MetricResult(fit, {"image": better}, {"image": [outcome("a", "ba")]})
    report = json.loads(json.dumps(report_from_results({}, raw, metric)))
    assert (report["top1"], report["raw_kinds"]["image"]["top1"]) == (1, 0.5)
    assert report["metric"]["products_not_in_the_fit"]["image"]["top1"] == 0
    assert report["metric"]["gains"][1]["seen"] == 0.7
    default = report["kinds"]["image"]["scores"]["default_min_score"]
    assert default["strangers"] == 0
    show_results(Console(width=120), raw, metric)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {" ".join(line[:-7]): line[-6] for line in shown if len(line) > 7 and "-" in line[-5]}
    assert rows == {
        "image": "50.0%",
        "with the metric": "100.0%",
        "product not in its fit": "0.0%",
    }
    (at_default,) = [line for line in shown if "(bundle's)" in line]
    assert at_default[2:] == ["100.0%", "100.0%", "100.0%", "50.0%", *3 * ["100.0%"], "0.0%"]


def test_a_catalogue_without_a_metric_is_told_why(capsys: pytest.CaptureFixture[str]) -> None:
    show_results(Console(), {"image": KindResult([outcome("a", "ab")], [], None)}, NO_METRIC)
    shown = capsys.readouterr().out
    assert "no metric: too few products" in shown
    assert "with the metric" not in shown


def test_each_product_is_left_out_of_one_fit() -> None:
    names = [f"p{number}" for number in range(10)]
    parts = parted(names)
    assert sorted(len(part) for part in parts) == [3, 3, 4]
    assert sorted(name for part in parts for name in part) == names
    assert parted(names) == parts


def test_the_contact_sheet_frames_right_matches_green_and_wrong_ones_red(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), "blue").save(path)
    sheet = contact_sheet([outcome("a", "ab")], {"a": [path], "b": [path]})
    frames = [sheet.getpixel((left + 1, 12)) for left in (162, 304)]
    assert frames == [GREEN, RED]
    assert sheet.getpixel((162 + TILE // 2, 10 + TILE // 2)) == (0, 0, 255)
