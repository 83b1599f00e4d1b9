"""The results of scenes: as JSON for programs and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from bls_models.metric.fitting import Fit
from evaluation.figures import Interval
from evaluation.scenes.figures import (
    LEAST_OVERLAP,
    SceneFigures,
    SceneOutcome,
    figures_by_count,
    figures_from_scenes,
    scene_confusions,
)

DIGITS = 4
SHOWN_CONFUSIONS = 8


def scenes_report(
    facts: Mapping[str, Any],
    raw: Sequence[SceneOutcome],
    by_metric: Sequence[SceneOutcome],
    fit: Fit,
) -> dict[str, Any]:
    """The report; at the top level what a server serves by default.

    Args:
        facts: what was evaluated, and how.
        raw: what was found by raw image vectors.
        by_metric: the same by the catalogue's metric; empty where it gets none.
        fit: what fitting the metric came to.
    """
    served = by_metric or raw
    return {
        **_rounded(figures_from_scenes(served)),
        "least_overlap": LEAST_OVERLAP,
        "intervals": "95%, Wilson",
        **facts,
        "reason_for_no_metric": fit.reason,
        "by_products_in_photo": {
            str(count): _rounded(figures) for count, figures in figures_by_count(served).items()
        },
        "confusions": [
            {"right": right, "found": found, "objects": count}
            for right, found, count in scene_confusions(served)
        ],
        "raw": _rounded(figures_from_scenes(raw)) if by_metric else None,
    }


def show_scenes(
    console: Console, raw: Sequence[SceneOutcome], by_metric: Sequence[SceneOutcome], fit: Fit
) -> None:
    """Tables: what was found and right, by the number of products, and what is taken for what."""
    served = by_metric or raw
    table = _table("", "products", "found", "and right", "of those found", "in true boxes",
        "boxes", "on nothing", "twice", "ms")  # fmt: skip
    _add_row(table, "raw vectors" if by_metric else "all", figures_from_scenes(raw))
    if by_metric:
        _add_row(table, "with the metric", figures_from_scenes(by_metric))
    for count, figures in figures_by_count(served).items():
        _add_row(table, f"  {count} in a photo", figures, intervals=False)
    console.print(table)
    if not by_metric:
        console.print(f"\nno metric: {fit.reason}")
    wrong = scene_confusions(served)
    if wrong:
        console.print("\nmost often taken for another")
        table = _table("right", "found", "objects", text_columns=2)
        for wanted, other, count in wrong[:SHOWN_CONFUSIONS]:
            table.add_row(wanted, other, str(count))
        console.print(table)


def _add_row(table: Table, name: str, figures: SceneFigures, intervals: bool = True) -> None:
    shares = (
        (figures.found, figures.found_interval),
        (figures.right, figures.right_interval),
        (figures.right_of_found, figures.right_of_found_interval),
        (figures.right_in_true_boxes, figures.right_in_true_boxes_interval),
    )
    table.add_row(
        name,
        str(figures.shown),
        *(_share(share, interval if intervals else None) for share, interval in shares),
        str(figures.boxes),
        str(figures.boxes_on_nothing),
        str(figures.boxes_twice),
        f"{figures.milliseconds_median:.1f}",
    )


def _table(*columns: str, text_columns: int = 1) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < text_columns else "right")
    return table


def _share(share: float, interval: Interval | None) -> str:
    if interval is None:
        return f"{share:.1%}"
    return f"{share:.1%} ({100 * interval[0]:.0f}-{100 * interval[1]:.0f})"


def _rounded(figures: SceneFigures) -> dict[str, Any]:
    """Numbers to four digits, also in pairs."""
    found: dict[str, Any] = {}
    for name, value in asdict(figures).items():
        if isinstance(value, tuple):
            found[name] = [round(number, DIGITS) for number in value]
        else:
            found[name] = round(value, DIGITS) if isinstance(value, float) else value
    return found
