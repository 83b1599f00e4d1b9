"""Searches the product index as it was at one moment, without a lock.

Scores are always exact. Which products are scored depends on the catalogue: all of them (or all
that a filter leaves) where that is quick enough, and those that approximate lists propose where it
is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.index.storage.frozen_rows import NONE, FrozenRows
from bls_models.vectors import BoolArray, FloatArray, IntArray, LongArray

# Cosines that differ by less are equal: they round differently in different sums.
SCORE_DECIMALS = 6
EQUAL = 10.0**-SCORE_DECIMALS

# Query vectors scored together over all products: more would only need more memory.
VECTORS_AT_ONCE = 32

# Rows that a list proposes for a query with one kind of vectors, at least and for each match
# that is wanted; several views of one product and the rounding of codes leave enough.
MIN_CANDIDATES = 128
CANDIDATES_PER_MATCH = 12
# With several vectors the best product may be far down in each list.
MIN_JOINT_CANDIDATES = 1024
# A list is made longer where its end is among equals, up to here.
MAX_CANDIDATES = 8192
# More matches than this, offset included, and all products are scored.
MAX_WANTED = 500
# Products scored exactly at a time, best first by what the lists say.
SCORED_AT_ONCE = 64
# Codes of 8 bits tell cosines to about this.
CODE_ERROR = 0.01


@dataclass(frozen=True)
class FrozenIndex:
    """The index at one moment.

    Attributes:
        images: vectors of views.
        texts: vectors of texts.
        ids: product id by slot.
        versions: (slots or more,) product version by slot.
        slot_count: number of slots; some may hold no product.
        exact_rows: under a filter that leaves so many rows or fewer, all are scored.
    """

    images: FrozenRows
    texts: FrozenRows
    ids: Sequence[str]
    versions: LongArray
    slot_count: int
    exact_rows: int

    def exact(self) -> FrozenIndex:
        """The same, searched without candidate lists."""
        return replace(
            self, images=replace(self.images, main=None), texts=replace(self.texts, main=None)
        )

    def search(
        self, queries: Sequence[IndexQuery], eligible: Sequence[BoolArray | None]
    ) -> list[list[IndexMatch]]:
        """The best products of each query, best first.

        Args:
            queries: what is wanted.
            eligible: for each query which slots (slot_count,) may match; None: all.
        """
        asked = [_Query.of(self, query) for query in queries]
        results: list[list[IndexMatch]] = [[] for _ in queries]
        whole: list[int] = []
        listed: list[int] = []
        for number, (query, slots) in enumerate(zip(asked, eligible, strict=True)):
            if slots is not None and self._few(query, slots):
                some = np.flatnonzero(slots).astype(np.int32)
                results[number] = self._ranked(query, some, query.best_of(some))
            elif query.listable():
                listed.append(number)
            else:
                whole.append(number)
        for number in listed:
            found = self._listed(asked[number], eligible[number])
            if found is None:
                whole.append(number)
            else:
                results[number] = found
        for number, best in zip(
            whole, _best_of_all([asked[n] for n in whole], self.slot_count), strict=True
        ):
            every = np.arange(self.slot_count, dtype=np.int32)
            some, mask = every, eligible[number]
            if mask is not None:
                some = np.flatnonzero(mask).astype(np.int32)
                best = [part[:, some] for part in best]
            results[number] = self._ranked(asked[number], some, best)
        return results

    def _few(self, query: _Query, slots: BoolArray) -> bool:
        """Whether so few products are eligible that scoring just them is the quickest way."""
        rows = max(part.rows.total for part in query.parts)
        products = max(1, self.slot_count)
        eligible = np.count_nonzero(slots)
        if query.listable():
            return bool(eligible * rows <= self.exact_rows * products)
        # Gathering rows costs about four times as much as running through all.
        return bool(4 * eligible <= products)

    def _listed(self, query: _Query, slots: BoolArray | None) -> list[IndexMatch] | None:
        """Score what the lists propose, best first, until nothing better can follow.

        Returns:
            The page that is wanted; None if lists cannot tell it.
        """
        proposed = query.proposed(slots)
        if proposed is None:
            return None
        candidates, expected = proposed
        if slots is not None and len(candidates) < query.wanted:
            # The lists that were looked through hold little of what the filter leaves.
            return None
        order = np.argsort(-expected, kind="stable")
        candidates, expected = candidates[order], expected[order]
        best = [np.empty((len(part.vectors), 0), np.float32) for part in query.parts]
        scored, step = 0, max(SCORED_AT_ONCE, 2 * query.wanted)
        least = -np.inf
        while scored < len(candidates) and least < expected[scored] + CODE_ERROR:
            some = candidates[scored : scored + step]
            best = [
                np.concatenate([known, new], axis=1)
                for known, new in zip(best, query.best_of(some), strict=True)
            ]
            scored += len(some)
            scores = query.scores(best)[0]
            if np.count_nonzero(~np.isnan(scores)) >= query.wanted:
                least = float(-np.sort(-scores)[query.wanted - 1])
            step *= 2
        return self._ranked(query, candidates[:scored], best)

    def _ranked(
        self, query: _Query, slots: IntArray, best: Sequence[FloatArray]
    ) -> list[IndexMatch]:
        """The page that is wanted of these slots (m,), whose views are scored."""
        scores, image_scores, text_scores = query.scores(best)
        rounded = scores.round(SCORE_DECIMALS)
        places = np.flatnonzero(~np.isnan(scores) & (scores >= query.asked.min_score))
        first, end = query.asked.offset, min(query.wanted, len(places))
        if first >= end:
            return []
        least = np.partition(rounded[places], len(places) - end)[len(places) - end]
        places = places[rounded[places] >= least]
        places = places[np.argsort(-rounded[places], kind="stable")]
        # Equal scores stand in the order of product ids, on every page and every server alike.
        falling = -rounded[places]
        begin = int(np.searchsorted(falling, falling[first], "left"))
        equals_end = int(np.searchsorted(falling, falling[end - 1], "right"))
        order = sorted(
            places[begin:equals_end].tolist(),
            key=lambda at: (-rounded[at], self.ids[int(slots[at])]),
        )
        return [
            IndexMatch(
                self.ids[slots[at]],
                int(self.versions[slots[at]]),
                float(scores[at]),
                float(image_scores[at]),
                float(text_scores[at]),
            )
            for at in order[first - begin : end - begin]
        ]


@dataclass(frozen=True)
class _Part:
    """The part of a query that concerns images, or texts.

    Attributes:
        rows: the vectors it searches.
        vectors: (n, dim) unit vectors.
        weights: (n,) double precision, because weights may be as large or small as float32 goes.
        total: sum of their absolute values, above 0.
    """

    rows: FrozenRows
    vectors: FloatArray
    weights: npt.NDArray[np.float64]
    total: float

    def scores(self, best: FloatArray) -> FloatArray:
        """Weighted mean of the cosines (n, m) to each product, (m,); NaN stays."""
        scores: FloatArray = (self.weights @ best / self.total).astype(np.float32)
        return scores


@dataclass(frozen=True)
class _Query:
    """A query with the vectors it is compared with; a modality without weight has no part."""

    asked: IndexQuery
    wanted: int
    images: _Part | None
    texts: _Part | None

    @classmethod
    def of(cls, frozen: FrozenIndex, query: IndexQuery) -> _Query:
        parts = []
        for rows, vectors, weights in (
            (frozen.images, query.image_vectors, query.image_weights),
            (frozen.texts, query.text_vectors, query.text_weights),
        ):
            wide = weights.astype(np.float64)
            total = float(np.abs(wide).sum())
            parts.append(_Part(rows, vectors, wide, total) if total > 0 else None)
        return cls(query, query.offset + query.top_k, *parts)

    @property
    def parts(self) -> list[_Part]:
        return [part for part in (self.images, self.texts) if part is not None]

    def listable(self) -> bool:
        """Whether lists can and should propose the candidates."""
        # A pushing (negative) weight prefers what is far away, which no near list tells.
        pushes = any((part.weights < 0).any() for part in self.parts)
        lists = any(part.rows.main is not None for part in self.parts)
        return lists and not pushes and self.wanted <= MAX_WANTED

    def best_of(self, slots: IntArray) -> list[FloatArray]:
        """Exact scores of these slots' (m,) views, (n, m) for each part."""
        return [
            part.rows.scores_of(part.vectors, slots, self.asked.view_power) for part in self.parts
        ]

    def scores(self, best: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Score, image score and text score (m,) from cosines (n, m) for each part.

        ``sum(w * cos) / sum(|w|)`` over the modalities that each product has; NaN for a product
        that has none of them, and for the score of a modality that takes no part.
        """
        count = best[0].shape[1] if best else 0
        left = list(best)
        weighted, weights = np.zeros(count), np.zeros(count)
        single = []
        for part in (self.images, self.texts):
            scores = np.full(count, np.nan, np.float32)
            if part is not None:
                scores = part.scores(left.pop(0))
                there = ~np.isnan(scores)
                weighted[there] += scores[there].astype(np.float64) * part.total
                weights[there] += part.total
            single.append(scores)
        fused = np.full(count, np.nan)
        np.divide(weighted, weights, out=fused, where=weights > 0)
        return fused.astype(np.float32), single[0], single[1]

    def proposed(self, slots: BoolArray | None) -> tuple[IntArray, FloatArray] | None:
        """Slots (m,) from the lists, and the scores (m,) that these promise at most.

        A product that is missing from one vector's list has there at most the cosine of the
        list's last row.

        Returns:
            None if so many rows are equal that no list of bearable length holds them all.
        """
        several = sum(len(part.vectors) for part in self.parts) > 1
        least = MIN_JOINT_CANDIDATES if several else MIN_CANDIDATES
        count = max(least, CANDIDATES_PER_MATCH * self.wanted)
        lists: list[tuple[_Part, FloatArray, IntArray]] = []
        for part in self.parts:
            cosines, rows = part.rows.nearest(part.vectors, count, slots)
            while _cut_among_equals(cosines, self.wanted):
                if cosines.shape[1] >= MAX_CANDIDATES:
                    return None
                cosines, rows = part.rows.nearest(part.vectors, 8 * cosines.shape[1], slots)
            owners = np.where(rows == NONE, NONE, part.rows.owners[rows]).astype(np.int32)
            lists.append((part, cosines, owners))
        found = np.unique(np.concatenate([owners.ravel() for _, _, owners in lists]))
        found = found[found != NONE]
        promised = []
        for part, cosines, owners in lists:
            best = np.full((len(part.vectors), len(found)), -np.inf, np.float32)
            for line, scores, of in zip(best, cosines, owners, strict=True):
                there = of != NONE
                np.maximum.at(line, np.searchsorted(found, of[there]), scores[there])
                # A list that is not full holds all there is, and yet may have missed something.
                line[np.isneginf(line)] = scores[there].min(initial=1.0)
            best[:, ~part.rows.have(found)] = np.nan
            promised.append(best)
        return found.astype(np.int32), self.scores(promised)[0]


def _cut_among_equals(cosines: FloatArray, wanted: int) -> bool:
    """Whether the last rows of a list (n, k) are as good as one that is wanted.

    Then others that are left out are as good, too, and the next page would not have them.
    """
    if cosines.shape[1] < wanted:
        return False
    ranked = -np.sort(-cosines, axis=1)
    last = ranked[:, -1]
    return bool((~np.isneginf(last) & (ranked[:, wanted - 1] - last < EQUAL)).any())


def _best_of_all(queries: Sequence[_Query], slot_count: int) -> list[list[FloatArray]]:
    """Scores (n, slot_count) of all products' views, for each query and part.

    The vectors are run through once for several queries: reading them is what takes the time.
    """
    results: list[list[FloatArray]] = [[] for _ in queries]
    for kind in ("images", "texts"):
        parts: list[tuple[int, _Part]] = [
            (number, part) for number, query in enumerate(queries) if (part := getattr(query, kind))
        ]
        if not parts:
            continue
        stacked = np.concatenate([part.vectors for _, part in parts])
        powers = np.concatenate(
            [np.full(len(part.vectors), queries[number].asked.view_power) for number, part in parts]
        )
        best = np.concatenate(
            [
                parts[0][1].rows.scores_of_all(
                    stacked[at : at + VECTORS_AT_ONCE],
                    slot_count,
                    powers[at : at + VECTORS_AT_ONCE],
                )
                for at in range(0, len(stacked), VECTORS_AT_ONCE)
            ]
        )
        at = 0
        for number, part in parts:
            results[number].append(best[at : at + len(part.vectors)])
            at += len(part.vectors)
    return results
