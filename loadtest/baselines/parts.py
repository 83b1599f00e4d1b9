"""What both baselines are made of; how they put it together is their own affair."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from pymongo.database import Database

from bls_models.bundle import Bundle
from bls_models.images import ImageLimits, decode_pixels
from bls_models.product import client_document
from bls_models.settings import Settings
from bls_models.specs import IMAGE_ENCODER
from bls_models.store import EMBEDDINGS, PRODUCTS, Document, connect
from bls_models.vectors import FloatArray, vector_from_binary

# The model repository whose image graph a baseline runs; the database is that of the settings.
REPOSITORY_VARIABLE = "BASELINE_REPOSITORY"
DEFAULT_TOP_K = 5

Match = tuple[str, float]


class VectorSearch:
    """Exact search over the image vectors of all products.

    Args:
        owners: the product of each vector.
        vectors: unit vectors (n, D).
    """

    def __init__(self, owners: Sequence[str], vectors: FloatArray) -> None:
        self._owners = owners
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)
        counts = np.unique(np.array(owners), return_counts=True)[1]
        self._most_views = int(counts.max(initial=1))

    def __call__(self, vector: FloatArray, top_k: int) -> list[Match]:
        """The best products with the cosine of their best view.

        Args:
            vector: unit vector (1, D).
            top_k: products wanted.
        """
        # So many rows hold at least that many products.
        rows = min(top_k * self._most_views, self._index.ntotal)
        scores, found = self._index.search(vector, rows)
        matches: dict[str, float] = {}
        for score, row in zip(scores[0], found[0], strict=True):
            matches.setdefault(self._owners[row], float(score))
        return list(matches.items())[:top_k]


class Parts:
    """Everything a baseline needs, as the environment says.

    Attributes:
        graph: the image encoder as ONNX.
        products: the collection of product documents.
        search: the index over the stored vectors.
    """

    def __init__(self) -> None:
        settings = Settings.from_environment()
        repository = Path(os.environ[REPOSITORY_VARIABLE])
        bundle = Bundle.read(repository)
        database = connect(settings)
        self.graph = repository / IMAGE_ENCODER.name / "1" / "model.onnx"
        self.products = database[PRODUCTS]
        self.search = _vector_search(database, bundle)
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._preprocess = bundle.preprocess

    def decode(self, data: bytes) -> npt.NDArray[np.uint8]:
        """An encoded photo as the graph's input (1, S, S, 3).

        Raises:
            ImageError: it cannot be read.
        """
        return decode_pixels(data, "image", self._limits, self._preprocess)[0][np.newaxis]


def answer_from_matches(
    matches: Sequence[Match], documents: Mapping[str, Document | None]
) -> dict[str, Any]:
    """The JSON that a baseline answers with: each match with its product, if that still exists."""
    return {
        "matches": [
            {"product_id": product_id, "score": score, "product": client_document(document)}
            for product_id, score in matches
            if (document := documents.get(product_id)) is not None
        ]
    }


def _vector_search(database: Database[Document], bundle: Bundle) -> VectorSearch:
    current = [product["write_id"] for product in database[PRODUCTS].find({}, {"write_id": 1})]
    query = {
        "write_id": {"$in": current},
        "kind": "image",
        "fingerprint": bundle.fingerprint,
    }
    found = list(database[EMBEDDINGS].find(query, {"product_id": 1, "vector": 1}))
    vectors = [vector_from_binary(item["vector"]) for item in found]
    return VectorSearch(
        [item["product_id"] for item in found],
        np.array(vectors, np.float32).reshape(-1, bundle.image_dim),
    )
