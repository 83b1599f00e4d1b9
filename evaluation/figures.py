"""From rankings to figures, each with its 95% confidence interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bls_models.report.feedback import share_interval
from evaluation.ranking import Ranking
from evaluation.sets import EvaluationQuery

RESAMPLES = 2000
Interval = tuple[float, float]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """A query with what it found."""

    query: EvaluationQuery
    ranking: Ranking

    @property
    def ranks(self) -> list[int]:
        """Places of the right products in the ranking, from 1; those below it are not there."""
        return [
            place
            for place, product_id in enumerate(self.ranking.product_ids, start=1)
            if product_id in self.query.product_ids
        ]

    @property
    def right(self) -> bool:
        """Whether the first match is a right product."""
        return self.ranks[:1] == [1]

    @property
    def top_score(self) -> float:
        """The score of the first match; the least possible where there is none."""
        return max(self.ranking.scores, default=-1.0)

    @property
    def left_out_score(self) -> float:
        """The first match's score if no right product were in the catalogue.

        A product's score does not depend on others, so it is that of the best other product.
        """
        for product_id, score in zip(self.ranking.product_ids, self.ranking.scores, strict=True):
            if product_id not in self.query.product_ids:
                return score
        return -1.0


@dataclass(frozen=True)
class Figures:
    """Shares and means over queries, 0 to 1, with intervals.

    Attributes:
        queries: how many.
        top1: share whose first match is right; Wilson interval.
        top5: share with a right product among the first five; Wilson interval.
        mrr: mean of 1 / the first right place, 0 beyond place 100; bootstrap interval.
        map: mean over queries of the average precision at the right places; it equals ``mrr``
            where every query has one right product; bootstrap interval.
    """

    queries: int
    top1: float
    top1_interval: Interval
    top5: float
    top5_interval: Interval
    mrr: float
    mrr_interval: Interval
    map: float
    map_interval: Interval


def figures_from_outcomes(outcomes: Sequence[Outcome]) -> Figures:
    """The figures of at least one query."""
    count = len(outcomes)
    first = sum(item.right for item in outcomes)
    five = sum(bool(item.ranks) and item.ranks[0] <= 5 for item in outcomes)
    reciprocal = np.array([1 / item.ranks[0] if item.ranks else 0.0 for item in outcomes])
    precision = np.array([_average_precision(item) for item in outcomes])
    return Figures(
        queries=count,
        top1=first / count,
        top1_interval=share_interval(first, count),
        top5=five / count,
        top5_interval=share_interval(five, count),
        mrr=float(reciprocal.mean()),
        mrr_interval=bootstrap_interval(reciprocal),
        map=float(precision.mean()),
        map_interval=bootstrap_interval(precision),
    )


def figures_by_category(outcomes: Sequence[Outcome]) -> dict[str, Figures]:
    """The figures of each category, in alphabetical order."""
    parts: dict[str, list[Outcome]] = {}
    for item in outcomes:
        parts.setdefault(item.query.category, []).append(item)
    return {name: figures_from_outcomes(parts[name]) for name in sorted(parts)}


def confusions(outcomes: Sequence[Outcome]) -> list[tuple[str, str, int]]:
    """Right product, the one found in its place, and how often; most often first."""
    counts = Counter(
        (min(item.query.product_ids), item.ranking.product_ids[0])
        for item in outcomes
        if not item.right and item.ranking.product_ids
    )
    return [(wanted, found, n) for (wanted, found), n in sorted(counts.items(), key=_most_first)]


def _most_first(item: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -item[1], item[0]


def bootstrap_interval(values: Values) -> Interval:
    """The 95% percentile interval of a mean (n,), from 2,000 resamples; always the same one."""
    random = np.random.default_rng(0)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _average_precision(item: Outcome) -> float:
    found = sum(hit / place for hit, place in enumerate(item.ranks, start=1))
    return found / len(item.query.product_ids)
