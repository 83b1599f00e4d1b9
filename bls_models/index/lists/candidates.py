"""Proposes candidates among many vectors: inverted lists of 8-bit codes (FAISS IVF, SQ8).

The codes only decide which rows are looked at; scores are computed from the vectors themselves.
Lists, and not a graph (HNSW), because rows can be added and taken out in small steps, a filter
costs little, and building is several times cheaper (docs/benchmarks.md has the figures).
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from bls_models.cpus import cpu_count
from bls_models.index.growing_arrays import grown
from bls_models.index.lists.device import CPU, FaissDevice
from bls_models.vectors import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)


# List of a row that the index does not hold.
NOT_HELD = -1

# Twice the square root of the rows, as a power of two: then finding the lists of a query costs
# about as much as looking through them.
LISTS_PER_ROOT = 2.0
TRAINING_ROWS_PER_LIST = 40
TRAINING_ROUNDS = 8
MIN_PROBES = 16
# Under a filter so many times the eligible rows are looked at as there would be rows without one:
# what a filter leaves may lie apart from the query.
FILTERED_PROBES = 2


class CandidateIndex:
    """Approximate nearest rows; any thread may call it.

    A search waits for a change in small steps (some milliseconds), never for training.

    Args:
        trained: a FAISS IVF index without rows, as ``train`` or ``from_bytes`` make it.
        device: where searches run.
    """

    def __init__(self, trained: Any, device: FaissDevice = CPU) -> None:
        self._index = trained
        self._device = device
        self._lock = threading.Lock()
        # By row; grows with the rows.
        self._lists: IntArray = np.full(0, NOT_HELD, np.int32)
        self.trained_rows = 0
        self._on_device = device.placed(trained)

    @classmethod
    def train(cls, rows: int, sample: FloatArray, device: FaissDevice = CPU) -> CandidateIndex:
        """An empty index for so many rows.

        Args:
            rows: rows that it is going to hold.
            sample: (s, dim) vectors to learn lists and codes from.
            device: where searches will run.
        """
        lists = list_count(rows)
        faiss.omp_set_num_threads(max(1, cpu_count() // 2))
        index: Any = faiss.index_factory(
            sample.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter = TRAINING_ROUNDS
        # Fewer than its rule of thumb are enough, and it would say so on the console.
        index.cp.min_points_per_centroid = 1
        index.train(sample)
        made = cls(index, device)
        made.trained_rows = rows
        return made

    @classmethod
    def from_bytes(
        cls, content: npt.NDArray[np.uint8], trained_rows: int, device: FaissDevice = CPU
    ) -> CandidateIndex:
        """An empty index that was trained before.

        Raises:
            RuntimeError: the bytes are not those of ``to_bytes``.
        """
        made = cls(faiss.deserialize_index(np.array(content)), device)
        made.trained_rows = trained_rows
        return made

    def to_bytes(self) -> npt.NDArray[np.uint8]:
        """What was trained, without rows, for ``from_bytes``."""
        with self._lock:
            # The lists are left out by putting others in their place for the moment.
            empty = faiss.clone_index(self._index.quantizer)
            like = faiss.IndexIVFScalarQuantizer(
                empty,
                self._index.d,
                self._index.nlist,
                self._index.sq.qtype,
                faiss.METRIC_INNER_PRODUCT,
                self._index.by_residual,
            )
            faiss.copy_array_to_vector(
                faiss.vector_to_array(self._index.sq.trained), like.sq.trained
            )
            like.is_trained = True
            content: npt.NDArray[np.uint8] = faiss.serialize_index(like)
        return content

    @property
    def type(self) -> str:
        """FAISS's name of the kind of index."""
        return f"IVF{self._index.nlist},SQ8{self._device.suffix}"

    @property
    def row_count(self) -> int:
        """Rows held, those that are dead by now among them."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Vector length."""
        return int(self._index.d)

    @property
    def list_total(self) -> int:
        """Number of lists."""
        return int(self._index.nlist)

    def holds(self, rows: IntArray) -> BoolArray:
        """Which of these rows (r,) are held."""
        held: BoolArray = self.lists(rows) != NOT_HELD
        return held

    def lists(self, rows: IntArray) -> IntArray:
        """The list of each of these rows (r,), ``NOT_HELD`` for one that is not held."""
        lists = self._lists
        known = rows < len(lists)
        found = np.full(len(rows), NOT_HELD, np.int32)
        found[known] = lists[rows[known]]
        return found

    def assign(self, vectors: FloatArray) -> IntArray:
        """The list that each vector (r, dim) belongs to; the costly part of adding."""
        faiss.omp_set_num_threads(max(1, cpu_count() // 2))
        _, lists = self._index.quantizer.search(vectors, 1)
        nearest: IntArray = lists[:, 0].astype(np.int32)
        return nearest

    def add(self, rows: IntArray, vectors: FloatArray, lists: IntArray) -> None:
        """Hold these rows (r,), which are not held yet.

        Args:
            rows: row numbers.
            vectors: (r, dim).
            lists: (r,) from ``assign``.
        """
        if not len(rows):
            return
        vectors = np.ascontiguousarray(vectors, np.float32)
        ids, wide = rows.astype(np.int64), lists.astype(np.int64)
        faiss.omp_set_num_threads(1)
        with self._lock:
            self._index.add_core(
                len(rows),
                faiss.swig_ptr(vectors),
                faiss.swig_ptr(ids),
                faiss.swig_ptr(wide),
            )
            self._device.add(self._on_device, vectors, ids)
            self._lists = grown(self._lists, int(rows.max()) + 1, NOT_HELD)
            self._lists[rows] = lists

    def remove(self, rows: IntArray) -> None:
        """Let go of these rows (r,), list by list; those that are not held are no error."""
        rows = rows[self.holds(rows)]
        if not len(rows):
            return
        gone = np.zeros(len(self._lists), np.bool_)
        gone[rows] = True
        inverted = self._index.invlists
        for number in np.unique(self._lists[rows]).tolist():
            with self._lock:
                size = inverted.list_size(number)
                ids = faiss.rev_swig_ptr(inverted.get_ids(number), size)
                codes = faiss.rev_swig_ptr(
                    inverted.get_codes(number), size * inverted.code_size
                ).reshape(size, inverted.code_size)
                kept = np.flatnonzero(~gone[ids])
                kept_ids, kept_codes = ids[kept], codes[kept]
                inverted.resize(number, len(kept))
                if len(kept):
                    inverted.update_entries(
                        number,
                        0,
                        len(kept),
                        faiss.swig_ptr(kept_ids),
                        faiss.swig_ptr(kept_codes.reshape(-1)),
                    )
                self._index.ntotal -= size - len(kept)
        # A GPU's lists cannot be changed, only be copied anew.
        placed = self._device.placed(self._index)
        with self._lock:
            self._on_device = placed
            self._lists[rows] = NOT_HELD

    def search(
        self, queries: FloatArray, count: int, probed_share: float, eligible: BoolArray | None
    ) -> tuple[FloatArray, IntArray]:
        """Probably the nearest rows.

        Args:
            queries: unit vectors (n, dim).
            count: rows wanted a query.
            probed_share: share of the lists that are looked through, 0 to 1.
            eligible: (rows,) which rows may appear; None: all.

        Returns:
            Approximate cosines (n, count), descending, and rows (n, count); -inf and -1 where
            there are no more.
        """
        probes = max(MIN_PROBES, round(probed_share * self.list_total))
        if eligible is not None:
            share = np.count_nonzero(eligible) / max(1, len(eligible))
            probes = round(FILTERED_PROBES * probes / max(share, 1e-9))
        probes = min(probes, self.list_total)
        faiss.omp_set_num_threads(cpu_count())
        with self._lock:
            scores, rows = self._device.search(
                self._on_device, self._index, queries, count, probes, eligible
            )
        return np.where(rows < 0, -np.inf, scores).astype(np.float32), rows.astype(np.int32)


def list_count(rows: int) -> int:
    """How many lists suit so many rows."""
    wanted = LISTS_PER_ROOT * np.sqrt(max(rows, 1))
    return int(2 ** max(0, round(np.log2(wanted))))
