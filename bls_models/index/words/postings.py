"""Which products have a word: pairs of a word's key and a slot, in order.

They stand in buckets that no change touches (as in ``filters/sorted_entries.py``), so whoever took
the shelves of a moment reads them without a lock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# Entries of a bucket at most; half of them after it was divided.
BUCKET = 512
# A bucket with fewer is joined to the next.
SMALL = BUCKET // 8
SHELF_BITS = 8
SHELVES = 1 << SHELF_BITS


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Pairs of a word's key and a slot, in order.

    Attributes:
        keys: of uint64.
        slots: of int32, of the same length.
    """

    keys: array[int]
    slots: array[int]

    def place(self, key: int, slot: int) -> int:
        """Where this pair is, or belongs."""
        begin = bisect_left(self.keys, key)
        return bisect_left(self.slots, slot, begin, bisect_right(self.keys, key, begin))

    def divided(self) -> tuple[_Bucket, ...]:
        if len(self.slots) <= BUCKET:
            return (self,)
        half = len(self.slots) // 2
        return (
            _Bucket(self.keys[:half], self.slots[:half]),
            _Bucket(self.keys[half:], self.slots[half:]),
        )


@dataclass(frozen=True, slots=True)
class Shelf:
    """Buckets in order, never changed.

    Attributes:
        lasts: the last key of each bucket, of uint64.
        buckets: none of them empty.
    """

    lasts: array[int]
    buckets: tuple[_Bucket, ...]

    def at(self, key: int, slot: int) -> int:
        """The bucket in which a pair is, or belongs."""
        begin = bisect_left(self.lasts, key)
        end = bisect_right(self.lasts, key, begin)
        at = bisect_left(self.buckets, slot, begin, end, key=_last_slot)
        return min(at, len(self.buckets) - 1)

    def replaced(self, begin: int, end: int, buckets: Sequence[_Bucket]) -> Shelf:
        """The same with others in the place of some buckets."""
        lasts = self.lasts[:]
        lasts[begin:end] = array("Q", [bucket.keys[-1] for bucket in buckets])
        return Shelf(lasts, (*self.buckets[:begin], *buckets, *self.buckets[end:]))

    def slots_of(self, key: int) -> bytes:
        """The slots that have a word, ascending, as int32."""
        begin = bisect_left(self.lasts, key)
        parts = []
        for bucket in self.buckets[begin : bisect_right(self.lasts, key, begin) + 1]:
            first = bisect_left(bucket.keys, key)
            last = bisect_right(bucket.keys, key, first)
            if first < last:
                parts.append(bucket.slots[first:last].tobytes())
        return b"".join(parts)


_EMPTY = Shelf(array("Q"), ())


def _last_slot(bucket: _Bucket) -> int:
    return bucket.slots[-1]


@dataclass(frozen=True)
class FrozenPostings:
    """Which slots had which words at one moment.

    Attributes:
        shelves: by the first bits of words' keys.
    """

    shelves: tuple[Shelf, ...]

    def slots_of(self, key: int) -> bytes:
        """The slots that have a word, ascending, as int32."""
        return self.shelves[key >> (64 - SHELF_BITS)].slots_of(key)


class Postings:
    """The words of numbered product slots, to change.

    Not locked: the caller keeps its calls from running together. What ``frozen`` returns is read
    without a lock.
    """

    def __init__(self) -> None:
        """Start without words."""
        self._shelves = [_EMPTY] * SHELVES

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
        held, begin = cls(), 0
        ends = np.searchsorted(keys >> np.uint64(64 - SHELF_BITS), np.arange(SHELVES), "right")
        for shelf, end in enumerate(ends.tolist()):
            buckets = [
                _Bucket(
                    array("Q", keys[at : min(at + BUCKET, end)].tobytes()),
                    array("i", slots[at : min(at + BUCKET, end)].tobytes()),
                )
                for at in range(begin, end, BUCKET)
            ]
            held._shelves[shelf] = _EMPTY.replaced(0, 0, buckets)
            begin = end
        return held

    def frozen(self) -> FrozenPostings:
        """What is there now, untouched by later changes here."""
        return FrozenPostings(tuple(self._shelves))

    def replace(self, slot: int, before: Iterable[int], after: Iterable[int]) -> None:
        """Give a slot other words.

        Args:
            slot: the product's number.
            before: the keys that it was given.
            after: those that it is to have, each once.
        """
        old, new = set(before), set(after)
        for key in old - new:
            self._remove(key, slot)
        for key in new - old:
            self._add(key, slot)

    def _add(self, key: int, slot: int) -> None:
        number = key >> (64 - SHELF_BITS)
        shelf = self._shelves[number]
        if not shelf.buckets:
            bucket = _Bucket(array("Q", [key]), array("i", [slot]))
            self._shelves[number] = shelf.replaced(0, 0, [bucket])
            return
        at = shelf.at(key, slot)
        bucket = shelf.buckets[at]
        place = bucket.place(key, slot)
        keys, slots = bucket.keys[:], bucket.slots[:]
        keys.insert(place, key)
        slots.insert(place, slot)
        self._shelves[number] = shelf.replaced(at, at + 1, _Bucket(keys, slots).divided())

    def _remove(self, key: int, slot: int) -> None:
        number = key >> (64 - SHELF_BITS)
        shelf = self._shelves[number]
        at = shelf.at(key, slot)
        bucket = shelf.buckets[at]
        place = bucket.place(key, slot)
        keys, slots = bucket.keys[:], bucket.slots[:]
        del keys[place], slots[place]
        end = at + 1
        if len(slots) < SMALL and end < len(shelf.buckets):
            following = shelf.buckets[end]
            if len(slots) + len(following.slots) <= BUCKET:
                keys, slots = keys + following.keys, slots + following.slots
                end += 1
        self._shelves[number] = shelf.replaced(at, end, [_Bucket(keys, slots)] if slots else [])
