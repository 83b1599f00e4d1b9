"""A product's score from the cosines of its views.

The best view alone may be similar by chance, so a product whose other views agree should rank
higher. The distances ``1 - cos`` of all views are averaged by a power mean, in which the least
dominates:
``1 - mean((1 - cos) ** -power) ** (-1 / power)``. It can be read as a cosine: it lies between the
mean of the views and the best of them, one view gives its own cosine, and a picture that is one of
the views gives 1. As no product scores above its best view, what lists of single views promise
holds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bls_models.vectors import FloatArray, IntArray

# docs/quality.md compares others.
POWER = 8.0
# Of the least distance, more would be beyond double precision; but see ``BEST_VIEW``.
POWERS = (1.0, 32.0)
# The limit of ever larger powers: the best view's cosine, whatever the others are.
BEST_VIEW = math.inf
# One power for all queries, or (n,) one a query.
Powers = float | npt.NDArray[np.float64]
# Of a view that is the query itself; any less is rounding, and its power must stay finite.
LEAST_DISTANCE = 1e-9
# Under a metric (``bls_models.metric``) what is unlike may be further away, and is alike in that.
LARGEST_DISTANCE = 2.0


def view_scores(
    cosines: FloatArray,
    owners: IntArray,
    count: int,
    powers: Powers = POWER,
) -> FloatArray:
    """The score of every product for every query: the one place that says what it is.

    Args:
        cosines: (n, r) of queries and views.
        owners: (r,) product of each view, 0 to ``count - 1``, -1 to leave it out.
        count: number of products.
        powers: of the mean, within ``POWERS``, or ``BEST_VIEW``; one, or (n,) one a query.

    Returns:
        (n, count) FP32; NaN for a product without views.
    """
    # Views without an owner meet in the first place, which is cut off.
    places = owners.astype(np.intp) + 1
    views = np.bincount(places, minlength=count + 1)[1 : count + 1]
    scores = np.full((len(cosines), count), np.nan, np.float32)
    there = views > 0
    each = np.broadcast_to(powers, len(cosines)).tolist()
    for line, values, power in zip(scores, cosines, each, strict=True):
        if power == BEST_VIEW:
            best = np.full(count + 1, -np.inf, np.float32)
            np.maximum.at(best, places, values)
            line[there] = np.clip(best[1:][there], 1 - LARGEST_DISTANCE, 1.0)
            continue
        # In double precision: the power of the least distance is far beyond single.
        distances = np.clip(1 - values.astype(np.float64), LEAST_DISTANCE, LARGEST_DISTANCE)
        nearness = np.divide(1, distances, out=distances)
        total = np.bincount(places, _raised(nearness, power), count + 1)[1 : count + 1]
        line[there] = 1 - (total[there] / views[there]) ** (-1 / power)
    return scores


def _raised(values: npt.NDArray[np.float64], power: float) -> npt.NDArray[np.float64]:
    """``values ** power``; by squaring where that will do, at a fifth of the time."""
    if math.log2(power) % 1:
        raised: npt.NDArray[np.float64] = values**power
        return raised
    for _ in range(round(math.log2(power))):
        values = np.square(values, out=values)
    return values
