"""An index with what keeps it, made for one metric; another metric takes another generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.errors import IndexUnavailableError
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.metric.catalogue import NONE
from bls_models.metric.metric import Metric
from bls_models.replication.follower import IndexFollower
from bls_models.replication.sync_check import SyncCheck
from bls_models.settings import Settings
from bls_models.telemetry.metrics import NO_METRICS, Metrics


class IndexGeneration:
    """One index, its follower and its sync check; queries and rows go through one metric.

    Args:
        settings: how to store, search and follow.
        bundle: the lengths of vectors, and whose they must be.
        store: what the index holds.
        metric: None: raw vectors.
        metrics: get the index's state.

    Raises:
        SetupError: the settings name a device that is not there.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        store: Store,
        metric: Metric | None,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._metric = metric
        self.version = NONE if metric is None else metric.version
        self.index = ProductIndex(
            bundle.image_dim if metric is None else metric.dim,
            bundle.text_dim,
            settings.max_filter_bytes,
            IndexOptions.of(settings),
        )
        self.follower = IndexFollower(self.index, store, bundle, settings, metrics, metric)
        self.check = SyncCheck(self.index, store, self.follower)

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The answers to queries of raw vectors, and the index's state.

        Raises:
            IndexUnavailableError: the index is not loaded yet.
        """
        self.require_loaded()
        # Before the search: that the index follows must hold for the versions it gives.
        about = self.follower.info()
        return self.index.answers(self._projected(queries)), about

    def require_loaded(self) -> None:
        """Refuse what needs the index, where it is not loaded yet.

        Raises:
            IndexUnavailableError: it is not.
        """
        if not self.follower.loaded:
            raise IndexUnavailableError(
                f"the index is not loaded yet: {self.follower.waiting_for}; try again later"
            )

    def close(self, last_snapshot: bool = True) -> None:
        """Break off a check, stop following, write a last snapshot, and end the upkeep."""
        self.check.close()
        self.follower.stop(last_snapshot)
        self.index.close()

    def _projected(self, queries: Sequence[IndexQuery]) -> Sequence[IndexQuery]:
        """The queries with their image vectors as the index takes them, all in one go."""
        if self._metric is None or not queries:
            return queries
        counts = [len(query.image_vectors) for query in queries]
        projected = self._metric.queries(np.concatenate([item.image_vectors for item in queries]))
        parts = np.split(projected, np.cumsum(counts)[:-1])
        return [
            replace(query, image_vectors=part) for query, part in zip(queries, parts, strict=True)
        ]
