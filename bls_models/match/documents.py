"""Product documents as clients see them, kept by the version that the index gives a product."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from cachetools import LRUCache

from bls_models.background import Background
from bls_models.database.store import Store
from bls_models.errors import DatabaseError
from bls_models.index.query import IndexMatch
from bls_models.product import client_document, json_bytes
from bls_models.telemetry.metrics import CACHE_HITS, CACHE_MISSES, NO_METRICS, Metrics

# A database that did not answer is asked this often whether it is back. No request waits for that.
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class FoundDocuments:
    """The answer of ``ClientDocuments.find``.

    Attributes:
        json: UTF-8 JSON of each product found, by id.
        complete: False where the database did not answer: products may be missing, and those
            that are there may have changed.
    """

    json: dict[str, bytes]
    complete: bool


class ClientDocuments:
    """Reads documents, one round trip for all that are not known in their present version.

    The index follows the database, so a product that keeps its version has not changed. Methods
    may be called from any thread.

    Args:
        store: the database.
        size: bytes of JSON kept at most.
        metrics: get hits and misses.
    """

    def __init__(self, store: Store, size: int, metrics: Metrics = NO_METRICS) -> None:
        self._metrics = metrics
        self._store = store
        self._kept: LRUCache[str, tuple[int, bytes]] = LRUCache(
            size, getsizeof=lambda item: len(item[1])
        )
        self._lock = threading.Lock()
        self._away = False

    def find(self, matches: Iterable[IndexMatch], following: bool) -> FoundDocuments:
        """The documents of matches; a product that is not stored any more is left out.

        Args:
            matches: from one answer of the index, products may repeat.
            following: whether the index followed the database when it answered. If not, versions
                tell nothing, and every document is read.
        """
        versions = {match.product_id: match.product_version for match in matches}
        with self._lock:
            kept = {key: self._kept[key] for key in versions if key in self._kept}
            away = self._away
        current = {key: text for key, (version, text) in kept.items() if version == versions[key]}
        wanted = [key for key in versions if not following or key not in current]
        self._metrics.add(CACHE_HITS, len(versions) - len(wanted), "documents")
        self._metrics.add(CACHE_MISSES, len(wanted), "documents")
        if not wanted:
            return FoundDocuments(current, complete=True)
        if not away:
            try:
                read = self._read(wanted)
            except DatabaseError:
                self._wait_for_database()
            else:
                with self._lock:
                    for key, text in read.items():
                        # The cache refuses what is larger than all of it.
                        if len(text) <= self._kept.maxsize:
                            self._kept[key] = (versions[key], text)
                return FoundDocuments(
                    {key: text for key, text in current.items() if key not in wanted} | read,
                    complete=True,
                )
        return FoundDocuments({key: text for key, (_, text) in kept.items()}, complete=False)

    def _wait_for_database(self) -> None:
        """Read nothing more until the database answers."""
        with self._lock:
            if self._away:
                return
            self._away = True
        Background("database-watch", self._ask_again).start()

    def _ask_again(self) -> None:
        while True:
            time.sleep(RETRY_SECONDS)
            with contextlib.suppress(DatabaseError):
                self._store.find_products([])
                break
        with self._lock:
            self._away = False

    def _read(self, product_ids: list[str]) -> dict[str, bytes]:
        return {
            key: json_bytes(client_document(document))
            for key, document in self._store.find_products(product_ids).items()
        }
