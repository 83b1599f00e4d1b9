"""Searches the product index as it was at one moment, without a lock.

Scores are always exact. Which products are scored depends on the catalogue: all of them (or all
that a filter leaves) where that is quick enough, and those that approximate lists propose where it
is not. What is scored exactly is bounded for each query, before it begins.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bls_models.errors import RequestError
from bls_models.index.query import IndexAnswer, IndexMatch, IndexQuery
from bls_models.index.storage.frozen_rows import NONE, FrozenRows
from bls_models.index.view_scores import view_scores
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
# Where a weight pushes away, several views of a product make a list tell less.
MIN_PUSHED_CANDIDATES = 2048
# A list is made longer where its end is among equals, up to here.
MAX_CANDIDATES = 8192
# More matches than this, offset included, and all products are scored.
MAX_WANTED = 500
# If the lists may propose a product of so many, all are scored.
WHOLE_SHARE = 3
# Products scored exactly at a time, best first by what the lists say.
SCORED_AT_ONCE = 64
# Codes of 8 bits tell products with a vector of length 1 to about this.
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
        max_work: products of a query vector and a stored one that a query may take where
            everything is scored; None: any number.
    """

    images: FrozenRows
    texts: FrozenRows
    ids: Sequence[str]
    versions: LongArray
    slot_count: int
    exact_rows: int
    max_work: int | None

    def exact(self) -> FrozenIndex:
        """The same, searched without candidate lists, whatever that takes."""
        return replace(
            self,
            images=replace(self.images, main=None),
            texts=replace(self.texts, main=None),
            max_work=None,
        )

    def search(
        self, queries: Sequence[IndexQuery], eligible: Sequence[BoolArray | None]
    ) -> list[IndexAnswer]:
        """The best products of each query, best first.

        Args:
            queries: what is wanted.
            eligible: for each query which slots (slot_count,) may match; None: all.
        """
        asked = [_Query.of(self, query) for query in queries]
        answers: list[IndexAnswer | None] = [None] * len(queries)
        whole: list[int] = []
        for number, (query, slots) in enumerate(zip(asked, eligible, strict=True)):
            try:
                matches = self._some_scored(query, slots)
            except RequestError as error:
                answers[number] = IndexAnswer(refusal=error)
            else:
                if matches is None:
                    whole.append(number)
                else:
                    answers[number] = IndexAnswer(matches, query.scored)
        for number, best in zip(
            whole, _best_of_all([asked[n] for n in whole], self.slot_count), strict=True
        ):
            query, mask = asked[number], eligible[number]
            some = np.arange(self.slot_count, dtype=np.int32)
            if mask is not None:
                some = np.flatnonzero(mask).astype(np.int32)
                best = [part[:, some] for part in best]
            answers[number] = IndexAnswer(self._ranked(query, some, best), query.whole_work)
        return [answer for answer in answers if answer is not None]

    def _some_scored(self, query: _Query, slots: BoolArray | None) -> list[IndexMatch] | None:
        """The page that is wanted, where that takes only some of the products.

        Returns:
            None if all are to be scored.

        Raises:
            RequestError: it would take more than a query may.
        """
        if slots is not None and self._few(query, slots):
            some = np.flatnonzero(slots).astype(np.int32)
            self._check_work(query, query.work_of(some))
            return self._ranked(query, some, query.best_of(some))
        affordable = query.whole_work <= self._most_work(query)
        # Of many vectors the lists would propose so much that all is sooner scored.
        mostly = affordable and WHOLE_SHARE * query.proposed_at_most > self.slot_count
        if query.listable() and not mostly:
            found = self._listed(query, slots, thorough=not query.pulls)
            if found is None and not affordable:
                found = self._listed(query, slots, thorough=True)
            return found
        self._check_work(query, query.whole_work)
        return None

    def _check_work(self, query: _Query, work: int) -> None:
        if work <= self._most_work(query):
            return
        deep = query.wanted > MAX_WANTED
        raise RequestError(
            "offset" if deep else "image, text",
            f"{sum(len(part.vectors) for part in query.parts)} vectors would be compared with "
            f"stored ones {work} times",
            f"at most {self._most_work(query):.0f} (PRODUCT_MATCH_MAX_SEARCH_WORK)",
            f"Ask for matches up to the {MAX_WANTED}th, or narrow the filter."
            if deep
            else "Send fewer images and texts, narrow the filter, or ask for fewer objects.",
        )

    def _most_work(self, query: _Query) -> float:
        return math.inf if self.max_work is None else self.max_work * query.asked.work_share

    def _few(self, query: _Query, slots: BoolArray) -> bool:
        """Whether so few products are eligible that scoring just them is the quickest way."""
        rows = max(part.rows.total for part in query.parts)
        products = max(1, self.slot_count)
        eligible = np.count_nonzero(slots)
        if query.listable():
            return bool(eligible * rows <= self.exact_rows * products)
        # Gathering rows costs about four times as much as running through all.
        return bool(4 * eligible <= products)

    def _listed(
        self, query: _Query, slots: BoolArray | None, thorough: bool
    ) -> list[IndexMatch] | None:
        """Score what the lists propose, best first, until nothing better can follow.

        Args:
            query: what is wanted.
            slots: which may match; None: all.
            thorough: look through all lists, and take what they tell for all there is.

        Returns:
            The page that is wanted; None if lists cannot tell it.
        """
        proposed = query.proposed(slots, thorough)
        if proposed is None:
            return None
        candidates, expected = proposed
        if slots is not None and len(candidates) < query.wanted and not thorough:
            # The lists that were looked through hold little of what the filter leaves.
            return None
        order = np.argsort(-expected, kind="stable")
        candidates, expected = candidates[order], expected[order]
        if query.pushes:
            # A product may score above what its views promise singly.
            return self._ranked(query, candidates, query.best_of(candidates))
        best = [np.empty((len(part.vectors), 0), np.float32) for part in query.parts]
        scored, step = 0, max(SCORED_AT_ONCE, 2 * query.wanted)
        least = -np.inf
        error = CODE_ERROR * query.length
        while scored < len(candidates) and least < expected[scored] + error:
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
        # Of very many equals not all are sorted: that would hold up the whole process.
        order = heapq.nsmallest(
            end - begin,
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
        vectors: (n, dim), of length 1, or as a metric makes them.
        weights: (n,) double precision, because weights may be as large or small as float32 goes.
        total: sum of their absolute values, above 0.
    """

    rows: FrozenRows
    vectors: FloatArray
    weights: npt.NDArray[np.float64]
    total: float

    def asking(self) -> _Part:
        """What lists are asked: the same, or where a weight pushes away the sum of all."""
        return self if (self.weights >= 0).all() else self.summed()

    def summed(self) -> _Part:
        """The weighted sum of the vectors, which tells a single view's score."""
        whole = self.weights @ self.vectors
        length = float(np.linalg.norm(whole))
        unit = whole / length if length > 0 else self.vectors[0]
        return replace(
            self, vectors=unit[np.newaxis].astype(np.float32), weights=np.array([length])
        )

    def scores(self, best: FloatArray) -> FloatArray:
        """Weighted mean of the cosines (n, m) to each product, (m,); NaN stays."""
        scores: FloatArray = (self.weights @ best / self.total).astype(np.float32)
        return scores


@dataclass
class _Query:
    """A query with the vectors it is compared with; a modality without weight has no part.

    Attributes:
        asked: the query.
        wanted: matches, those that are skipped among them.
        images: what its images are compared with.
        texts: what its texts are compared with.
        scored: products of two vectors that were taken so far.
    """

    asked: IndexQuery
    wanted: int
    images: _Part | None
    texts: _Part | None
    scored: int = 0

    @classmethod
    def of(cls, frozen: FrozenIndex, query: IndexQuery) -> _Query:
        def part(rows: FrozenRows, vectors: FloatArray, weights: FloatArray) -> _Part | None:
            wide = weights.astype(np.float64)
            total = float(np.abs(wide).sum())
            return _Part(rows, vectors, wide, total) if total > 0 else None

        return cls(
            query,
            query.offset + query.top_k,
            part(frozen.images, query.image_vectors, query.image_weights),
            part(frozen.texts, query.text_vectors, query.text_weights),
        )

    @property
    def parts(self) -> list[_Part]:
        return [part for part in (self.images, self.texts) if part is not None]

    @property
    def whole_work(self) -> int:
        """Products of two vectors that scoring everything takes."""
        return sum(part.rows.total * len(part.vectors) for part in self.parts)

    def work_of(self, slots: IntArray) -> int:
        """Products of two vectors that scoring these slots (m,) takes."""
        return sum(len(part.rows.rows_of(slots)[0]) * len(part.vectors) for part in self.parts)

    @property
    def pushes(self) -> bool:
        """Whether any weight pushes away."""
        return any((part.weights < 0).any() for part in self.parts)

    @property
    def pulls(self) -> bool:
        """Whether any weight pulls near."""
        return any((part.weights > 0).any() for part in self.parts)

    @property
    def candidates(self) -> int:
        """Rows that a list proposes, at first."""
        least = MIN_CANDIDATES
        if self.pushes:
            least = MIN_PUSHED_CANDIDATES
        elif sum(len(part.vectors) for part in self.parts) > 1:
            least = MIN_JOINT_CANDIDATES
        return max(least, CANDIDATES_PER_MATCH * self.wanted)

    @property
    def proposed_at_most(self) -> int:
        """Rows that all lists propose."""
        asked = [len(part.asking().vectors) for part in self.parts]
        return self.candidates * sum(count + (count > 1) for count in asked)

    @property
    def length(self) -> float:
        """Of its longest vector: 1, or more where a metric spreads cosines."""
        return max(float(np.linalg.norm(part.vectors, axis=1).max()) for part in self.parts)

    def listable(self) -> bool:
        """Whether lists can and should propose the candidates."""
        return self.wanted <= MAX_WANTED and any(part.rows.main is not None for part in self.parts)

    def best_of(self, slots: IntArray) -> list[FloatArray]:
        """Exact scores of these slots' (m,) views, (n, m) for each part."""
        best = []
        for part in self.parts:
            rows, owners = part.rows.rows_of(slots)
            self.scored += len(rows) * len(part.vectors)
            cosines = part.rows.cosines(part.vectors, rows)
            best.append(view_scores(cosines, owners, len(slots), self.asked.view_power))
        return best

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

    def proposed(
        self, slots: BoolArray | None, thorough: bool
    ) -> tuple[IntArray, FloatArray] | None:
        """Slots (m,) from the lists, and the scores (m,) that these promise at most.

        A product that is missing from one vector's list has there at most the cosine of the
        list's last row.

        Args:
            slots: which may match; None: all.
            thorough: look through all lists, and cut off equals where the list ends.

        Returns:
            None if so many rows are equal that no list of bearable length holds them all.
        """
        lists: list[tuple[_Part, FloatArray, IntArray]] = []
        found: list[IntArray] = []
        for part in self.parts:
            asking = part.asking()
            cosines, rows = part.rows.nearest(asking.vectors, self.candidates, slots, thorough)
            while not thorough and _cut_among_equals(cosines, self.wanted):
                if cosines.shape[1] >= MAX_CANDIDATES:
                    return None
                cosines, rows = part.rows.nearest(asking.vectors, 8 * cosines.shape[1], slots)
            owners = np.where(rows == NONE, NONE, part.rows.owners[rows]).astype(np.int32)
            lists.append((asking, cosines, owners))
            found.append(owners)
            if len(asking.vectors) > 1:
                # What is like all of them a little may be in none of their lists.
                _, rows = part.rows.nearest(part.summed().vectors, self.candidates, slots, thorough)
                found.append(part.rows.owners[rows[rows != NONE]])
        candidates = np.unique(np.concatenate([owners.ravel() for owners in found]))
        candidates = candidates[candidates != NONE]
        promises = []
        for asking, cosines, owners in lists:
            best = _promised(candidates, cosines, owners)
            best[:, ~asking.rows.have(candidates)] = np.nan
            promises.append(best)
        asking_query = replace(
            self,
            images=self.images and self.images.asking(),
            texts=self.texts and self.texts.asking(),
        )
        return candidates.astype(np.int32), asking_query.scores(promises)[0]


def _promised(found: IntArray, cosines: FloatArray, owners: IntArray) -> FloatArray:
    """The best cosine (n, m) of slots (m,) in lists of cosines (n, k) and owners (n, k)."""
    best = np.full((len(cosines), len(found)), -np.inf, np.float32)
    for line, scores, of in zip(best, cosines, owners, strict=True):
        there = of != NONE
        np.maximum.at(line, np.searchsorted(found, of[there]), scores[there])
        # A list that is not full holds all there is, and yet may have missed something.
        line[np.isneginf(line)] = scores[there].min(initial=1.0)
    return best


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
