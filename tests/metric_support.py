"""A made-up catalogue whose views differ most where products do not."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from serving_support import SMALL_BUNDLE, unit

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.metric.metric import Metric
from bls_models.vectors import FloatArray, binary_from_vector

# Light, angle and background: directions in which a product's views differ.
NOISE_DIRECTIONS = 12
SIGNAL_DIRECTIONS = 20
# Of made-up metrics.
DIM = 12


def noisy_products(
    count: int, views: int = 6, dim: int = 300, noise: float = 1.5, seed: int = 0
) -> list[FloatArray]:
    """Views (views, dim) of each product, L2-normalised; products of all seeds share directions."""
    axes, _ = np.linalg.qr(np.random.default_rng(99).normal(size=(dim, dim)))
    random = np.random.default_rng(seed)
    signal, spread = axes[:SIGNAL_DIRECTIONS], axes[SIGNAL_DIRECTIONS:][:NOISE_DIRECTIONS]
    products = []
    for _ in range(count):
        mean = random.normal(size=SIGNAL_DIRECTIONS) @ signal + 3 * axes[-1]
        away = noise * random.normal(size=(views, NOISE_DIRECTIONS)) @ spread
        products.append(unit(mean + away + 0.3 * random.normal(size=(views, dim))))
    return products


def store_products(
    store: Store, products: Sequence[FloatArray], bundle: Bundle, start: int = 0
) -> None:
    """Products with their embeddings as ingest stores them, without pictures.

    Args:
        store: where to.
        products: views (n, D) of each.
        bundle: whose vectors they are.
        start: number of the first; ids are ``p000`` and so on.
    """
    now = datetime.now(UTC)
    documents, embeddings = [], []
    for number, views in enumerate(products, start):
        product_id, write_id = f"p{number:03}", uuid.uuid4().hex
        about = {"product_id": product_id, "fingerprint": bundle.fingerprint, "write_id": write_id}
        embeddings += [
            {**about, "kind": "image", "vector": binary_from_vector(vector)} for vector in views
        ]
        text = np.eye(1, bundle.text_dim, dtype=np.float32)[0]
        embeddings.append({**about, "kind": "text", "vector": binary_from_vector(text)})
        documents.append(
            {
                "_id": product_id,
                "name": f"product {number}",
                "category": "mug",
                "created": now,
                "write_id": write_id,
                "fingerprint": bundle.fingerprint,
            }
        )
    store.insert_embeddings(embeddings)
    store.products.insert_many(documents)


def metric(version: str, seed: int = 0) -> Metric:
    """A made-up metric for vectors of the small bundle."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(SMALL_BUNDLE.image_dim, DIM)).astype(np.float32)
    return Metric(version, np.full(SMALL_BUNDLE.image_dim, 0.01, np.float32), matrix, 2.0)
