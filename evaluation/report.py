"""An evaluation's results: as JSON for programs and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bls_models.metric.fitting import Fit
from evaluation.figures import (
    Figures,
    Interval,
    Outcome,
    confusions,
    figures_by_category,
    figures_from_outcomes,
)
from evaluation.thresholds import (
    Threshold,
    score_bins,
    strict_threshold,
    threshold_at,
    threshold_table,
)

INTERVALS = "95%: Wilson for top1 and top5, bootstrap over queries (2,000 resamples) for mrr, map"
SHOWN_CONFUSIONS = 8
# What is below is in the JSON.
LEAST_SHOWN = 0.0
DIGITS = 4


@dataclass(frozen=True)
class KindResult:
    """All queries of one kind.

    Attributes:
        outcomes: of queries for products of the catalogue, at least one.
        strangers: first scores of queries for other things.
        default_min_score: the bundle's default for this kind of query; None: it has none.
    """

    outcomes: Sequence[Outcome]
    strangers: Sequence[float]
    default_min_score: float | None


@dataclass(frozen=True)
class MetricResult:
    """What the catalogue's own metric changes.

    Attributes:
        fit: what fitting came to.
        kinds: by kind of query; empty where there is no metric.
        not_in_fit: by kind, outcomes of queries for products that the metric's fit did not see;
            empty where that was not asked.
    """

    fit: Fit
    kinds: Mapping[str, KindResult]
    not_in_fit: Mapping[str, Sequence[Outcome]]


def report_from_results(
    facts: Mapping[str, Any], raw: Mapping[str, KindResult], metric: MetricResult
) -> dict[str, Any]:
    """The report; at the top level the figures of the first kind, which is image if there is one.

    What a server serves by default is in ``kinds``: by the metric, if the catalogue gets one; then
    ``raw_kinds`` has the same by raw vectors.

    Args:
        facts: what was evaluated, and how.
        raw: by kind of query, at least one; image vectors are compared as they are.
        metric: the same with the metric; ``metric`` of the report.
    """
    raw_kinds = {kind: _kind_report(result) for kind, result in raw.items()}
    metric_kinds = {kind: _kind_report(result) for kind, result in metric.kinds.items()}
    kinds = metric_kinds or raw_kinds
    first = next(iter(kinds))
    return {
        **{name: kinds[first][name] for name in ("top1", "top5", "mrr", "map", "queries")},
        "kind": first,
        "intervals": INTERVALS,
        **facts,
        "kinds": kinds,
        "raw_kinds": raw_kinds if metric_kinds else {},
        "metric": {
            "reason_for_none": metric.fit.reason,
            "products": metric.fit.products,
            "views": metric.fit.views,
            "gains": [_rounded(asdict(gain)) for gain in metric.fit.gains],
            "products_not_in_the_fit": {
                kind: _figures_json(figures_from_outcomes(outcomes))
                for kind, outcomes in metric.not_in_fit.items()
            },
        },
    }


def _kind_report(result: KindResult) -> dict[str, Any]:
    outcomes = result.outcomes
    strict = strict_threshold(result.strangers)
    return {
        **_figures_json(figures_from_outcomes(outcomes)),
        "milliseconds_median": round(median(item.ranking.milliseconds for item in outcomes), 2),
        "categories": {
            name: _figures_json(figures) for name, figures in figures_by_category(outcomes).items()
        },
        "confusions": [
            {"right": right, "found": found, "queries": count}
            for right, found, count in confusions(outcomes)
        ],
        "scores": {
            "first_match_right_by_score": [_rounded(asdict(item)) for item in score_bins(outcomes)],
            "strangers": len(result.strangers),
            "thresholds": [
                _rounded(asdict(item)) for item in threshold_table(outcomes, result.strangers)
            ],
            "min_score_for_1_percent_of_strangers": strict,
            "default_min_score": None
            if result.default_min_score is None
            else _rounded(
                asdict(threshold_at(result.default_min_score, outcomes, result.strangers))
            ),
        },
    }


def show_results(console: Console, raw: Mapping[str, KindResult], metric: MetricResult) -> None:
    """Tables: all kinds, what scores mean, and what is taken for what."""
    table = _table("query", "queries", "top-1", "95%", "top-5", "MRR", "mAP", "ms")
    for kind, result in raw.items():
        _add_figures(table, kind, result.outcomes)
        if kind in metric.kinds:
            _add_figures(table, "  with the metric", metric.kinds[kind].outcomes)
        if kind in metric.not_in_fit:
            _add_figures(table, "  product not in its fit", metric.not_in_fit[kind])
    console.print(table)
    if not metric.kinds:
        console.print(f"\nno metric: {metric.fit.reason}")
    for kind, result in raw.items():
        console.print(f"\n{kind}: what comes through at a least score of")
        console.print(_threshold_table(result, metric.kinds.get(kind)))
    kind, result = next(iter((metric.kinds or raw).items()))
    wrong = confusions(result.outcomes)
    if wrong:
        console.print(f"\n{kind}: most often taken for another")
        table = _table("right", "found", "queries", text_columns=2)
        for wanted, other, count in wrong[:SHOWN_CONFUSIONS]:
            table.add_row(wanted, other, str(count))
        console.print(table)


def _add_figures(table: Table, name: str, outcomes: Sequence[Outcome]) -> None:
    found = figures_from_outcomes(outcomes)
    table.add_row(
        name,
        str(found.queries),
        f"{found.top1:.1%}",
        _interval(found.top1_interval),
        f"{found.top5:.1%}",
        f"{found.mrr:.3f}",
        f"{found.map:.3f}",
        f"{median(item.ranking.milliseconds for item in outcomes):.1f}",
    )


def _threshold_table(raw: KindResult, metric: KindResult | None) -> Table:
    """What least scores let through; where there is a metric, beside it the same with that."""
    names = ("known", "right kept", "left out", "strangers")
    results = [raw] if metric is None else [raw, metric]
    further = () if metric is None else (f"metric: {names[0]}", *names[1:])
    table = _table("score", *names, *further)
    scores = {
        row.min_score
        for result in results
        for row in threshold_table(result.outcomes, result.strangers)
        if row.min_score >= LEAST_SHOWN
    }
    default = raw.default_min_score
    if default is not None:
        scores.add(default)
    for score in sorted(scores):
        table.add_row(
            f"{score:.2f}" + (" (bundle's)" if score == default else ""),
            *(
                cell
                for result in results
                for cell in _cells(threshold_at(score, result.outcomes, result.strangers))
            ),
        )
    return table


def _cells(row: Threshold) -> tuple[str, ...]:
    strangers = "-" if row.strangers is None else f"{row.strangers:.1%}"
    return f"{row.known:.1%}", f"{row.right:.1%}", f"{row.left_out:.1%}", strangers


def _table(*columns: str, text_columns: int = 1) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < text_columns else "right")
    return table


def _interval(interval: Interval) -> str:
    return f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}"


def _figures_json(figures: Figures) -> dict[str, Any]:
    return _rounded(asdict(figures))


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers to four digits, also in pairs."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            found[name] = [round(number, DIGITS) for number in value]
        else:
            found[name] = round(value, DIGITS) if isinstance(value, float) else value
    return found
