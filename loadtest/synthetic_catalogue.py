"""Large catalogues of made-up vectors that lie like real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bls_models.bundle import Bundle
from bls_models.cpu_engine import CpuEngines
from bls_models.encoders import Encoders
from bls_models.images import ImageLimits, Preprocess, decode_pixels
from bls_models.index import IndexedProduct
from bls_models.product import embedding_text
from bls_models.settings import Settings
from bls_models.specs import ENCODER_SPECS
from bls_models.vectors import FloatArray
from seed.records import CatalogRow
from seed.rows import read_catalog

VIEWS_PER_PRODUCT = 3
# Cosines of the sample catalogue: two products of a category have about 0.75, two views of one
# product about 0.85. A made-up product lies that far from a real one, and its views from it.
PRODUCT_SPREAD = 0.6
VIEW_SPREAD = 0.4
# One category of so many, so that a filter on it keeps one product of a hundred.
CATEGORIES = 100


def real_vectors(repository: Path, catalog: Path) -> tuple[FloatArray, FloatArray]:
    """The image and text vectors of a catalogue, (n, image_dim) and (m, text_dim)."""
    bundle, settings = Bundle.read(repository), Settings.from_environment()
    engines = CpuEngines.from_repository(repository, ENCODER_SPECS)
    encoders = Encoders.from_repository(engines, bundle, repository)
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    preprocess = Preprocess(bundle.image_size, bundle.resize)
    rows = [row for row in read_catalog(catalog) if isinstance(row, CatalogRow)]
    pixels = [
        decode_pixels(path.read_bytes(), str(path), limits, preprocess)[0]
        for row in rows
        for path in row.images
    ]
    return encoders.encode(
        pixels, [embedding_text({"attributes": {}} | row.product) for row in rows]
    )


def synthetic_products(
    views: int, images: FloatArray, texts: FloatArray, block: int, seed: int = 0
) -> Iterator[list[IndexedProduct]]:
    """Products with three views and one text each, in blocks.

    Args:
        views: views in all.
        images: real image vectors (n, image_dim) to lie around.
        texts: real text vectors (m, text_dim) to lie around.
        block: products at a time.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    total = -(-views // VIEWS_PER_PRODUCT)
    for start in range(0, total, block):
        numbers = range(start, min(start + block, total))
        count = len(numbers)
        centres = _around(images[random.integers(len(images), size=count)], PRODUCT_SPREAD, random)
        pictures = _around(np.repeat(centres, VIEWS_PER_PRODUCT, axis=0), VIEW_SPREAD, random)
        words = _around(texts[random.integers(len(texts), size=count)], PRODUCT_SPREAD, random)
        yield [
            IndexedProduct(
                f"p{number}",
                "w",
                {"category": f"c{number % CATEGORIES}"},
                pictures[at * VIEWS_PER_PRODUCT : (at + 1) * VIEWS_PER_PRODUCT],
                words[at : at + 1],
            )
            for at, number in enumerate(numbers)
        ]


def queries_near(
    products: Sequence[IndexedProduct], seed: int = 1
) -> list[tuple[FloatArray, FloatArray]]:
    """A photo's and a text's vector for each product, (1, image_dim) and (1, text_dim)."""
    random = np.random.default_rng(seed)
    return [
        (
            _around(product.image_vectors[:1], VIEW_SPREAD, random),
            _around(product.text_vectors[:1], VIEW_SPREAD, random),
        )
        for product in products
    ]


def _around(centres: FloatArray, spread: float, random: np.random.Generator) -> FloatArray:
    """Unit vectors (n, D) whose cosine to their centres is about ``1 / sqrt(1 + spread**2)``."""
    noise = random.standard_normal(centres.shape, np.float32)
    noise *= spread / np.sqrt(np.float32(centres.shape[1]))
    noise += centres
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return noise
