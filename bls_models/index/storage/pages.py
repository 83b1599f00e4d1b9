"""Arrays of which others keep the state of a moment while they change: copied page by page.

An array's pages lie in a pool, and a table names the place of each. Who reads has a copy of the
table (some bytes a page). Who writes copies the pages that a reader may still have, and no others,
so a change costs what it touches, however long the array is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from bls_models.index.storage.readers import Readers
from bls_models.vectors import IntArray

PAGE_BITS = 12
PAGE = 1 << PAGE_BITS

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class FrozenPages(Generic[T]):
    """An array as it was at one moment.

    Attributes:
        pool: (places, PAGE).
        table: (pages,) place of each page in the pool.
    """

    pool: npt.NDArray[T]
    table: IntArray

    def __len__(self) -> int:
        return len(self.table) << PAGE_BITS

    def __getitem__(self, at: IntArray) -> npt.NDArray[T]:
        """The values at these places (n,), all below the length."""
        found: npt.NDArray[T] = self.pool.reshape(-1)[_in_pool(self.table, at)]
        return found

    def one(self, at: int) -> T:
        """The value at one place below the length, in a fraction of the time of some."""
        value: T = self.pool[self.table[at >> PAGE_BITS], at & (PAGE - 1)]
        return value

    def part(self, begin: int, end: int) -> npt.NDArray[T]:
        """The values from ``begin``, where a page begins, to before ``end``; not to be changed."""
        pages = self.table[begin >> PAGE_BITS : -(-end // PAGE)]
        # One page is shown as it is, which spares small arrays the copy.
        values = self.pool[pages[0]] if len(pages) == 1 else self.pool[pages].reshape(-1)
        wanted: npt.NDArray[T] = values[: end - begin]
        return wanted


class PagedArray(Generic[T]):
    """An array that grows. Not locked: the caller keeps calls from running together.

    Args:
        missing: what stands where nothing was set.
        dtype: of the values.
        readers: of those who hold ``frozen`` states.
    """

    def __init__(self, missing: object, dtype: type[T], readers: Readers) -> None:
        self._missing = missing
        self._readers = readers
        self._pool: npt.NDArray[T] = np.empty((0, PAGE), dtype)
        self._table = np.empty(0, np.int32)
        # By page: how many readers had begun when it was copied; later ones have it.
        self._copied = np.empty(0, np.int64)
        self._free: list[int] = []

    def frozen(self) -> FrozenPages[T]:
        """What is there now; the caller is a reader as long as it uses it."""
        return FrozenPages(self._pool, self._table.copy())

    def __len__(self) -> int:
        return len(self._table) << PAGE_BITS

    def __getitem__(self, at: IntArray) -> npt.NDArray[T]:
        """The values at these places (n,), all below the length."""
        found: npt.NDArray[T] = self._pool.reshape(-1)[_in_pool(self._table, at)]
        return found

    def __setitem__(self, at: IntArray, values: object) -> None:
        """Set the values at these places (n,), all below the length."""
        self._own(np.unique(at >> PAGE_BITS))
        self._pool.reshape(-1)[_in_pool(self._table, at)] = values

    def extend(self, length: int) -> None:
        """Be at least so long."""
        pages = -(-length // PAGE) - len(self._table)
        if pages > 0:
            places = self._places(pages)
            self._pool[places] = self._missing
            self._table = np.append(self._table, places)
            self._copied = np.append(self._copied, np.full(pages, self._readers.number))

    def _own(self, pages: IntArray) -> None:
        """Copy those of these pages (p,) that a reader may have."""
        shared = pages[self._copied[pages] < self._readers.latest]
        if not len(shared):
            return
        old, new = self._table[shared], self._places(len(shared))
        self._pool[new] = self._pool[old]
        self._table[shared] = new
        self._copied[shared] = self._readers.number
        self._readers.retire(lambda: self._free.extend(old.tolist()))

    def _places(self, count: int) -> IntArray:
        """Places in the pool that nobody uses."""
        if len(self._free) < count:
            before = len(self._pool)
            pool = np.empty((max(2 * before, before + count), PAGE), self._pool.dtype)
            # Who reads keeps the pool that it has.
            pool[:before] = self._pool
            self._pool = pool
            self._free = [*range(len(pool) - 1, before - 1, -1), *self._free]
        places = self._free[len(self._free) - count :]
        del self._free[len(self._free) - count :]
        return np.array(places, np.int32)


def _in_pool(table: IntArray, at: IntArray) -> npt.NDArray[np.int64]:
    places: npt.NDArray[np.int64] = (table[at >> PAGE_BITS].astype(np.int64) << PAGE_BITS) | (
        at & (PAGE - 1)
    )
    return places
