"""The values of one field in order, each with the product slot that has it.

This is a database's secondary index: entries in buckets, and no bucket is ever changed. A change
puts another in its place, so whoever holds the buckets of a moment reads them without a lock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bls_models.vectors import BoolArray, IntArray

# Entries of a bucket at most; half of them after it was divided.
BUCKET = 512
# A bucket with fewer is joined to the next.
SMALL = BUCKET // 8


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Entries in the order of their values, and of their slots where these are equal.

    Attributes:
        values: a list of str, or an array of float64 or uint64.
        slots: an array of int32, of the same length.
    """

    values: Any
    slots: array[int]

    @property
    def last(self) -> tuple[Any, int]:
        return self.values[-1], self.slots[-1]

    def place(self, value: Any, slot: int) -> int:
        """Where this entry is, or belongs."""
        begin = bisect_left(self.values, value)
        return bisect_left(self.slots, slot, begin, bisect_right(self.values, value, begin))

    def divided(self) -> tuple[_Bucket, _Bucket]:
        half = len(self.slots) // 2
        return (
            _Bucket(self.values[:half], self.slots[:half]),
            _Bucket(self.values[half:], self.slots[half:]),
        )


@dataclass(frozen=True)
class FrozenEntries:
    """Entries as they were at one moment, counted through in their order (ranks)."""

    buckets: tuple[_Bucket, ...]

    def ranks(self) -> Ranks:
        """Counts the entries, once for all questions about their order."""
        return Ranks(self.buckets)

    def values(self) -> Iterator[Any]:
        """All values, in order."""
        for bucket in self.buckets:
            yield from bucket.values

    def slots_of(self, value: Any) -> bytes:
        """The slots that have a value, ascending, as int32."""
        parts = []
        for at in range(bisect_left(self.buckets, value, key=_last_value), len(self.buckets)):
            bucket = self.buckets[at]
            begin = bisect_left(bucket.values, value)
            end = bisect_right(bucket.values, value, begin)
            parts.append(bucket.slots[begin:end].tobytes())
            if end < len(bucket.slots):
                break
        return b"".join(parts)

    def slots(self) -> IntArray:
        """The slot of each entry, (n,)."""
        return _joined([bucket.slots for bucket in self.buckets])


class Ranks:
    """Which ranks values have, and which slots ranks.

    Args:
        buckets: see ``FrozenEntries``.
    """

    def __init__(self, buckets: Sequence[_Bucket]) -> None:
        self._buckets = buckets
        self._begins = [0]
        for bucket in buckets:
            self._begins.append(self._begins[-1] + len(bucket.slots))

    def __len__(self) -> int:
        return self._begins[-1]

    def value(self, rank: int) -> Any:
        """The value of a rank."""
        at = bisect_right(self._begins, rank) - 1
        return self._buckets[at].values[rank - self._begins[at]]

    def below(self, value: Any) -> int:
        """How many entries have less than this value."""
        at = bisect_left(self._buckets, value, key=_last_value)
        if at == len(self._buckets):
            return len(self)
        return self._begins[at] + bisect_left(self._buckets[at].values, value)

    def up_to(self, value: Any) -> int:
        """How many entries have this value or less."""
        at = bisect_right(self._buckets, value, key=_last_value)
        if at == len(self._buckets):
            return len(self)
        return self._begins[at] + bisect_right(self._buckets[at].values, value)

    def mark(self, mask: BoolArray, begin: int, end: int, mark: bool) -> None:
        """Set ``mask`` (slots,) at the slots of the ranks from ``begin`` to before ``end``."""
        at = bisect_right(self._begins, begin) - 1
        parts = []
        while begin < end:
            offset = begin - self._begins[at]
            until = min(end, self._begins[at + 1])
            parts.append(self._buckets[at].slots[offset : offset + until - begin])
            begin, at = until, at + 1
        mask[_joined(parts)] = mark


class SortedEntries:
    """Pairs of a value and a slot, to change.

    Args:
        buckets: entries to begin with, in order.
    """

    def __init__(self, buckets: Sequence[_Bucket] = ()) -> None:
        self._buckets = list(buckets)
        # The last entry of each bucket.
        self._lasts = [bucket.last for bucket in buckets]

    @classmethod
    def of(cls, values: Sequence[Any], slots: IntArray) -> SortedEntries:
        """Entries that are sorted by value already.

        Args:
            values: list of str, or array of float64 or uint64, (n,).
            slots: (n,).
        """
        held = array("i", slots.astype(np.int32).tobytes())
        return cls(
            [
                _Bucket(values[at : at + BUCKET], held[at : at + BUCKET])
                for at in range(0, len(held), BUCKET)
            ]
        )

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def frozen(self) -> FrozenEntries:
        """What is there now."""
        return FrozenEntries(tuple(self._buckets))

    def add(self, value: Any, slot: int) -> Any:
        """Add an entry; returns its value, which equal strings of other entries share."""
        if not self._buckets:
            numbers = "Q" if isinstance(value, int) else "d"
            held = [value] if isinstance(value, str) else array(numbers, [value])
            self._replace(0, 0, [_Bucket(held, array("i", [slot]))])
            return value
        at = min(bisect_left(self._lasts, (value, slot)), len(self._lasts) - 1)
        bucket = self._buckets[at]
        place = bucket.place(value, slot)
        for near in (place - 1, place):
            if 0 <= near < len(bucket.slots) and bucket.values[near] == value:
                value = bucket.values[near]
        values, slots = bucket.values[:], bucket.slots[:]
        values.insert(place, value)
        slots.insert(place, slot)
        changed = _Bucket(values, slots)
        self._replace(at, at + 1, changed.divided() if len(slots) > BUCKET else (changed,))
        return value

    def remove(self, value: Any, slot: int) -> None:
        """Take out an entry that is there."""
        at = bisect_left(self._lasts, (value, slot))
        bucket = self._buckets[at]
        place = bucket.place(value, slot)
        values, slots = bucket.values[:], bucket.slots[:]
        del values[place], slots[place]
        end = at + 1
        if len(slots) < SMALL and end < len(self._buckets):
            following = self._buckets[end]
            if len(slots) + len(following.slots) <= BUCKET:
                values, slots = values + following.values, slots + following.slots
                end += 1
        self._replace(at, end, [_Bucket(values, slots)] if slots else [])

    def _replace(self, begin: int, end: int, buckets: Sequence[_Bucket]) -> None:
        self._buckets[begin:end] = buckets
        self._lasts[begin:end] = [bucket.last for bucket in buckets]


def _last_value(bucket: _Bucket) -> Any:
    return bucket.values[-1]


def _joined(parts: Sequence[array[int]]) -> IntArray:
    whole: IntArray = np.frombuffer(b"".join(parts), np.int32)
    return whole
