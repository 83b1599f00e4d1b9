"""Exact scores of some products, by the index's own code: an index of them alone, for one query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bls_models.database.embeddings import StoredVectors
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.index.search import FrozenIndex
from bls_models.index.storage.readers import Readers
from bls_models.index.storage.rows import VectorRows
from bls_models.index.words.postings import Postings
from bls_models.index.words.shares import FrozenWords

WHOLE = 1.0


class SomeProducts:
    """Products with their vectors, to be ranked; for one thread.

    Args:
        image_dim: length of image vectors.
        text_dim: length of text vectors.
        max_work: see ``FrozenIndex``.
    """

    def __init__(self, image_dim: int, text_dim: int, max_work: int | None) -> None:
        readers = Readers()
        self._images = VectorRows(image_dim, readers, WHOLE)
        self._texts = VectorRows(text_dim, readers, WHOLE)
        self._ids: list[str] = []
        self._versions: list[int] = []
        self._max_work = max_work

    def add(self, products: Sequence[tuple[str, int, StoredVectors]]) -> None:
        """Add products, each once: id, version and vectors."""
        slots = range(len(self._ids), len(self._ids) + len(products))
        self._images.replace(slots, [vectors.images for _, _, vectors in products])
        self._texts.replace(slots, [vectors.texts for _, _, vectors in products])
        self._ids += [product_id for product_id, _, _ in products]
        self._versions += [version for _, version, _ in products]

    def answer(self, query: IndexQuery) -> IndexAnswer:
        """The best of them, or why scoring them takes more than a query may."""
        (answer,) = self.frozen().search([query], [None])
        return answer

    def frozen(self) -> FrozenIndex:
        """An index of those that were added by now."""
        return FrozenIndex(
            self._images.frozen(),
            self._texts.frozen(),
            FrozenWords(Postings().frozen(), 0),
            self._ids,
            np.array(self._versions, np.int64),
            len(self._ids),
            exact_rows=0,
            max_work=self._max_work,
        )
