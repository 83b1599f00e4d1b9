"""Searches an index with queries of raw vectors, whatever metric its rows went through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bls_models.errors import RequestError
from bls_models.index.engine import SearchableIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.metric.metric import Metric
from bls_models.vectors import FloatArray, unit


class MetricSearch:
    """Queries of raw vectors, and of products that they name, for an index of one metric.

    Args:
        index: what is searched.
        metric: what its image vectors went through; None: they are raw.
    """

    def __init__(self, index: SearchableIndex, metric: Metric | None) -> None:
        self._index = index
        self._metric = metric

    def answers(self, queries: Sequence[IndexQuery]) -> list[IndexAnswer]:
        """What each query finds, or why it is refused: each for itself."""
        asked = self._with_liked(self._projected(queries))
        answers = iter(
            self._index.answers([item for item in asked if isinstance(item, IndexQuery)])
        )
        return [
            IndexAnswer(refusal=item) if isinstance(item, RequestError) else next(answers)
            for item in asked
        ]

    def _with_liked(self, queries: Sequence[IndexQuery]) -> list[IndexQuery | RequestError]:
        """Queries with the vectors of the products that they name, or why one has none."""
        wanted = list({name for query in queries for name, _ in query.like})
        found = dict(zip(wanted, self._index.mean_vectors(wanted), strict=True)) if wanted else {}
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
