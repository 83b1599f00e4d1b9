"""The vectors of one modality as they were at one moment, and the scores of products by them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import faiss
import numpy as np

from bls_models.cpus import cpu_count
from bls_models.index.lists.candidates import CandidateIndex
from bls_models.index.storage.pages import FrozenPages
from bls_models.index.view_scores import POWER, Powers, view_scores
from bls_models.vectors import BoolArray, FloatArray, IntArray

# Owner of a row whose product was changed or deleted; the end of a chain of rows.
NONE = -1

# Rows of a block, a power of two: blocks are allocated as a whole and never move.
BLOCK_BITS = 14
BLOCK_ROWS = 1 << BLOCK_BITS

# Rows gathered at a time, so that the copy stays in the processor's cache.
GATHERED_ROWS = 2048
# Below this, a search is over before other threads have started.
PARALLEL_ROWS = 2 * BLOCK_ROWS


@dataclass(frozen=True)
class FrozenRows:
    """Vectors with their owners. Whoever holds it reads without a lock.

    Attributes:
        dim: vector length.
        total: rows, dead ones among them.
        blocks: (BLOCK_ROWS, dim) each; rows are numbered through.
        owners: product slot of each row, ``NONE`` for a dead one.
        following: the next row of the same product, or ``NONE``.
        first: first row of each product slot, or ``NONE``.
        main: proposes candidates among most rows; None where there are few rows.
        delta: (d,) living rows that ``main`` does not know yet.
        probed_share: share of main's lists that a search looks through.
    """

    dim: int
    total: int
    blocks: tuple[FloatArray, ...]
    owners: FrozenPages[np.int32]
    following: FrozenPages[np.int32]
    first: FrozenPages[np.int32]
    main: CandidateIndex | None
    delta: IntArray
    probed_share: float

    def have(self, slots: IntArray) -> BoolArray:
        """Which of these slots (m,) have any vector."""
        known: BoolArray = self._first_rows(slots) != NONE
        return known

    def scores_of_all(
        self, queries: FloatArray, slot_count: int, powers: Powers = POWER
    ) -> FloatArray:
        """Exact score of every product's views (``bls_models.index.view_scores``).

        Args:
            queries: vectors (n, dim).
            slot_count: how many product slots there are.
            powers: see ``view_scores``.

        Returns:
            (n, slot_count) FP32; NaN for a slot without vectors.
        """
        return view_scores(
            self.all_cosines(queries), self.owners.part(0, self.total), slot_count, powers
        )

    def all_cosines(self, queries: FloatArray) -> FloatArray:
        """Exact cosines (n, total) of queries (n, dim) and all rows, dead ones among them."""
        cosines = np.empty((len(queries), self.total), np.float32)

        def score(number: int) -> None:
            start = number << BLOCK_BITS
            end = min(start + BLOCK_ROWS, self.total)
            cosines[:, start:end] = _inner_products(queries, self.blocks[number][: end - start])

        numbers = range(-(-self.total // BLOCK_ROWS))
        if self.total > PARALLEL_ROWS and cpu_count() > 1:
            list(_threads().map(score, numbers))
        else:
            for number in numbers:
                score(number)
        return cosines

    def cosines(self, queries: FloatArray, rows: IntArray) -> FloatArray:
        """Exact cosines (n, r) of queries (n, dim) and some rows (r,)."""
        cosines = np.empty((len(queries), len(rows)), np.float32)
        for at in range(0, len(rows), GATHERED_ROWS):
            part = slice(at, at + GATHERED_ROWS)
            cosines[:, part] = _inner_products(queries, self.take(rows[part]))
        return cosines

    def take(self, rows: IntArray) -> FloatArray:
        """A copy (r, dim) of some rows (r,)."""
        taken = np.empty((len(rows), self.dim), np.float32)
        numbers = rows >> BLOCK_BITS
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            taken[places] = self.blocks[number][rows[places] & (BLOCK_ROWS - 1)]
        return taken

    def mean_of(self, slot: int) -> FloatArray:
        """The mean (1, dim) of a slot's vectors; (0, dim) where it has none."""
        vectors = self.vectors_of(slot)
        return vectors.mean(axis=0, keepdims=True) if len(vectors) else vectors

    def vectors_of(self, slot: int) -> FloatArray:
        """A copy (n, dim) of a slot's vectors, in their order."""
        row = int(self.first.one(slot)) if slot < len(self.first) else NONE
        found = []
        while row != NONE:
            found.append(self.blocks[row >> BLOCK_BITS][row & (BLOCK_ROWS - 1)])
            row = int(self.following.one(row))
        return np.array(found, np.float32).reshape(-1, self.dim)

    def rows_of(self, slots: IntArray) -> tuple[IntArray, IntArray]:
        """All rows (r,) of these slots (m,), with the places (r,) of their owners in ``slots``."""
        places = np.arange(len(slots), dtype=np.int32)
        rows = self._first_rows(slots)
        found: list[tuple[IntArray, IntArray]] = []
        while True:
            there = rows != NONE
            rows, places = rows[there], places[there]
            found.append((rows, places))
            if not len(rows):
                break
            rows = self.following[rows]
        return np.concatenate([item[0] for item in found]), np.concatenate(
            [item[1] for item in found]
        )

    def nearest(
        self, queries: FloatArray, count: int, slots: BoolArray | None, thorough: bool = False
    ) -> tuple[FloatArray, IntArray]:
        """Rows that are probably the nearest of each query.

        Args:
            queries: vectors (n, dim).
            count: rows wanted a query.
            slots: which product slots may appear (number of slots,); None: all.
            thorough: look through all of main's lists.

        Returns:
            Cosines (n, k) and rows (n, k) in any order; where fewer are found the rest is -inf
            and ``NONE``. Those that come from ``main`` are approximate.
        """
        eligible = None if slots is None else self._eligible(slots)
        if self.main is None:
            scores = self.all_cosines(queries)
            scores[:, self.owners.part(0, self.total) == NONE] = -np.inf
            if eligible is not None:
                scores[:, ~eligible] = -np.inf
            rows = np.broadcast_to(np.arange(self.total, dtype=np.int32), scores.shape)
        else:
            delta = self.delta if eligible is None else self.delta[eligible[self.delta]]
            scores, rows = self.main.search(
                queries, count, 1.0 if thorough else self.probed_share, eligible
            )
            # It is shared, and may have rows by now that these rows do not; and it may still know
            # one that is dead.
            rows = np.where(rows < self.total, rows, NONE)
            gone = (rows == NONE) | (self.owners[rows] == NONE)
            scores = np.concatenate(
                [np.where(gone, -np.inf, scores), self.cosines(queries, delta)], axis=1
            )
            rows = np.concatenate([rows, np.tile(delta, (len(queries), 1))], axis=1)
        if scores.shape[1] > count:
            best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
            scores = np.take_along_axis(scores, best, axis=1)
            rows = np.take_along_axis(rows, best, axis=1)
        rows = np.where(np.isneginf(scores), NONE, rows)
        return scores.astype(np.float32), rows.astype(np.int32)

    def living(self) -> Iterator[IntArray]:
        """The rows that have an owner, block by block."""
        for start in range(0, self.total, BLOCK_ROWS):
            end = min(start + BLOCK_ROWS, self.total)
            yield start + np.flatnonzero(self.owners.part(start, end) != NONE).astype(np.int32)

    def _first_rows(self, slots: IntArray) -> IntArray:
        known = slots < len(self.first)
        rows = np.full(len(slots), NONE, np.int32)
        rows[known] = self.first[slots[known]]
        return rows

    def _eligible(self, slots: BoolArray) -> BoolArray:
        """Which rows (total,) belong to these slots."""
        owners = self.owners.part(0, self.total)
        eligible: BoolArray = slots[owners] & (owners != NONE)
        return eligible


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cpu_count(), thread_name_prefix="index-search")


def _inner_products(queries: FloatArray, vectors: FloatArray) -> FloatArray:
    """FAISS's exact scan: all inner products (n, m) of (n, dim) and (m, dim)."""
    products: FloatArray = faiss.pairwise_distances(
        np.ascontiguousarray(queries), vectors, faiss.METRIC_INNER_PRODUCT
    )
    return products
