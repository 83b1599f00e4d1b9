"""One query against the vectors there are: what lists propose for it, and what products score.

A product's cosine to a text comes the nearer to 1 the more of its words it has (``index/words/``):
``cos + (1 - cos) * weight * share``. Where it has none it stays the cosine, and it grows with the
cosine, so what lists promise holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from bls_models.index.query import IndexQuery
from bls_models.index.storage.frozen_rows import NONE, FrozenRows
from bls_models.index.view_scores import view_scores
from bls_models.index.words.shares import FrozenWords, Shares
from bls_models.vectors import BoolArray, FloatArray, IntArray

# Cosines that differ by less are equal: they round differently in different sums.
SCORE_DECIMALS = 6
EQUAL = 10.0**-SCORE_DECIMALS

# Query vectors scored together over all products: more would only need more memory.
VECTORS_AT_ONCE = 32

# Rows that a list proposes for a query with one kind of vectors, at least and for each match
# that is wanted; several views of one product and the rounding of codes leave enough.
MIN_CANDIDATES = 128
CANDIDATES_PER_MATCH = 12
# With several vectors, or words, the best product may be far down in each list.
MIN_JOINT_CANDIDATES = 1024
# Where a weight pushes away, several views of a product make a list tell less.
MIN_PUSHED_CANDIDATES = 2048
# A list is made longer where its end is among equals, up to here.
MAX_CANDIDATES = 8192
# More matches than this, offset included, and all products are scored.
MAX_WANTED = 500


@dataclass(frozen=True)
class QueryPart:
    """The part of a query that concerns images, or texts.

    Attributes:
        rows: the vectors it searches.
        vectors: (n, dim), of length 1, or as a metric makes them.
        weights: (n,) double precision, because weights may be as large or small as float32 goes.
        total: sum of their absolute values, above 0.
        shares: of each vector's words, which share each product has; further ones have no words.
        word_weight: see ``IndexQuery``.
    """

    rows: FrozenRows
    vectors: FloatArray
    weights: npt.NDArray[np.float64]
    total: float
    shares: Sequence[Shares] = ()
    word_weight: float = 0.0

    def asking(self) -> QueryPart:
        """What lists are asked: the same, or where a weight pushes away the sum of all."""
        return self if (self.weights >= 0).all() else self.summed()

    def summed(self) -> QueryPart:
        """The weighted sum of the vectors, which tells a single view's score."""
        whole = self.weights @ self.vectors
        length = float(np.linalg.norm(whole))
        unit = whole / length if length > 0 else self.vectors[0]
        return replace(
            self,
            vectors=unit[np.newaxis].astype(np.float32),
            weights=np.array([length]),
            shares=(),
        )

    def scores(self, best: FloatArray) -> FloatArray:
        """Weighted mean of the cosines (n, m) to each product, (m,); NaN stays."""
        scores: FloatArray = (self.weights @ best / self.total).astype(np.float32)
        return scores

    @property
    def texts_with_words(self) -> int:
        """How many have words that any product has."""
        return sum(map(bool, self.shares))

    def raise_by_words(self, best: FloatArray, slots: IntArray) -> None:
        """Raise the cosines (n, m) to these slots (m,) by the words that they have; NaN stays."""
        for line, shares in zip(best, self.shares, strict=False):
            if shares:
                line += (1 - line) * (np.float32(self.word_weight) * shares.of(slots))

    def with_words(
        self, count: int, wanted: int, slots: BoolArray | None, thorough: bool
    ) -> list[IntArray]:
        """Slots that have most of the words of each text that pulls near.

        Args:
            count: how many, with all that equal the last; where these are very many, the nearest of
                them.
            wanted: where so many have more of the words, very many equals are left out.
            slots: which may be among them; None: all.
            thorough: look through all lists.
        """
        found = []
        for vector, weight, shares in zip_longest(self.vectors, self.weights, self.shares):
            if not shares or weight <= 0:
                continue
            more, equal = shares.largest(count, slots)
            if len(equal) > MAX_CANDIDATES and len(more) >= wanted:
                # Those that are near are in the list of their vector.
                equal = equal[:0]
            elif len(equal) > MAX_CANDIDATES:
                mask = np.zeros(len(self.rows.first), np.bool_)
                mask[equal[equal < len(mask)]] = True
                _, rows = self.rows.nearest(vector[np.newaxis], count, mask, thorough)
                equal = self.rows.owners[rows[rows != NONE]]
            found += [more, equal]
        return found


@dataclass
class ScoredQuery:
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
    images: QueryPart | None
    texts: QueryPart | None
    scored: int = 0

    @classmethod
    def of(
        cls, query: IndexQuery, images: FrozenRows, texts: FrozenRows, words: FrozenWords
    ) -> ScoredQuery:
        """A query for these views, texts and words."""

        def part(rows: FrozenRows, vectors: FloatArray, weights: FloatArray) -> QueryPart | None:
            wide = weights.astype(np.float64)
            total = float(np.abs(wide).sum())
            return QueryPart(rows, vectors, wide, total) if total > 0 else None

        text = part(texts, query.text_vectors, query.text_weights)
        if text is not None and query.word_weight > 0:
            shares = [words.shares(own) for own in query.text_words]
            text = replace(text, shares=shares, word_weight=query.word_weight)
        return cls(
            query,
            query.offset + query.top_k,
            part(images, query.image_vectors, query.image_weights),
            text,
        )

    @property
    def parts(self) -> list[QueryPart]:
        """Those that take part."""
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
        elif sum(len(part.vectors) + part.texts_with_words for part in self.parts) > 1:
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

    def asking(self) -> ScoredQuery:
        """What lists are asked; see ``QueryPart.asking``."""
        return replace(
            self,
            images=self.images and self.images.asking(),
            texts=self.texts and self.texts.asking(),
        )

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
            part.raise_by_words(best[-1], slots)
        return best

    def nearest_views(self, slots: IntArray) -> list[int | None]:
        """Of each of these products (m,) the number of the view that is most like the images.

        None where no image pulls near, or there is no view. Weights count as in the score.
        """
        part = self.images
        if part is None or not (part.weights > 0).any():
            return [None] * len(slots)
        pulling = (np.maximum(part.weights, 0) @ part.vectors).astype(np.float32)
        nearest: list[int | None] = []
        # Few at a time, so one by one is quicker than all in arrays.
        for slot in slots.tolist():
            likeness = part.rows.vectors_of(slot) @ pulling
            nearest.append(int(likeness.argmax()) if len(likeness) else None)
        return nearest

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
        lists: list[tuple[QueryPart, FloatArray, IntArray]] = []
        found: list[IntArray] = []
        for part in self.parts:
            asking = part.asking()
            cosines, rows = part.rows.nearest(asking.vectors, self.candidates, slots, thorough)
            while not thorough and cut_among_equals(cosines, self.wanted):
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
            found += part.with_words(self.candidates, self.wanted, slots, thorough)
        candidates = np.unique(np.concatenate([owners.ravel() for owners in found]))
        candidates = candidates[candidates != NONE]
        promises = []
        for asking, cosines, owners in lists:
            best = promised(candidates, cosines, owners)
            best[:, ~asking.rows.have(candidates)] = np.nan
            asking.raise_by_words(best, candidates)
            promises.append(best)
        return candidates.astype(np.int32), self.asking().scores(promises)[0]


def promised(found: IntArray, cosines: FloatArray, owners: IntArray) -> FloatArray:
    """The best cosine (n, m) of slots (m,) in lists of cosines (n, k) and owners (n, k)."""
    best = np.full((len(cosines), len(found)), -np.inf, np.float32)
    for line, scores, of in zip(best, cosines, owners, strict=True):
        there = of != NONE
        np.maximum.at(line, np.searchsorted(found, of[there]), scores[there])
        # A list that is not full holds all there is, and yet may have missed something.
        line[np.isneginf(line)] = scores[there].min(initial=1.0)
    return best


def cut_among_equals(cosines: FloatArray, wanted: int) -> bool:
    """Whether the last rows of a list (n, k) are as good as one that is wanted.

    Then others that are left out are as good, too, and the next page would not have them.
    """
    if cosines.shape[1] < wanted:
        return False
    ranked = -np.sort(-cosines, axis=1)
    last = ranked[:, -1]
    return bool((~np.isneginf(last) & (ranked[:, wanted - 1] - last < EQUAL)).any())


def best_of_all(queries: Sequence[ScoredQuery], slot_count: int) -> list[list[FloatArray]]:
    """Scores (n, slot_count) of all products' views, for each query and part.

    The vectors are run through once for several queries: reading them is what takes the time.
    """
    results: list[list[FloatArray]] = [[] for _ in queries]
    every = np.arange(slot_count, dtype=np.int32)
    for kind in ("images", "texts"):
        parts: list[tuple[int, QueryPart]] = [
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
            part.raise_by_words(results[number][-1], every)
            at += len(part.vectors)
    return results
