"""Product documents as clients see them, kept by the version that the index gives a product."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cachetools import LRUCache

from bls_models.background import Background
from bls_models.database.store import Store
from bls_models.errors import DatabaseError
from bls_models.index.query import IndexMatch
from bls_models.picture_links import NO_LINKS, PictureLinks
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


@dataclass(frozen=True)
class KeptDocument:
    """A document as it is kept.

    Attributes:
        version: the product's, as the index gave it.
        text: UTF-8 JSON, without the link to its picture, which changes with time.
        picture: the link's target, see ``PictureLinks.target``.
    """

    version: int
    text: bytes
    picture: str


class ClientDocuments:
    """Reads documents, one round trip for all that are not known in their present version.

    The index follows the database, so a product that keeps its version has not changed. Methods
    may be called from any thread.

    Args:
        store: the database.
        size: bytes of JSON kept at most.
        metrics: get hits and misses.
        links: to products' pictures.
    """

    def __init__(
        self,
        store: Store,
        size: int,
        metrics: Metrics = NO_METRICS,
        links: PictureLinks = NO_LINKS,
    ) -> None:
        self._metrics = metrics
        self._links = links
        self._store = store
        self._kept: LRUCache[str, KeptDocument] = LRUCache(
            size, getsizeof=lambda item: len(item.text)
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
        current = {key: item for key, item in kept.items() if item.version == versions[key]}
        wanted = [key for key in versions if not following or key not in current]
        self._metrics.add(CACHE_HITS, len(versions) - len(wanted), "documents")
        self._metrics.add(CACHE_MISSES, len(wanted), "documents")
        if not wanted:
            return self._found(current, complete=True)
        if not away:
            try:
                read = self._read(wanted, versions)
            except DatabaseError:
                self._wait_for_database()
            else:
                with self._lock:
                    for key, item in read.items():
                        # The cache refuses what is larger than all of it.
                        if len(item.text) <= self._kept.maxsize:
                            self._kept[key] = item
                return self._found(
                    {key: item for key, item in current.items() if key not in wanted} | read,
                    complete=True,
                )
        return self._found(kept, complete=False)

    def _found(self, items: Mapping[str, KeptDocument], complete: bool) -> FoundDocuments:
        """Documents with the links of this moment."""
        linked = {key: self._links.put_into(item.text, item.picture) for key, item in items.items()}
        return FoundDocuments(linked, complete)

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

    def _read(self, product_ids: list[str], versions: Mapping[str, int]) -> dict[str, KeptDocument]:
        return {
            key: KeptDocument(
                versions[key],
                json_bytes(client_document(document)),
                self._links.target(document),
            )
            for key, document in self._store.find_products(product_ids).items()
        }
