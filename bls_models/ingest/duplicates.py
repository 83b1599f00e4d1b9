"""Which stored products show the same pictures as one that was just written.

A picture is an exact duplicate of another product's if the files are the same, and a near one if
their raw vectors' cosine reaches a threshold. Both are reported and neither is refused, because
shops do sell one thing under several ids. An index whose vectors went through a metric proposes
candidates, whose raw vectors are read from the database.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from bls_models.database.embeddings import IMAGE
from bls_models.database.store import Store
from bls_models.errors import ServiceError
from bls_models.index.query import IndexAnswer, IndexQuery, Search
from bls_models.index.view_scores import BEST_VIEW
from bls_models.ingest.upsert_item import Duplicate, Upsert
from bls_models.metric.catalogue import NONE
from bls_models.vectors import FloatArray, vector_of_length

logger = logging.getLogger(__name__)

EXACT, NEAR = "exact", "near"
# The most that are told of one product.
MAX_DUPLICATES = 10
COSINE_DECIMALS = 4
# So much further apart are copies under a metric at most; with a spread of 5 it was 1.5 times.
WIDER = 3.0


@dataclass(frozen=True)
class _View:
    """A picture that its product did not have before."""

    upsert: Upsert
    sha256: str

    @property
    def vector(self) -> FloatArray:
        return self.upsert.vectors[self.sha256]


class DuplicateFinder:
    """Finds duplicates of the new pictures of a batch, all near ones with one search.

    Args:
        store: the products.
        search: the index.
        cosine: from which on two pictures are near duplicates.
        text_dim: length of the bundle's text vectors.
    """

    def __init__(self, store: Store, search: Search, cosine: float, text_dim: int) -> None:
        self._store = store
        self._search = search
        self._cosine = cosine
        self._no_texts = np.zeros((0, text_dim), np.float32)

    def find(self, upserts: Sequence[Upsert]) -> None:
        """Set ``duplicates`` of those that were written with new pictures and ask for it.

        Where the index or the database does not answer, ``duplicates_failed`` says so.
        """
        asked = [item for item in upserts if item.find_duplicates and item.was_written]
        views = [_View(item, sha256) for item in asked for sha256 in item.new_hashes]
        found: dict[str, dict[str, Duplicate]] = {item.product_id: {} for item in asked}
        if views:
            try:
                self._add_near(views, found)
                # Exact ones last, because they take the place of near ones.
                self._add_exact(views, found)
            except ServiceError as error:
                logger.warning("duplicates are not told of: %s", error)
                for item in asked:
                    item.duplicates_failed = True
        for item in asked:
            best = sorted(found[item.product_id].values(), key=lambda one: -one.cosine)
            item.duplicates = best[:MAX_DUPLICATES]

    def _add_exact(self, views: Sequence[_View], found: dict[str, dict[str, Duplicate]]) -> None:
        times = Counter(view.sha256 for view in views)
        # A picture that nobody had stored before can only be in another product of the batch.
        common = [key for key in times if times[key] > 1] + [
            view.sha256 for view in views if view.sha256 in view.upsert.shared_hashes
        ]
        for sha256 in dict.fromkeys(common):
            others = self._store.products_with_picture(sha256, MAX_DUPLICATES + 1)
            for view in views:
                if view.sha256 == sha256:
                    for other in others:
                        _add(found, view.upsert, Duplicate(other, EXACT, 1.0))

    def _add_near(self, views: Sequence[_View], found: dict[str, dict[str, Duplicate]]) -> None:
        vectors = np.stack([view.vector for view in views])  # (n, D)
        # Those of the same batch, which the index does not have yet.
        cosines = vectors @ vectors.T
        for row, column in zip(*np.nonzero(cosines >= self._cosine), strict=True):
            self._add_one(found, views[row], views[column].upsert.product_id, cosines[row, column])
        answers, info = self._search([self._query(vector) for vector in vectors])
        for answer in answers:
            if answer.refusal is not None:
                raise answer.refusal
        if info["metric"] == NONE:
            scores = {
                (view.sha256, match.product_id): match.image_score
                for view, answer in zip(views, answers, strict=True)
                for match in answer.matches
            }
        else:
            scores = self._raw_cosines(views, answers)
        for view, answer in zip(views, answers, strict=True):
            for match in answer.matches:
                cosine = scores.get((view.sha256, match.product_id), -1.0)
                if cosine >= self._cosine:
                    self._add_one(found, view, match.product_id, cosine)
        if not info["following"]:
            logger.warning("the index does not follow the database and may not know all products")
            for view in views:
                view.upsert.duplicates_failed = True

    def _raw_cosines(
        self, views: Sequence[_View], answers: Sequence[IndexAnswer]
    ) -> dict[tuple[str, str], float]:
        """The best cosine of each picture to the views of what it was matched with."""
        ids = {match.product_id for answer in answers for match in answer.matches}
        stored = self._store.find_products(list(ids), ("write_id",)) if ids else {}
        vectors: dict[str, list[FloatArray]] = {}
        writes = {str(item.get("write_id")): key for key, item in stored.items()}
        dim = len(views[0].vector)
        found, step = list(writes), self._store.PAGE
        for start in range(0, len(found), step):
            for item in self._store.find_embeddings(found[start : start + step]):
                # What was damaged by hand is not searched either.
                with contextlib.suppress(ValueError):
                    if item.get("kind") == IMAGE:
                        vector = vector_of_length(item.get("vector"), dim)
                        vectors.setdefault(writes[item["write_id"]], []).append(vector)
        return {
            (view.sha256, match.product_id): float(
                (np.stack(vectors[match.product_id]) @ view.vector).max()
            )
            for view, answer in zip(views, answers, strict=True)
            for match in answer.matches
            if match.product_id in vectors
        }

    @staticmethod
    def _add_one(
        found: dict[str, dict[str, Duplicate]], view: _View, product_id: str, cosine: float
    ) -> None:
        rounded = round(min(float(cosine), 1.0), COSINE_DECIMALS)
        _add(found, view.upsert, Duplicate(product_id, NEAR, rounded))

    def _query(self, vector: FloatArray) -> IndexQuery:
        return IndexQuery(
            image_vectors=vector[np.newaxis],
            image_weights=np.ones(1, np.float32),
            text_vectors=self._no_texts,
            text_weights=np.zeros(0, np.float32),
            # The product itself may be among them.
            top_k=MAX_DUPLICATES + 1,
            min_score=1 - WIDER * (1 - self._cosine),
            # Single pictures are compared here, so the other views of a product do not count.
            view_power=BEST_VIEW,
        )


def _add(found: dict[str, dict[str, Duplicate]], upsert: Upsert, duplicate: Duplicate) -> None:
    """Note a duplicate, unless it is the product itself or known with a better cosine."""
    mine, other = found[upsert.product_id], duplicate.product_id
    if other == upsert.product_id:
        return
    if duplicate.kind == EXACT or other not in mine or duplicate.cosine > mine[other].cosine:
        mine[other] = duplicate


def duplicate_details(duplicates: Collection[Duplicate]) -> list[dict[str, object]]:
    """Duplicates as ``details`` and the log have them."""
    return [
        {"product_id": item.product_id, "kind": item.kind, "cosine": item.cosine}
        for item in duplicates
    ]
