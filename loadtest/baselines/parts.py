"""What both baselines use: settings, graph, index and products."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import openvino
from openvino import properties
from pymongo.database import Database

from bls_models.bundle import Bundle
from bls_models.database.connection import connect
from bls_models.database.store import EMBEDDINGS, PRODUCTS, Document
from bls_models.engines.precisions import graph_on_cpu
from bls_models.images.decoding import ImageLimits, decode_pixels
from bls_models.index.view_scores import view_scores
from bls_models.product import client_document
from bls_models.settings import Settings
from bls_models.specs import IMAGE_ENCODER
from bls_models.vectors import FloatArray, Pixels, vector_from_binary

# The model repository whose image graph a baseline runs; the database is that of the settings.
REPOSITORY_VARIABLE = "BASELINE_REPOSITORY"
DEFAULT_TOP_K = 5

Match = tuple[str, float]


class VectorSearch:
    """Exact search over the image vectors of all products, scored as ``product_match`` does.

    Args:
        owners: the product of each vector.
        vectors: unit vectors (n, D).
    """

    def __init__(self, owners: Sequence[str], vectors: FloatArray) -> None:
        self._ids, places = np.unique(np.array(owners, dtype=str), return_inverse=True)
        self._owners = places.astype(np.int32)
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def __call__(self, vector: FloatArray, top_k: int) -> list[Match]:
        """The best products with their scores.

        Args:
            vector: unit vector (1, D).
            top_k: products wanted.
        """
        # A product's score is made of all its views.
        cosines, rows = self._index.search(vector, self._index.ntotal)
        scores = view_scores(cosines, self._owners[rows[0]], len(self._ids))[0]
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [(str(self._ids[place]), float(scores[place])) for place in best]


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
        self.graph = graph_on_cpu(repository, IMAGE_ENCODER.name)
        self.products = database[PRODUCTS]
        self.search = _vector_search(database, bundle)
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._preprocess = bundle.preprocess

    def decode(self, data: bytes) -> Pixels:
        """An encoded photo as the graph's input (1, S, S, 3).

        Raises:
            ImageError: it cannot be read.
        """
        return decode_pixels(data, "image", self._limits, self._preprocess)[0][np.newaxis]


def compiled_by_streams(graph: Path, cpus: int) -> dict[int, Any]:
    """A graph in OpenVINO, by the number of streams: one with all CPUs, and one for each CPU."""
    return {
        streams: openvino.Core().compile_model(
            graph,
            "CPU",
            {
                properties.num_streams: streams,
                properties.inference_num_threads: cpus,
                properties.hint.inference_precision: openvino.Type.f32,
            },
        )
        for streams in {1, cpus}
    }


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
