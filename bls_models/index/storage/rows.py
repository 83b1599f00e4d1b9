"""The vectors of one modality: rows in blocks, owned by product slots, and what searches them.

There is one copy of each vector. Rows of changed products are marked dead and given to later
products when nobody can still read them, so nothing is ever moved.

Small catalogues are scored as a whole. From a number of rows on, ``main`` proposes candidates; the
rows that it does not know yet (``delta``) are scored one by one. ``IndexUpkeep`` moves them over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from bls_models.index.growing_arrays import grown
from bls_models.index.lists.candidates import CandidateIndex
from bls_models.index.storage.frozen_rows import BLOCK_BITS, BLOCK_ROWS, NONE, FrozenRows
from bls_models.index.storage.readers import Readers
from bls_models.vectors import BoolArray, FloatArray, IntArray


@dataclass
class _Table:
    """Who owns which row; copied before a change while somebody reads it.

    Attributes:
        owners: (rows or more,) product slot of each row, or ``NONE``.
        following: (rows or more,) next row of the same slot, or ``NONE``.
        first: (slots or more,) first row of each slot, or ``NONE``.
    """

    owners: IntArray = field(default_factory=lambda: np.full(0, NONE, np.int32))
    following: IntArray = field(default_factory=lambda: np.full(0, NONE, np.int32))
    first: IntArray = field(default_factory=lambda: np.full(0, NONE, np.int32))

    def copy(self) -> _Table:
        return _Table(self.owners.copy(), self.following.copy(), self.first.copy())


class VectorRows:
    """Unit vectors by product slot. Not locked: the caller keeps calls from running together.

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
        self._table = _Table()
        self._table_reader = 0
        self._free: list[int] = []
        self._living = 0
        # Living rows that main does not hold; none without main.
        self._delta: set[int] = set()
        self._main: CandidateIndex | None = None
        self.building: CandidateIndex | None = None
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
        table = self._table
        return FrozenRows(
            self._dim,
            self._total,
            tuple(self._blocks),
            table.owners,
            table.following,
            table.first,
            self._main,
            np.fromiter(self._delta, np.int32, len(self._delta)),
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
        self._before_change(int(owners.max(initial=-1)) + 1)
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
        self._before_change(int(owners.max(initial=-1)) + 1)
        if len(owners):
            # The rows are to be the vectors as they come, chained by owner.
            self._put(owners, vectors, np.argsort(owners, kind="stable"))

    def set_main(self, index: CandidateIndex | None) -> None:
        """Search with this from now on, or score all rows without any."""
        self._main = index
        self._delta = set()
        if index is not None:
            rows = np.flatnonzero(self._table.owners[: self._total] != NONE).astype(np.int32)
            self._delta.update(rows[~index.holds(rows)].tolist())
        self.release_stale()

    def main_grew(self) -> None:
        """``main`` holds more rows than before."""
        if self._main is not None:
            delta = np.fromiter(self._delta, np.int32, len(self._delta))
            self._delta = set(delta[~self._main.holds(delta)].tolist())

    def release_stale(self) -> None:
        """Give out those stale rows again that no index holds any more."""
        rows = np.array(self.stale, np.int32)
        held = self._held(rows)
        self._free.extend(rows[~held].tolist())
        self.stale = rows[held].tolist()

    # --- rows -----------------------------------------------------------------------------

    def _before_change(self, slot_count: int) -> None:
        """Make room for slots, in arrays that nobody reads."""
        if self._readers.latest > self._table_reader:
            self._table = self._table.copy()
        self._table_reader = self._readers.number
        table = self._table
        table.first = grown(table.first, slot_count, NONE)

    def _forget(self, slots: IntArray) -> None:
        table = self._table
        rows = table.first[slots]
        table.first[slots] = NONE
        dead: list[IntArray] = []
        while len(rows := rows[rows != NONE]):
            dead.append(rows)
            rows = table.following[rows]
        if dead:
            gone = np.concatenate(dead)
            table.owners[gone] = NONE
            self._living -= len(gone)
            self._delta.difference_update(gone.tolist())
            self._readers.retire(lambda: self._give_back(gone))

    def _give_back(self, rows: IntArray) -> None:
        held = self._held(rows)
        self.stale.extend(rows[held].tolist())
        self._free.extend(rows[~held].tolist())

    def _held(self, rows: IntArray) -> BoolArray:
        held = np.zeros(len(rows), np.bool_)
        for index in (self._main, self.building):
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
        table = self._table
        table.owners[rows] = owners
        chained, of = (rows, owners) if order is None else (rows[order], owners[order])
        same = of[1:] == of[:-1]
        table.following[chained] = NONE
        table.following[chained[:-1][same]] = chained[1:][same]
        starts = np.flatnonzero(np.concatenate([[True], ~same]))
        table.first[of[starts]] = chained[starts]
        self._living += len(rows)
        if self._main is not None:
            self._delta.update(rows.tolist())

    def _take_rows(self, count: int) -> IntArray:
        """Rows that nobody uses, those that were given back first."""
        reused = min(count, len(self._free))
        rows = self._free[len(self._free) - reused :]
        del self._free[len(self._free) - reused :]
        new = np.arange(self._total, self._total + count - reused, dtype=np.int32)
        self._total += len(new)
        while len(self._blocks) * BLOCK_ROWS < self._total:
            # Memory comes from the system when rows are written, not before.
            self._blocks.append(np.empty((BLOCK_ROWS, self._dim), np.float32))
        table = self._table
        table.owners = grown(table.owners, self._total, NONE)
        table.following = grown(table.following, self._total, NONE)
        return np.concatenate([np.array(rows, np.int32), new])
