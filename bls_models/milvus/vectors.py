"""Vectors of products by the write that stored them, from the database: scores are made of them."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bls_models.bundle import Bundle
from bls_models.database.embeddings import StoredVectors, stored_vectors
from bls_models.database.store import Document, Store
from bls_models.metric.metric import Metric

logger = logging.getLogger(__name__)

# Writes of a find: with ten pictures each some 13 MB.
WRITES_AT_ONCE = 256
# What Python keeps of a write beside its numbers.
WRITE_BYTES = 1000


class ProductVectors:
    """Vectors of writes, those that were asked for last in memory; for any thread.

    What a write stored never changes, so nothing of it grows old. It is forgotten when others
    need the memory.

    Args:
        store: where the vectors are.
        bundle: whose they must be.
        metric: what image vectors become; None: they stay as they are.
        most_bytes: memory that may be taken.
    """

    def __init__(
        self, store: Store, bundle: Bundle, metric: Metric | None, most_bytes: int
    ) -> None:
        self._store = store
        self._bundle = bundle
        self._metric = metric
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        # By write, the one that was asked for last at the end.
        self._known: OrderedDict[str, StoredVectors] = OrderedDict()
        self._bytes = 0

    def of(self, write_ids: Iterable[str]) -> dict[str, StoredVectors]:
        """The vectors of some writes; those that are not stored any more are left out.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        found: dict[str, StoredVectors] = {}
        missing = []
        with self._lock:
            for write_id in dict.fromkeys(write_ids):
                known = self._known.get(write_id)
                if known is None:
                    missing.append(write_id)
                else:
                    self._known.move_to_end(write_id)
                    found[write_id] = known
        for start in range(0, len(missing), WRITES_AT_ONCE):
            read = self._read(missing[start : start + WRITES_AT_ONCE])
            self._keep(read)
            found |= read
        return found

    def _read(self, write_ids: Sequence[str]) -> dict[str, StoredVectors]:
        by_write: dict[str, list[Document]] = {}
        for embedding in self._store.find_embeddings(write_ids):
            by_write.setdefault(embedding["write_id"], []).append(embedding)
        read = {}
        for write_id, embeddings in by_write.items():
            try:
                vectors = stored_vectors(embeddings, self._bundle)
            except ValueError as error:
                # It was changed by hand; the sync check tells of it.
                logger.warning("write %s has a damaged vector (%s)", write_id, error)
                continue
            if vectors is None:
                continue
            if self._metric is not None:
                vectors = replace(vectors, images=self._metric.rows(vectors.images))
            read[write_id] = vectors
        return read

    def _keep(self, read: dict[str, StoredVectors]) -> None:
        with self._lock:
            for write_id, vectors in read.items():
                if write_id not in self._known:
                    self._known[write_id] = vectors
                    self._bytes += _bytes_of(vectors)
            while self._bytes > self._most_bytes:
                _, oldest = self._known.popitem(last=False)
                self._bytes -= _bytes_of(oldest)


def _bytes_of(vectors: StoredVectors) -> int:
    return vectors.images.nbytes + vectors.texts.nbytes + WRITE_BYTES
