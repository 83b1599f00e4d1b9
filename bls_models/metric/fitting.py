"""Fits a metric from a catalogue's views, and tells what it gains, by views that it left out.

How views of one product differ is noise, how products differ is signal. Features are whitened by
the spread of views around their product's mean (shrunk towards what is alike in all directions),
and those directions in which products differ most are strengthened. What works best is chosen by
matching views that were left out, of products that the fit saw and of others that it did not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bls_models.index.view_scores import view_scores
from bls_models.metric.metric import Metric
from bls_models.vectors import BoolArray, FloatArray, IntArray

# What is tried: the share of the whitening that is alike in all directions, and how much stronger
# the directions become in which products differ.
SHRINKAGES = (0.1, 0.2, 0.3, 0.5, 0.7)
GAINS = (1.5, 2.0)
# Of the projected vectors; with the two further coordinates 256.
DIMENSIONS = 254
MAX_DISCRIMINANTS = 80

# Less tells nothing of how views of a product differ.
MIN_PRODUCTS = 30
MIN_VIEWS = 150
MIN_ASKED = 20
# Choosing takes a part of a large catalogue; the fit itself takes all that it is given.
CHOOSING_PRODUCTS = 400
CHOOSING_VIEWS = 4000
# Each leaves out another part of the products, and some views of the others: nearly all is fitted
# to, as it will be.
FOLDS = 6
LEFT_OUT_VIEWS = 0.1
# The metric is fitted anew when a fifth of the catalogue has changed, so that most products are
# those that it saw.
SEEN_SHARE = 0.8
# Less may be chance.
LEAST_GAIN = 0.02
# What is of another kind than the catalogue's products comes nearer than these do; with this it
# passes a least score as seldom as by raw vectors.
STRICTER = 1.1
# Copies are still near each other then (``bls_models.ingest.duplicates``).
MAX_SPREAD = 8.0
# Views that are nearer to each other than different products ever are were taken in a row: they
# would be found by any metric.
IN_A_ROW = 0.999
# The cosine of a view to itself, but for rounding.
ITSELF = 0.9999
# Pairs of views that this is measured on.
PAIRED_VIEWS = 2000


@dataclass(frozen=True)
class Gain:
    """How often left-out views found their product first.

    Attributes:
        name: of the metric.
        seen: share, 0 to 1, for products that the fit saw other views of.
        unseen: share for products that the fit did not see.
        seen_count: views behind ``seen``.
        unseen_count: views behind ``unseen``.
    """

    name: str
    seen: float
    unseen: float
    seen_count: int
    unseen_count: int

    @property
    def both(self) -> float:
        """What is compared: the two, weighed as in a catalogue between two fits."""
        return SEEN_SHARE * self.seen + (1 - SEEN_SHARE) * self.unseen


def best_of(gains: Sequence[Gain]) -> Gain:
    """The best of what was tried; raw vectors stand first."""
    return max(gains[1:], key=lambda gain: gain.both)


@dataclass(frozen=True)
class Fit:
    """What fitting came to.

    Attributes:
        metric: None where raw vectors serve better, or there is too little to tell.
        reason: why there is none; empty where there is one.
        gains: of raw vectors first, then of what was tried; empty where nothing was.
        products: products that were taken.
        views: their views.
    """

    metric: Metric | None
    reason: str
    gains: tuple[Gain, ...]
    products: int
    views: int


class Scatter:
    """How views spread around their products' means, and these around the centre.

    Takes products one after the other, in memory that does not grow with their number.

    Args:
        dim: length D of raw vectors.
    """

    def __init__(self, dim: int) -> None:
        self._within = np.zeros((dim, dim), np.float64)
        self._means = np.zeros((dim, dim), np.float64)
        self._sum = np.zeros(dim, np.float64)
        # Each mean, as long as they are fewer than D.
        self._each: list[FloatArray] = []
        self.products = 0
        self.views = 0
        self.several = 0

    def add(self, views: Sequence[FloatArray]) -> None:
        """Take the views (n, D) of some products, each with at least one."""
        means = np.stack([block.mean(axis=0) for block in views])
        away = np.concatenate(
            [block - mean for block, mean in zip(views, means, strict=True) if len(block) > 1]
            or [means[:0]]
        )
        self._within += away.T @ away
        self._means += means.T @ means
        self._sum += means.sum(axis=0)
        self.products += len(views)
        self._each = [*self._each, means] if self.products <= len(self._sum) else []
        self.views += sum(map(len, views))
        self.several += sum(len(block) > 1 for block in views)

    @property
    def enough(self) -> bool:
        """Whether a metric can be fitted."""
        return self.several >= MIN_PRODUCTS and self.views >= MIN_VIEWS

    def whitenings(self) -> Iterator[tuple[float, Whitening]]:
        """The whitening for each of ``SHRINKAGES``."""
        centre = self._sum / self.products
        within = self._within / max(1, self.views - self.products)
        # Single precision is enough, and takes half of the time.
        spreads, axes = np.linalg.eigh(within.astype(np.float32))
        spreads = np.maximum(spreads, 0)
        factor = self._between(centre)
        for shrinkage in SHRINKAGES:
            shrunk = (1 - shrinkage) * spreads + shrinkage * spreads.mean()
            matrix = axes / np.sqrt(shrunk)
            _, _, found = np.linalg.svd(factor @ matrix, full_matrices=False)
            count = min(MAX_DISCRIMINANTS, self.products - 1, DIMENSIONS // 2, len(centre))
            yield shrinkage, Whitening(centre, matrix[:, ::-1], matrix @ found[:count].T)

    def _between(self, centre: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A factor (k, D) of how the products' means spread: ``factor.T @ factor``."""
        if self._each:
            away = np.concatenate(self._each) - centre
            return np.divide(away, np.sqrt(self.products), dtype=np.float64)
        spreads, axes = np.linalg.eigh(self._means / self.products - np.outer(centre, centre))
        return np.multiply(axes, np.sqrt(np.maximum(spreads, 0)), dtype=np.float64).T


class Sample:
    """The views of some products, chosen by chance, to choose a metric by.

    At most those of ``CHOOSING_PRODUCTS`` products, and ``CHOOSING_VIEWS`` views.

    Attributes:
        views: (n, D) of each product.
    """

    def __init__(self) -> None:
        self.views: list[FloatArray] = []
        self._count = 0
        self._came = 0
        self._random = random.Random(0)

    def add(self, views: Sequence[FloatArray]) -> None:
        """Offer the views of further products."""
        for block in views:
            self._came += 1
            if len(self.views) < CHOOSING_PRODUCTS and self._count + len(block) <= CHOOSING_VIEWS:
                self.views.append(block)
                self._count += len(block)
                continue
            # One that is there makes room, the more seldom the more have come (a reservoir).
            place = self._random.randrange(self._came)
            if place < len(self.views):
                count = self._count + len(block) - len(self.views[place])
                if count <= CHOOSING_VIEWS:
                    self.views[place], self._count = block, count


@dataclass(frozen=True)
class Whitening:
    """Directions that make up the metrics of one shrinkage.

    Attributes:
        centre: (D,) mean of the products' means.
        whole: (D, D), those in which views of a product differ most first.
        discriminants: (D, k), those in which products differ most first.
    """

    centre: npt.NDArray[np.float64]
    whole: npt.NDArray[np.float64]
    discriminants: npt.NDArray[np.float64]

    def metric(self, gain: float, sample: FloatArray) -> Metric:
        """The metric that makes the discriminants ``gain`` times as strong; its spread is 1.

        Args:
            gain: above 1.
            sample: views (n, D), whose lengths are 1 on average when they are projected.
        """
        strong = np.sqrt(gain**2 - 1) * self.discriminants
        centre = self.centre.astype(np.float32)
        matrix = np.concatenate([strong, self.whole], axis=1)[:, :DIMENSIONS].astype(np.float32)
        lengths = np.square((sample - centre) @ matrix).sum(axis=1)
        return Metric("", centre, matrix / np.sqrt(lengths.mean()), 1.0)


def fit(scatter: Scatter, sample: Sequence[FloatArray], version: str) -> Fit:
    """Choose the best metric and fit it.

    Args:
        scatter: of all products.
        sample: the views (n, D) of some of them, to choose by (``Sample.views``).
        version: the name of the metric that is found.
    """

    def outcome(metric: Metric | None, reason: str, gains: Sequence[Gain]) -> Fit:
        return Fit(metric, reason, tuple(gains), scatter.products, scatter.views)

    if not scatter.enough:
        return outcome(
            None,
            f"{scatter.several} products with several views, {scatter.views} views in all; a "
            f"metric takes {MIN_PRODUCTS} and {MIN_VIEWS}",
            (),
        )
    raw = _tried("raw", [fold.trial(None) for fold in _folds(sample)])
    if min(raw.gain.seen_count, raw.gain.unseen_count) < MIN_ASKED:
        return outcome(None, "too few views differ from the other views of their product", [])
    trials: dict[tuple[float, float], list[_Trial]] = {}
    for fold in _folds(sample):
        for key, trial in fold.trials():
            trials.setdefault(key, []).append(trial)
    tried = {
        (shrinkage, gain): _tried(f"shrinkage {shrinkage:g}, gain {gain:g}", found)
        for (shrinkage, gain), found in trials.items()
    }
    gains = [raw.gain, *(one.gain for one in tried.values())]
    best = max(tried, key=lambda key: tried[key].gain.both)
    gain = tried[best].gain
    if gain.both < raw.gain.both + LEAST_GAIN or gain.unseen < raw.gain.unseen:
        return outcome(None, "no metric finds more left-out views than raw vectors", gains)
    views = np.concatenate(sample)
    whitening = next(item for shrinkage, item in scatter.whitenings() if shrinkage == best[0])
    metric = replace(
        whitening.metric(best[1], views),
        version=version,
        # So that another product is, in the middle, as far as it was, and a little further.
        spread=min(MAX_SPREAD, STRICTER * (1 - raw.other) / (1 - tried[best].other)),
    )
    return outcome(metric, "", gains)


@dataclass(frozen=True)
class _Trial:
    """What left-out views found with one metric, (n,) each.

    Attributes:
        right: whether their own product came first.
        unseen: whether the fit left their product out.
        other: score of the best other product.
    """

    right: BoolArray
    unseen: BoolArray
    other: FloatArray


@dataclass(frozen=True)
class _Tried:
    gain: Gain
    other: float


def _tried(name: str, trials: Sequence[_Trial]) -> _Tried:
    right = np.concatenate([trial.right for trial in trials])
    unseen = np.concatenate([trial.unseen for trial in trials])
    other = np.concatenate([trial.other for trial in trials])
    return _Tried(
        Gain(
            name,
            float(right[~unseen].sum() / max(1, (~unseen).sum())),
            float(right[unseen].sum() / max(1, unseen.sum())),
            int((~unseen).sum()),
            int(unseen.sum()),
        ),
        float(np.median(other[unseen])) if unseen.any() else 0.0,
    )


@dataclass(frozen=True)
class _Fold:
    """A split of the sample.

    Attributes:
        asked: views (q, D) that the fit leaves out.
        owners: (q,) their products.
        unseen: (q,) whether the fit leaves their products out.
        rows: views (r, D) that are searched, those of products that the fit leaves out among them.
        row_owners: (r,) their products.
        row_unseen: (r,) whether the fit leaves them out.
        count: number of products.
        in_a_row: (q, r) views that are not compared: those of one series, and each with itself.
    """

    asked: FloatArray
    owners: IntArray
    unseen: BoolArray
    rows: FloatArray
    row_owners: IntArray
    row_unseen: BoolArray
    count: int
    in_a_row: BoolArray

    def trials(self) -> Iterator[tuple[tuple[float, float], _Trial]]:
        """Each of the metrics that are tried, by shrinkage and gain."""
        seen, owners = self.rows[~self.row_unseen], self.row_owners[~self.row_unseen]
        scatter = Scatter(seen.shape[1])
        scatter.add([seen[owners == product] for product in np.unique(owners)])
        for shrinkage, whitening in scatter.whitenings():
            for gain in GAINS:
                yield (shrinkage, gain), self.trial(whitening.metric(gain, seen))

    def trial(self, metric: Metric | None) -> _Trial:
        """Match what was left out; None: by raw vectors."""
        asked, rows = self.asked, self.rows
        if metric is not None:
            asked, rows = metric.queries(asked), metric.rows(rows)
        cosines = asked @ rows.T
        right, other, told = [], [], []
        for line, owner, hidden in zip(cosines, self.owners, self.in_a_row, strict=True):
            (scores,) = view_scores(line[np.newaxis, ~hidden], self.row_owners[~hidden], self.count)
            own, scores[owner] = scores[owner], np.nan
            # Where all other views of a product are of one series, it cannot be found.
            told.append(not np.isnan(own))
            other.append(np.nanmax(scores, initial=-1.0))
            right.append(own > other[-1])
        kept = np.array(told)
        return _Trial(np.array(right)[kept], self.unseen[kept], np.array(other, np.float32)[kept])


def _folds(sample: Sequence[FloatArray]) -> Iterator[_Fold]:
    """The splits, always the same."""
    generator = np.random.default_rng(0)
    views = np.concatenate(sample)
    owners = np.repeat(np.arange(len(sample), dtype=np.int32), [len(block) for block in sample])
    nearest = _in_a_row_cosine(views, owners, generator)
    order = generator.permutation(len(sample))
    for number in range(FOLDS):
        unseen = np.isin(owners, order[number::FOLDS])
        left_out = ~unseen & (generator.random(len(views)) < LEFT_OUT_VIEWS)
        asked = unseen | left_out
        yield _Fold(
            views[asked],
            owners[asked],
            unseen[asked],
            views[~left_out],
            owners[~left_out],
            unseen[~left_out],
            len(sample),
            views[asked] @ views[~left_out].T >= nearest,
        )


def _in_a_row_cosine(views: FloatArray, owners: IntArray, generator: np.random.Generator) -> float:
    """From which cosine on two views are taken to be of one series."""
    some = generator.permutation(len(views))[:PAIRED_VIEWS]
    different = owners[some, np.newaxis] != owners[some]
    cosines = (views[some] @ views[some].T)[different]
    return min(ITSELF, float(np.quantile(cosines, IN_A_ROW)))
