"""Which share of a query's words each product has, rare words counting for more.

How rare a word is depends on how many products have it now, so nothing that is stored goes stale
when products come and go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bls_models.index.words.postings import FrozenPostings
from bls_models.index.words.tokens import (
    chunks,
    is_number,
    key_of,
    near,
    runs,
    singular,
    whole_name,
    with_whole,
)
from bls_models.vectors import BoolArray, FloatArray, IntArray

# A number counts so many times as much as a word as rare: people copy it from somewhere.
NUMBER_WEIGHT = 3.0
# What a number counts that is one edit away, as a share of the number itself.
NEAR_SHARE = 0.8
# So many unknown numbers of a text are taken for mistyped: each takes hundreds of looks.
MOST_MISTYPED = 4
# The words of a text that have more places together count without the most common of them.
MOST_PLACES = 2_000_000
# If words are in so many places that these times this are all slots, every slot is counted.
DENSE_SHARE = 50

_NO_SLOTS = np.zeros(0, np.int32)


@dataclass(frozen=True)
class Shares:
    """The share of a query's words that products have; those that are not there have none.

    Attributes:
        slots: (n,) ascending; None: the first ``n``.
        shares: (n,) 0 to 1.
    """

    slots: IntArray | None
    shares: FloatArray

    def __bool__(self) -> bool:
        return len(self.shares) > 0

    def of(self, slots: IntArray) -> FloatArray:
        """The shares (m,) of these slots (m,)."""
        found = np.zeros(len(slots), np.float32)
        if self.slots is None:
            there = slots < len(self.shares)
            found[there] = self.shares[slots[there]]
        elif len(self.slots):
            at = np.minimum(np.searchsorted(self.slots, slots), len(self.slots) - 1)
            there = self.slots[at] == slots
            found[there] = self.shares[at[there]]
        return found

    def largest(self, count: int, eligible: BoolArray | None = None) -> tuple[IntArray, IntArray]:
        """The slots with the largest shares.

        Args:
            count: how many.
            eligible: which slots may be among them; None: all.

        Returns:
            Fewer than ``count`` slots, and all those that equal the next; where there are no more
            than ``count``, all of them and none.
        """
        # Most products have a little of common words; only the upper half is looked through first.
        for least in (self.shares.max(initial=0) / 2, 0):
            places = np.flatnonzero(self.shares > least)
            slots = places.astype(np.int32) if self.slots is None else self.slots[places]
            if eligible is not None:
                places, slots = places[eligible[slots]], slots[eligible[slots]]
            if len(slots) > count:
                shares = self.shares[places]
                last = np.partition(shares, len(shares) - count)[len(shares) - count]
                return slots[shares > last], slots[shares == last]
        return slots, _NO_SLOTS


@dataclass(frozen=True)
class FrozenWords:
    """The words of all products as they were at one moment.

    Attributes:
        postings: which products have a word.
        products: how many there are.
    """

    postings: FrozenPostings
    products: int
    # Several queries of a batch may have the same text.
    _known: dict[str, Shares] = field(default_factory=dict)

    def shares(self, text: str) -> Shares:
        """Of a query's words, weighed by how rare they are, the share that each product has.

        ``sum(w of words that it has) / sum(w)``, w = ln(1 + (N - n + 0.5) / (n + 0.5)) of a word
        that n of N products have, times ``NUMBER_WEIGHT`` for a whole number. One that no product
        has stands for those that are one edit away, at ``NEAR_SHARE``. A name that is asked for
        whole, in any order, counts as a further word.
        """
        if text not in self._known:
            self._known[text] = self._shares(text)
        return self._known[text]

    def _shares(self, text: str) -> Shares:
        asked, places = [], 0
        for item in sorted(self._asked(text), key=lambda item: len(item[0])):
            places += len(item[0])
            if places > MOST_PLACES:
                break
            asked.append(item)
        total = sum(weight for _, weight, _ in asked)
        there = [(slots, weight * share) for slots, weight, share in asked if len(slots)]
        if not there:
            return Shares(_NO_SLOTS, np.zeros(0, np.float32))
        return _summed([slots for slots, _ in there], [weight / total for _, weight in there])

    def _asked(self, text: str) -> list[tuple[IntArray, float, float]]:
        """What a query asks for: slots that have it, its weight, and what having it counts."""
        parts = chunks(text)
        asked: dict[str, tuple[IntArray, float, float]] = {}
        mistyped = 0

        def known(word: str, factor: float) -> bool:
            """Ask for a word if any product has it; returns whether."""
            if word not in asked:
                slots = self._slots_of(word)
                if not len(slots):
                    return False
                asked[word] = slots, self._weight(len(slots)) * factor, 1.0
            return True

        def found_near(number: str) -> bool:
            slots = self._near(number)
            if len(slots):
                asked[number] = slots, self._weight(len(slots)) * NUMBER_WEIGHT, NEAR_SHARE
            return len(slots) > 0

        grouped = [False] * len(parts)
        for begin, end, run in runs(parts):
            if known(run, NUMBER_WEIGHT):
                grouped[begin:end] = [True] * (end - begin)
        for own, in_run in zip(parts, grouped, strict=True):
            whole = "".join(own)
            number = is_number(whole)
            excused = in_run
            if number or len(own) > 1:
                excused = known(singular(whole), NUMBER_WEIGHT if number else 1.0) or excused
                if number and not excused and mistyped < MOST_MISTYPED:
                    mistyped += 1
                    excused = found_near(whole)
            for word in map(singular, own):
                if not known(word, 1.0) and not excused:
                    asked[word] = _NO_SLOTS, self._weight(0), 0.0
        known(whole_name(word for own in parts for word in with_whole(own)), 1.0)
        return list(asked.values())

    def _near(self, number: str) -> IntArray:
        found = [at for word in near(number) if (at := self.postings.slots_of(key_of(word)))]
        slots: IntArray = np.unique(np.frombuffer(b"".join(found), np.int32))
        return slots

    def _slots_of(self, word: str) -> IntArray:
        slots: IntArray = np.frombuffer(self.postings.slots_of(key_of(word)), np.int32)
        return slots

    def _weight(self, having: int) -> float:
        return math.log(1 + (self.products - having + 0.5) / (having + 0.5))


def _summed(slots: Sequence[IntArray], weights: Sequence[float]) -> Shares:
    """The sum of weights (k,) by slot, each counting for its slots.

    A product gets the same however the others lie: its weights are added in their order, in double
    precision.
    """
    if len(slots) == 1:
        return Shares(slots[0], np.full(len(slots[0]), weights[0], np.float32))
    count = 1 + max(int(found[-1]) for found in slots)
    if DENSE_SHARE * sum(map(len, slots)) > count:
        sums = np.zeros(count)
        for found, weight in zip(slots, weights, strict=True):
            sums[found] += weight
        return Shares(None, np.minimum(sums, 1, out=sums).astype(np.float32))
    every = np.repeat(weights, [len(found) for found in slots])
    held, places = np.unique(np.concatenate(slots), return_inverse=True)
    return Shares(held, np.minimum(np.bincount(places, every), 1).astype(np.float32))
