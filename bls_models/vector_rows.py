"""The vectors of one modality: a FAISS index whose rows belong to product slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from bls_models.settings import cpu_count
from bls_models.vectors import FloatArray

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Owner of a row whose product was changed or deleted.
DEAD = -1

# Dead rows are skipped by searches; above this share (and number) they are removed.
MAX_DEAD_SHARE = 0.25
MIN_DEAD_ROWS = 256

# Above this share of the products, scoring all rows costs less than copying some of them.
MAX_COPIED_SHARE = 0.25

# Below this, a search is over before FAISS's threads have started.
PARALLEL_ROWS = 20_000


class VectorRows:
    """Unit vectors with their owners; scores are cosines.

    Args:
        dim: vector length.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._index = faiss.IndexFlatIP(dim)
        self._owners: IntArray = np.zeros(0, np.int64)
        self._rows: dict[int, IntArray] = {}
        self._dead = 0
        self._by_owner: _RowsByOwner | None = None

    def __len__(self) -> int:
        return int(self._index.ntotal) - self._dead

    @property
    def owner_count(self) -> int:
        """Slots that have any vector."""
        return len(self._rows)

    def replace(self, owners: list[int], vectors: list[FloatArray]) -> None:
        """Give each slot its new vectors, in place of those it had.

        Args:
            owners: product slots, each once.
            vectors: (views, dim) for each slot; 0 views are allowed.
        """
        self._by_owner = None
        for owner in owners:
            self._forget(owner)
        first = int(self._index.ntotal)
        counts = [len(block) for block in vectors]
        if sum(counts):
            self._index.add(np.ascontiguousarray(np.concatenate(vectors), np.float32))
            self._owners = np.append(self._owners, np.repeat(np.array(owners, np.int64), counts))
        for owner, count in zip(owners, counts, strict=True):
            if count:
                self._rows[owner] = np.arange(first, first + count)
                first += count
        if self._dead > max(MIN_DEAD_ROWS, MAX_DEAD_SHARE * self._index.ntotal):
            self._compact()

    def living(self) -> tuple[FloatArray, IntArray]:
        """A copy of the vectors (n, dim) and their owners (n,), those of one slot together."""
        grouped = self._grouped()
        return self._stored()[grouped.rows], self._owners[grouped.rows]

    def have(self, slots: IntArray) -> BoolArray:
        """Which of these slots (m,) have any vector."""
        return np.isin(slots, self._grouped().owners)

    def _forget(self, owner: int) -> None:
        rows = self._rows.pop(owner, None)
        if rows is not None:
            self._owners[rows] = DEAD
            self._dead += len(rows)

    def _compact(self) -> None:
        alive = np.flatnonzero(self._owners != DEAD)
        vectors = self._stored()[alive].copy()
        owners = self._owners[alive]
        self._index.reset()
        self._index.add(vectors)
        self._owners = owners
        # Rows of one slot were added together, so they still stand together.
        starts = np.flatnonzero(np.diff(owners, prepend=DEAD))
        self._rows = {
            int(owners[rows[0]]): rows
            for rows in np.split(np.arange(len(owners)), starts[1:])
            if len(rows)
        }
        self._dead = 0

    def _stored(self) -> FloatArray:
        """All rows (ntotal, dim) where FAISS keeps them; invalid after the next ``add``."""
        total = int(self._index.ntotal)
        if not total:
            return np.zeros((0, self._dim), np.float32)
        view: FloatArray = faiss.rev_swig_ptr(self._index.get_xb(), total * self._dim)
        return view.reshape(total, self._dim)

    def nearest(
        self, queries: FloatArray, count: int, slots: BoolArray | None
    ) -> tuple[FloatArray, IntArray]:
        """The best rows of each query.

        Args:
            queries: unit vectors (n, dim).
            count: rows wanted a query.
            slots: which product slots may appear (number of slots,); None: all.

        Returns:
            Cosines (n, count), descending, and owners (n, count); where fewer rows are
            eligible the rest is -inf and ``DEAD``.
        """
        parameters: Any = None
        if slots is not None or self._dead:
            eligible = self._owners != DEAD
            if slots is not None:
                eligible &= slots[self._owners]
            parameters = _only_rows(eligible)
        faiss.omp_set_num_threads(cpu_count() if len(self._owners) > PARALLEL_ROWS else 1)
        scores, rows = self._index.search(queries, count, params=parameters)
        if not len(self._owners):
            return np.full_like(scores, -np.inf), np.full_like(rows, DEAD)
        found = rows >= 0
        return (
            np.where(found, scores, -np.inf).astype(np.float32),
            np.where(found, self._owners[rows], DEAD),
        )

    def best_views(self, queries: FloatArray, slots: IntArray) -> FloatArray:
        """Exact cosine of each product's best view, for every query.

        Args:
            queries: unit vectors (n, dim).
            slots: product slots (m,).

        Returns:
            (n, m) FP32; NaN for a slot without vectors.
        """
        if len(slots) > MAX_COPIED_SHARE * len(self._rows):
            return self._best_of_all(queries, int(slots.max(initial=-1)) + 1)[:, slots]
        best = np.full((len(queries), len(slots)), np.nan, np.float32)
        positions = [at for at, slot in enumerate(slots) if int(slot) in self._rows]
        if not positions:
            return best
        rows = [self._rows[int(slots[at])] for at in positions]
        starts = np.cumsum([0] + [len(item) for item in rows[:-1]])
        cosines = queries @ self._stored()[np.concatenate(rows)].T  # (n, rows)
        best[:, positions] = np.maximum.reduceat(cosines, starts, axis=1)
        return best

    def _best_of_all(self, queries: FloatArray, slots: int) -> FloatArray:
        """``best_views`` of the slots below ``slots``, without copying any vector."""
        grouped = self._grouped()
        count = int(np.searchsorted(grouped.owners, slots))
        best = np.full((len(queries), slots), np.nan, np.float32)
        if count:
            cosines = queries @ self._stored().T  # (n, rows)
            groups = np.maximum.reduceat(cosines[:, grouped.rows], grouped.starts, axis=1)
            best[:, grouped.owners[:count]] = groups[:, :count]
        return best

    def _grouped(self) -> _RowsByOwner:
        if self._by_owner is None:
            alive = np.flatnonzero(self._owners != DEAD)
            rows = alive[np.argsort(self._owners[alive], kind="stable")]
            owners, starts = np.unique(self._owners[rows], return_index=True)
            self._by_owner = _RowsByOwner(rows, owners, starts)
        return self._by_owner


@dataclass(frozen=True)
class _RowsByOwner:
    """All living rows, those of one slot beside each other.

    Attributes:
        rows: (r,) row numbers.
        owners: (s,) slots, ascending.
        starts: (s,) where the rows of each slot begin in ``rows``.
    """

    rows: IntArray
    owners: IntArray
    starts: IntArray


def _only_rows(eligible: BoolArray) -> Any:
    """FAISS search parameters that skip all other rows."""
    # FAISS's own annotations are those of its C++ constructors, not of the Python ones.
    selectors: Any = faiss
    bitmap = np.packbits(eligible, bitorder="little")
    return selectors.SearchParameters(sel=selectors.IDSelectorBitmap(bitmap))
