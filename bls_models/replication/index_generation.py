"""An index with what keeps it, made for one metric; another metric takes another generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.errors import IndexUnavailableError, RequestError
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.metric.catalogue import NONE
from bls_models.metric.metric import Metric
from bls_models.replication.follower import IndexFollower
from bls_models.replication.sync_check import SyncCheck
from bls_models.settings import Settings
from bls_models.telemetry.metrics import NO_METRICS, Metrics
from bls_models.vectors import FloatArray, unit


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
        asked = self._with_liked(self._projected(queries))
        answers = iter(self.index.answers([item for item in asked if isinstance(item, IndexQuery)]))
        return [
            IndexAnswer(refusal=item) if isinstance(item, RequestError) else next(answers)
            for item in asked
        ], about

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

    def _with_liked(self, queries: Sequence[IndexQuery]) -> list[IndexQuery | RequestError]:
        """Queries with the vectors of the products that they name, or why one has none."""
        wanted = list({name for query in queries for name, _ in query.like})
        found = dict(zip(wanted, self.index.mean_vectors(wanted), strict=True)) if wanted else {}
        return [self._joined(query, found) if query.like else query for query in queries]

    def _joined(
        self, query: IndexQuery, found: Mapping[str, tuple[FloatArray, FloatArray] | None]
    ) -> IndexQuery | RequestError:
        images, texts = [query.image_vectors], [query.text_vectors]
        image_weights, text_weights = [query.image_weights], [query.text_weights]
        for number, (name, weight) in enumerate(query.like):
            means = found[name]
            if means is None:
                return RequestError(
                    f"like[{number}]", f"no product {name!r}", "the id of a product that is there"
                )
            views, words = means
            metric = self._metric
            images.append(unit(views) if metric is None else metric.queries_of_rows(views))
            texts.append(unit(words))
            image_weights.append(np.full(len(views), weight, np.float32))
            text_weights.append(np.full(len(words), weight, np.float32))
        return replace(
            query,
            image_vectors=np.concatenate(images),
            image_weights=np.concatenate(image_weights),
            text_vectors=np.concatenate(texts),
            text_weights=np.concatenate(text_weights),
        )

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
