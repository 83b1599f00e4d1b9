"""The vectors of one modality: rows in blocks, owned by product slots, and what searches them.

There is one copy of each vector. Rows of changed products are marked dead and given to later
products when nobody can still read them, so nothing is ever moved.

Small catalogues are scored as a whole. From a number of rows on, ``main`` proposes candidates; the
rows that it does not know yet (``delta``) are scored one by one. ``IndexUpkeep`` moves them over.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bls_models.index.lists.candidates import CandidateIndex
from bls_models.index.storage.frozen_rows import BLOCK_BITS, BLOCK_ROWS, NONE, FrozenRows
from bls_models.index.storage.pages import PagedArray
from bls_models.index.storage.readers import Readers
from bls_models.vectors import BoolArray, FloatArray, IntArray


class VectorRows:
    """Vectors by product slot. Not locked: the caller keeps calls from running together.

    Args:
        dim: vector length.
        readers: of those who hold ``frozen`` rows.
        probed_share: share of main's lists that a search looks through, 0 to 1.
    """

    def __init__(self, dim: int, readers: Readers, probed_share: float) -> None:
        self._dim = dim
        self._probed_share = probed_share
        self._readers = readers
        self._blocks: list[FloatArray] = []
        self._total = 0
        # By row: the slot that owns it, or NONE; the next row of that slot, or NONE.
        self._owners = PagedArray(NONE, np.int32, readers)
        self._following = PagedArray(NONE, np.int32, readers)
        # By slot: its first row, or NONE.
        self._first = PagedArray(NONE, np.int32, readers)
        self._free: list[int] = []
        self._living = 0
        # Living rows that main does not hold; none without main. Never changed, but replaced.
        self._delta = np.zeros(0, np.int32)
        self._main: CandidateIndex | None = None
        # What will be main, and rows that came since it was begun.
        self._building: CandidateIndex | None = None
        self._came = np.zeros(0, np.int32)
        # The same for all readers between two changes.
        self._frozen: FrozenRows | None = None
        # Rows that nobody reads any more, but that main or building still hold.
        self.stale: list[int] = []

    def __len__(self) -> int:
        return self._living

    @property
    def dim(self) -> int:
        """Vector length."""
        return self._dim

    @property
    def type(self) -> str:
        """FAISS's name of what searches them."""
        return "Flat" if self._main is None else self._main.type

    @property
    def main(self) -> CandidateIndex | None:
        """What proposes candidates, if anything does."""
        return self._main

    @property
    def delta_count(self) -> int:
        """Living rows that ``main`` does not hold yet."""
        return len(self._delta)

    def frozen(self) -> FrozenRows:
        """What is there now; the caller is a reader as long as it uses it."""
        if self._frozen is None:
            self._frozen = self._frozen_anew()
        return self._frozen

    def _frozen_anew(self) -> FrozenRows:
        return FrozenRows(
            self._dim,
            self._total,
            tuple(self._blocks),
            self._owners.frozen(),
            self._following.frozen(),
            self._first.frozen(),
            self._main,
            self._delta,
            self._probed_share,
        )

    def replace(self, slots: Iterable[int], vectors: list[FloatArray]) -> None:
        """Give each slot its new vectors, in place of those it had.

        Args:
            slots: product slots, each once.
            vectors: (views, dim) for each slot; 0 views are allowed.

        Raises:
            ValueError: vectors of another length; nothing is changed.
        """
        owners = np.fromiter(slots, np.int32)
        for block in vectors:
            if block.ndim != 2 or block.shape[1] != self._dim:
                raise ValueError(f"vectors of shape {block.shape}, expected (views, {self._dim})")
        self._frozen = None
        self._first.extend(int(owners.max(initial=-1)) + 1)
        self._forget(owners)
        counts = np.array([len(block) for block in vectors], np.int32)
        if counts.sum():
            self._put(np.repeat(owners, counts), np.concatenate(vectors))

    def fill(self, owners: IntArray, vectors: FloatArray) -> None:
        """Take over many rows at once; those of one slot need not stand together.

        Args:
            owners: (r,) slots.
            vectors: (r, dim), read block by block; may be mapped from a file.
        """
        self._frozen = None
        self._first.extend(int(owners.max(initial=-1)) + 1)
        if len(owners):
            # The rows are to be the vectors as they come, chained by owner.
            self._put(owners, vectors, np.argsort(owners, kind="stable"))

    def set_main(self, index: CandidateIndex | None) -> None:
        """Search with this from now on, or score all rows without any; looks at every row."""
        self._frozen = None
        self._main = index
        self._delta = np.zeros(0, np.int32)
        if index is not None:
            every = np.arange(self._total, dtype=np.int32)
            rows = every[self._owners[every] != NONE]
            self._delta = rows[~index.holds(rows)]
        self.release_stale()

    def begin_building(self, index: CandidateIndex) -> None:
        """Note from now on which rows come that ``index``, the next main, does not hold."""
        self._building = index
        self._came = np.zeros(0, np.int32)

    def came_since(self) -> IntArray:
        """Living rows that came since ``begin_building`` and that it does not hold."""
        return self._came

    def end_building(self, use: bool) -> None:
        """Search with what was built, if it is to be used: it holds all rows but what came."""
        self._frozen = None
        if use and self._building is not None:
            self._main, self._delta = self._building, self._came
        self._building = None
        self._came = np.zeros(0, np.int32)
        self.release_stale()

    def lists_grew(self) -> None:
        """``main``, or what is built, holds more rows than before."""
        self._frozen = None
        if self._main is not None:
            self._delta = self._delta[~self._main.holds(self._delta)]
        if self._building is not None:
            self._came = self._came[~self._building.holds(self._came)]

    def remove_stale(self) -> None:
        """Take stale rows out of what holds them; not under the index's lock."""
        stale = np.array(self.stale, np.int32)
        for index in (self._main, self._building):
            if index is not None:
                index.remove(stale)

    def release_stale(self) -> None:
        """Give out those stale rows again that no index holds any more."""
        rows = np.array(self.stale, np.int32)
        held = self._held(rows)
        self._free.extend(rows[~held].tolist())
        self.stale = rows[held].tolist()

    # --- rows -----------------------------------------------------------------------------

    def _forget(self, slots: IntArray) -> None:
        rows = self._first[slots]
        dead: list[IntArray] = []
        while len(rows := rows[rows != NONE]):
            dead.append(rows)
            rows = self._following[rows]
        if dead:
            gone = np.concatenate(dead)
            self._first[slots] = NONE
            self._owners[gone] = NONE
            self._living -= len(gone)
            self._delta = self._delta[self._owners[self._delta] != NONE]
            self._came = self._came[self._owners[self._came] != NONE]
            self._readers.retire(lambda: self._give_back(gone))

    def _give_back(self, rows: IntArray) -> None:
        held = self._held(rows)
        self.stale.extend(rows[held].tolist())
        self._free.extend(rows[~held].tolist())

    def _held(self, rows: IntArray) -> BoolArray:
        held = np.zeros(len(rows), np.bool_)
        for index in (self._main, self._building):
            if index is not None:
                held |= index.holds(rows)
        return held

    def _put(self, owners: IntArray, vectors: FloatArray, order: IntArray | None = None) -> None:
        """Store vectors (r, dim) for their slots (r,).

        Args:
            owners: slots without rows, those of one slot together in ``order``.
            vectors: in the order of ``owners``.
            order: (r,) places in ``owners``, sorted by slot; None: it is sorted already.
        """
        rows = self._take_rows(len(owners))
        numbers = rows >> BLOCK_BITS
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            self._blocks[number][rows[places] & (BLOCK_ROWS - 1)] = vectors[places]
        self._owners[rows] = owners
        chained, of = (rows, owners) if order is None else (rows[order], owners[order])
        same = of[1:] == of[:-1]
        following = np.full(len(rows), NONE, np.int32)
        following[:-1][same] = chained[1:][same]
        self._following[chained] = following
        starts = np.flatnonzero(np.concatenate([[True], ~same]))
        self._first[of[starts]] = chained[starts]
        self._living += len(rows)
        if self._main is not None:
            self._delta = np.append(self._delta, rows)
        if self._building is not None:
            self._came = np.append(self._came, rows)

    def _take_rows(self, count: int) -> IntArray:
        """Rows that nobody uses, those that were given back first, in their order.

        So views of a product follow each other in rows as in what came, also in a snapshot.
        """
        reused = min(count, len(self._free))
        rows = sorted(self._free[len(self._free) - reused :])
        del self._free[len(self._free) - reused :]
        new = np.arange(self._total, self._total + count - reused, dtype=np.int32)
        self._total += len(new)
        while len(self._blocks) * BLOCK_ROWS < self._total:
            # Memory comes from the system when rows are written, not before.
            self._blocks.append(np.empty((BLOCK_ROWS, self._dim), np.float32))
        self._owners.extend(self._total)
        self._following.extend(self._total)
        return np.concatenate([np.array(rows, np.int32), new])
