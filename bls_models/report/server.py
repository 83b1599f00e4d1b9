"""What a server tells of itself: its bundle, its index, its products and the learned metric."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pymongo

from bls_models.bundle import Bundle
from bls_models.database.store import Document, Store
from bls_models.errors import ServiceError
from bls_models.metric.catalogue import NONE, CatalogueMetrics
from bls_models.metric.fitting import Gain, best_of
from bls_models.settings import Settings

logger = logging.getLogger(__name__)

INDEX = "index"


class ServerState:
    """The state of a server as ``product_report`` tells it.

    Args:
        bundle: what is served.
        store: has the products and the metrics.
        settings: which metric is served, and the longest wait for the database.
        about_index: asks the index for its state.
    """

    def __init__(
        self,
        bundle: Bundle,
        store: Store,
        settings: Settings,
        about_index: Callable[[], dict[str, Any]],
    ) -> None:
        self._bundle = bundle
        self._store = store
        self._catalogue = CatalogueMetrics(store, bundle)
        self._settings = settings
        self._about_index = about_index

    def tell(self) -> Document:
        """All of it; an index that does not answer is in ``degraded``.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        index, degraded = self._index()
        return {
            "bundle": {
                "name": self._bundle.name,
                "fingerprint": self._bundle.fingerprint,
                "languages": self._bundle.languages,
            },
            "products": self._products(),
            INDEX: index,
            "metric": self._metric(),
            "degraded": degraded,
        }

    def _products(self) -> int:
        # Else an import's wait for it would hold: minutes.
        with pymongo.timeout(self._settings.mongodb_timeout_ms / 1e3):
            return self._store.count_products()

    def _index(self) -> tuple[dict[str, Any] | None, list[str]]:
        try:
            return self._about_index(), []
        except ServiceError as error:
            logger.warning("a report goes without the index: %s", error)
            return None, [INDEX]

    def _metric(self) -> Document:
        mode, current = self._settings.metric, self._catalogue.current()
        return {
            "mode": mode,
            "version": NONE if mode == NONE else current.version,
            "fitted": None if current.fitted is None else current.fitted.isoformat(),
            "versions": [_version(item) for item in self._catalogue.versions()],
        }


def _version(document: Document) -> Document:
    gains = [Gain(**gain) for gain in document["gains"]]
    best = best_of(gains)
    return {
        "version": document["_id"],
        "time": document["fitted"].isoformat(),
        "products": document["products"],
        "views": document["views"],
        "seen": best.seen,
        "unseen": best.unseen,
        "both": best.both,
        "raw": gains[0].both,
    }
