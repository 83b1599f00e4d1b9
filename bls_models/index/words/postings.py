"""Which products have a word: sorted entries of words' keys, in shelves by their first bits.

A search takes the shelves of a moment as they are, so taking them costs the same however many words
there are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bls_models.index.filters.sorted_entries import FrozenEntries, SortedEntries

SHELF_BITS = 8
SHELVES = 1 << SHELF_BITS


@dataclass(frozen=True)
class FrozenPostings:
    """Which slots had which words at one moment.

    Attributes:
        shelves: by the first bits of words' keys.
    """

    shelves: tuple[FrozenEntries, ...]

    def slots_of(self, key: int) -> bytes:
        """The slots that have a word, ascending, as int32."""
        return self.shelves[_shelf_of(key)].slots_of(key)


class Postings:
    """The words of numbered product slots, to change.

    Not locked: the caller keeps its calls from running together. What ``frozen`` returns is read
    without a lock.

    Args:
        shelves: to begin with.
    """

    def __init__(self, shelves: Sequence[SortedEntries] = ()) -> None:
        self._shelves = list(shelves) or [SortedEntries() for _ in range(SHELVES)]
        self._frozen = [shelf.frozen() for shelf in self._shelves]

    @classmethod
    def of(cls, products: Iterable[tuple[int, Sequence[int]]]) -> Postings:
        """The words of many slots at once.

        Args:
            products: each slot with its keys (``product_keys``), slots ascending.
        """
        every, owners = array("Q"), array("i")
        for slot, own in products:
            every.extend(own)
            owners.extend([slot] * len(own))
        order = np.argsort(np.frombuffer(every, np.uint64), kind="stable")
        keys = np.frombuffer(every, np.uint64)[order]
        slots = np.frombuffer(owners, np.int32)[order]
        ends = np.searchsorted(keys >> np.uint64(64 - SHELF_BITS), np.arange(SHELVES), "right")
        return cls(
            [
                SortedEntries.of(array("Q", own.tobytes()), of)
                for own, of in zip(
                    np.split(keys, ends[:-1]), np.split(slots, ends[:-1]), strict=True
                )
            ]
        )

    def frozen(self) -> FrozenPostings:
        """What is there now, untouched by later changes here."""
        return FrozenPostings(tuple(self._frozen))

    def replace(self, slot: int, before: Iterable[int], after: Iterable[int]) -> None:
        """Give a slot other words.

        Args:
            slot: the product's number.
            before: the keys that it was given.
            after: those that it is to have, each once.
        """
        old, new = set(before), set(after)
        for key in old - new:
            self._shelves[_shelf_of(key)].remove(key, slot)
        for key in new - old:
            self._shelves[_shelf_of(key)].add(key, slot)
        for number in {_shelf_of(key) for key in old ^ new}:
            self._frozen[number] = self._shelves[number].frozen()


def _shelf_of(key: int) -> int:
    return key >> (64 - SHELF_BITS)
