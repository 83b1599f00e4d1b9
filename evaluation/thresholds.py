"""What scores mean: how often the first match is right, and what a threshold lets through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bls_models.report.feedback import share_interval
from evaluation.figures import Interval, Outcome

BIN = 0.05
STEP = 0.01
TABLE_STEP = 0.05
# A threshold may let so many photos of things that are not in the catalogue through.
FALSE_MATCH_RATE = 0.01


@dataclass(frozen=True)
class ScoreBin:
    """Queries whose first match has a score in [low, low + 0.05).

    Attributes:
        low: least score.
        queries: how many.
        right: share of them whose first match is right.
        interval: its 95% Wilson interval.
    """

    low: float
    queries: int
    right: float
    interval: Interval


@dataclass(frozen=True)
class Threshold:
    """What comes through where matches below a score are dropped; shares of queries.

    Attributes:
        min_score: the threshold.
        known: queries that get an answer, right or wrong.
        right: right first matches that are kept, as a share of all right ones.
        left_out: queries that would get an answer if their products were not in the catalogue.
        strangers: queries for things of another kind that get an answer; None: none were asked.
    """

    min_score: float
    known: float
    right: float
    left_out: float
    strangers: float | None


def score_bins(outcomes: Sequence[Outcome]) -> list[ScoreBin]:
    """How often the first match is right, by its score; bins without queries are left out."""
    numbers = np.array([np.floor(item.top_score / BIN + 1e-9) for item in outcomes], int)
    right = np.array([item.right for item in outcomes])
    bins = []
    for number in np.unique(numbers):
        own = right[numbers == number]
        bins.append(
            ScoreBin(
                round(float(number) * BIN, 2),
                len(own),
                float(own.mean()),
                share_interval(int(own.sum()), len(own)),
            )
        )
    return bins


def threshold_at(
    min_score: float, outcomes: Sequence[Outcome], strangers: Sequence[float]
) -> Threshold:
    """What a threshold keeps.

    Args:
        min_score: the threshold.
        outcomes: queries for products of the catalogue, at least one.
        strangers: first scores of queries for other things.
    """
    top = np.array([item.top_score for item in outcomes])
    right = np.array([item.right for item in outcomes])
    left_out = np.array([item.left_out_score for item in outcomes])
    return Threshold(
        min_score=min_score,
        known=float((top >= min_score).mean()),
        right=float((top[right] >= min_score).mean()) if right.any() else 0.0,
        left_out=float((left_out >= min_score).mean()),
        strangers=float((np.array(strangers) >= min_score).mean()) if len(strangers) else None,
    )


def threshold_table(outcomes: Sequence[Outcome], strangers: Sequence[float]) -> list[Threshold]:
    """Thresholds in steps of 0.05 where anything changes."""
    scores = [item.top_score for item in outcomes] + [item.left_out_score for item in outcomes]
    low, high = min([*scores, *strangers]), max([*scores, *strangers])
    numbers = range(int(np.floor(low / TABLE_STEP)), int(np.ceil(high / TABLE_STEP)) + 1)
    return [threshold_at(round(number * TABLE_STEP, 2), outcomes, strangers) for number in numbers]


def strict_threshold(strangers: Sequence[float]) -> float | None:
    """The least threshold, in steps of 0.01, that at most 1% of the strangers pass."""
    if not len(strangers):
        return None
    scores = np.array(strangers)
    for number in range(-100, 101):
        if (scores >= number * STEP).mean() <= FALSE_MATCH_RATE:
            return round(number * STEP, 2)
    return None
