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

from bls_models.errors import RequestError
from bls_models.index.query import IndexAnswer, IndexMatch, IndexQuery
from bls_models.index.scored_query import MAX_WANTED, SCORE_DECIMALS, ScoredQuery, best_of_all
from bls_models.index.storage.frozen_rows import FrozenRows
from bls_models.index.words.shares import FrozenWords
from bls_models.vectors import BoolArray, FloatArray, IntArray, LongArray

# If the lists may propose a product of so many, all are scored.
WHOLE_SHARE = 3
# Products scored exactly at a time, best first by what the lists say.
SCORED_AT_ONCE = 64
# No product scores less.
LEAST_SCORE = -1.0
# Codes of 8 bits tell products with a vector of length 1 to about this.
CODE_ERROR = 0.01


@dataclass(frozen=True)
class FrozenIndex:
    """The index at one moment.

    Attributes:
        images: vectors of views.
        texts: vectors of texts.
        words: of products.
        ids: product id by slot.
        versions: (slots or more,) product version by slot.
        slot_count: number of slots; some may hold no product.
        exact_rows: under a filter that leaves so many rows or fewer, all are scored.
        max_work: products of a query vector and a stored one that a query may take where
            everything is scored; None: any number.
    """

    images: FrozenRows
    texts: FrozenRows
    words: FrozenWords
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
        asked = [self._scored(query) for query in queries]
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
            whole, best_of_all([asked[n] for n in whole], self.slot_count), strict=True
        ):
            query, mask = asked[number], eligible[number]
            some = np.arange(self.slot_count, dtype=np.int32)
            if mask is not None:
                some = np.flatnonzero(mask).astype(np.int32)
                best = [part[:, some] for part in best]
            answers[number] = IndexAnswer(self._ranked(query, some, best), query.whole_work)
        return [answer for answer in answers if answer is not None]

    def passing(self, query: IndexQuery, eligible: BoolArray | None) -> tuple[BoolArray, int]:
        """Which products a query finds, however many they are.

        Args:
            query: what is wanted.
            eligible: which slots (slot_count,) may match; None: all.

        Returns:
            (slot_count,) bool: those that compare with it, and that reach its least score; and how
            often a vector of it was compared with a stored one.

        Raises:
            RequestError: scoring them would take more than a query may.
        """
        scored, every = self._scored(query), np.arange(self.slot_count, dtype=np.int32)
        there = np.zeros(self.slot_count, np.bool_)
        for part in scored.parts:
            there |= part.rows.have(every)
        if eligible is not None:
            there &= eligible
        if query.min_score <= LEAST_SCORE:
            return there, 0
        if self._few(scored, there):
            slots = np.flatnonzero(there).astype(np.int32)
            self._check_work(scored, scored.work_of(slots))
            there[slots] = scored.scores(scored.best_of(slots))[0] >= query.min_score
            return there, scored.scored
        self._check_work(scored, scored.whole_work)
        (best,) = best_of_all([scored], self.slot_count)
        there &= scored.scores(best)[0] >= query.min_score
        return there, scored.whole_work

    def scored_matches(self, query: IndexQuery, slots: Sequence[int]) -> list[IndexMatch]:
        """These products in this order, with their scores."""
        scored, some = self._scored(query), np.array(slots, np.int32)
        return self._matches(scored, some, scored.scores(scored.best_of(some)))

    def _scored(self, query: IndexQuery) -> ScoredQuery:
        return ScoredQuery.of(query, self.images, self.texts, self.words)

    def _some_scored(self, query: ScoredQuery, slots: BoolArray | None) -> list[IndexMatch] | None:
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

    def _check_work(self, query: ScoredQuery, work: int) -> None:
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

    def _most_work(self, query: ScoredQuery) -> float:
        return math.inf if self.max_work is None else self.max_work * query.asked.work_share

    def _few(self, query: ScoredQuery, slots: BoolArray) -> bool:
        """Whether so few products are eligible that scoring just them is the quickest way."""
        rows = max((part.rows.total for part in query.parts), default=0)
        products = max(1, self.slot_count)
        eligible = np.count_nonzero(slots)
        if query.listable():
            return bool(eligible * rows <= self.exact_rows * products)
        # Gathering rows costs about four times as much as running through all.
        return bool(4 * eligible <= products)

    def _listed(
        self, query: ScoredQuery, slots: BoolArray | None, thorough: bool
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
        self, query: ScoredQuery, slots: IntArray, best: Sequence[FloatArray]
    ) -> list[IndexMatch]:
        """The page that is wanted of these slots (m,), whose views are scored."""
        scores, *single = query.scores(best)
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
        page = order[first - begin : end - begin]
        return self._matches(query, slots[page], [part[page] for part in (scores, *single)])

    def _matches(
        self, query: ScoredQuery, slots: IntArray, scores: Sequence[FloatArray]
    ) -> list[IndexMatch]:
        """Matches of slots (m,) with their score, image score and text score (m,)."""
        return [
            IndexMatch(
                self.ids[slot],
                int(self.versions[slot]),
                float(fused),
                float(image),
                float(text),
                view,
            )
            for slot, fused, image, text, view in zip(
                slots, *scores, query.nearest_views(slots), strict=True
            )
        ]
