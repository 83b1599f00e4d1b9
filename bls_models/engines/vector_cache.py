"""Vectors of inputs that come again."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from cachetools import LRUCache

from bls_models.telemetry.metrics import CACHE_HITS, CACHE_MISSES, NO_METRICS, Metrics
from bls_models.vectors import FloatArray


class VectorCache:
    """The vectors of the latest inputs; methods may be called from any thread.

    Args:
        size: vectors kept at most.
        metrics: get hits and misses.
    """

    def __init__(self, size: int, metrics: Metrics = NO_METRICS) -> None:
        self._metrics = metrics
        self._vectors: LRUCache[Hashable, FloatArray] = LRUCache(size)
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> FloatArray | None:
        """The vector (D,) of an input, None where it is not known."""
        with self._lock:
            vector: FloatArray | None = self._vectors.get(key)
        self._metrics.add(CACHE_MISSES if vector is None else CACHE_HITS, 1, "vectors")
        return vector

    def put(self, key: Hashable, vector: FloatArray) -> None:
        """Keep an input's vector (D,)."""
        with self._lock:
            self._vectors[key] = vector
