"""Large catalogues of made-up vectors that lie like real ones.

A made-up product is its category's mean plus a random mixture of what sets real products of a
category apart; its views add a mixture of what sets the views of one product apart. So its vectors
vary in the directions in which real ones do, and no further; noise in all directions at once would
put every product equally far from every other, which no real catalogue does. How far a product or
its views reach differs from product to product, as it does in reality.

``spread`` measures what that leads to, and a test compares it with the real catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bls_models.bundle import Bundle
from bls_models.engines.cpu import CpuEngines
from bls_models.engines.encoders import Encoders
from bls_models.images.decoding import ImageLimits, decode_pixels
from bls_models.index.engine import IndexedProduct
from bls_models.product import embedding_text
from bls_models.settings import Settings
from bls_models.specs import ENCODER_SPECS
from bls_models.vectors import FloatArray, LongArray
from seed.rows import read_products

VIEWS_PER_PRODUCT = 3
# Standard deviation of the logarithm of how far products, and the views of one, reach.
PRODUCT_REACH = 0.3
VIEW_REACH = 0.4
# A query's words lie off a product's text by this share of what sets texts of a category apart.
TEXT_QUERY_SHARE = 0.5
# One section of so many, so that a filter on it keeps one product of a hundred.
SECTIONS = 100


@dataclass(frozen=True)
class RealCatalogue:
    """Vectors of real products.

    Attributes:
        images: (n, image_dim) unit vectors.
        owners: (n,) product of each image, 0 to m - 1, each with two or more.
        texts: (m, text_dim) unit vectors.
        categories: (m,) category names.
    """

    images: FloatArray
    owners: LongArray
    texts: FloatArray
    categories: tuple[str, ...]


class SyntheticCatalogue:
    """Draws products from what a real catalogue looks like.

    Args:
        real: what they should look like.
    """

    def __init__(self, real: RealCatalogue) -> None:
        self._names, self._category = np.unique(real.categories, return_inverse=True)
        counts = np.bincount(real.owners)
        means = _means(real.images, real.owners)
        self._images = _Space.of(means, self._category)
        apart = real.images - means[real.owners]
        # The mean was taken from the same views, which makes them look closer to it.
        scale = np.sqrt(counts / (counts - 1)).astype(np.float32)
        self._views: FloatArray = apart * scale[real.owners][:, None]
        self._texts = _Space.of(real.texts, self._category)

    def products(self, views: int, block: int) -> Iterator[list[IndexedProduct]]:
        """Products with three views and one text each, in blocks.

        Args:
            views: views in all.
            block: products at a time.
        """
        random = np.random.default_rng(0)
        total = -(-views // VIEWS_PER_PRODUCT)
        for start in range(0, total, block):
            count = min(block, total - start)
            categories = self._category[random.integers(len(self._category), size=count)]
            reach = np.exp(PRODUCT_REACH * random.standard_normal((count, 1), np.float32))
            centres = self._images.drawn(categories, reach, random)
            reach = np.exp(VIEW_REACH * random.standard_normal((count, 1), np.float32))
            reach = np.repeat(reach, VIEWS_PER_PRODUCT, axis=0)
            pictures = np.repeat(centres, VIEWS_PER_PRODUCT, axis=0)
            pictures = _unit(pictures + reach * _mixed(self._views, len(pictures), random))
            reach = np.exp(PRODUCT_REACH * random.standard_normal((count, 1), np.float32))
            words = _unit(self._texts.drawn(categories, reach, random))
            yield [
                IndexedProduct(
                    f"p{start + at}",
                    "w",
                    {
                        "name": f"product {start + at:08d}",
                        "category": str(self._names[categories[at]]),
                        "attributes": {"section": (start + at) % SECTIONS},
                    },
                    pictures[at * VIEWS_PER_PRODUCT : (at + 1) * VIEWS_PER_PRODUCT],
                    words[at : at + 1],
                )
                for at in range(count)
            ]

    def queries_near(
        self, products: Sequence[IndexedProduct]
    ) -> list[tuple[FloatArray, FloatArray]]:
        """A new photo's and a new text's vector for each product, (1, image_dim), (1, text_dim).

        The photo is as far from the mean of the product's views as these are from each other.
        """
        random = np.random.default_rng(1)
        found = []
        for product in products:
            photo = product.image_vectors.mean(axis=0, keepdims=True)
            photo = photo + _mixed(self._views, 1, random)
            words = product.text_vectors + TEXT_QUERY_SHARE * _mixed(self._texts.apart, 1, random)
            found.append((_unit(photo), _unit(words)))
        return found


@dataclass(frozen=True)
class _Space:
    """Vectors by category.

    Attributes:
        means: (categories, D).
        apart: (v, D) vectors less the mean of their category, of categories with several.
    """

    means: FloatArray
    apart: FloatArray

    @classmethod
    def of(cls, vectors: FloatArray, category: LongArray) -> _Space:
        counts = np.bincount(category)
        means = _means(vectors, category)
        several = counts[category] > 1
        apart = (vectors - means[category])[several]
        # The mean was taken from the same vectors, which makes them look closer to it.
        scale = np.sqrt(counts / np.maximum(counts - 1, 1))[category][several]
        return cls(means, apart * scale[:, None].astype(np.float32))

    def drawn(
        self, categories: LongArray, reach: FloatArray, random: np.random.Generator
    ) -> FloatArray:
        """One vector (c, D) for each of these categories (c,), not normalised."""
        drawn: FloatArray = self.means[categories] + reach * _mixed(
            self.apart, len(categories), random
        )
        return drawn


def spread(images: FloatArray, owners: LongArray) -> dict[str, float]:
    """How a catalogue's views lie: medians over all views.

    Args:
        images: (n, D) unit vectors.
        owners: (n,) product of each.

    Returns:
        ``same_product``: cosine of two views of one product; ``nearest_other``: cosine of the
        nearest view of another product; ``gap``: what the nearest view's cosine is above the next
        one's; ``dimension``: local dimension by the distances of the 20 nearest (maximum
        likelihood).
    """
    cosines = images @ images.T
    np.fill_diagonal(cosines, -1.0)
    same = owners[:, None] == owners[None]
    np.fill_diagonal(same, False)
    nearest = -np.sort(-cosines, axis=1)[:, :20]
    distances = np.sqrt(np.maximum(2 - 2 * nearest, 1e-9))
    logs = np.log(distances[:, :-1] / distances[:, -1:]).mean(axis=1)
    return {
        "same_product": float(np.median(cosines[same])),
        "nearest_other": float(np.median(np.where(same, -1, cosines).max(axis=1))),
        "gap": float(np.median(nearest[:, 0] - nearest[:, 1])),
        "dimension": float(np.median(-1 / logs)),
    }


def real_catalogue(repository: Path, catalog: Path) -> RealCatalogue:
    """The vectors of a catalogue's products with two pictures or more."""
    bundle, settings = Bundle.read(repository), Settings.from_environment()
    engines = CpuEngines.from_repository(repository, ENCODER_SPECS)
    encoders = Encoders.from_repository(engines, bundle, repository)
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    preprocess = bundle.preprocess
    rows = [row for row in read_products(catalog) if len(row.images) > 1]
    pixels = [
        decode_pixels(path.read_bytes(), str(path), limits, preprocess)[0]
        for row in rows
        for path in row.images
    ]
    images, texts = encoders.encode(
        pixels, [embedding_text({"attributes": {}} | row.product) for row in rows]
    )
    owners = np.repeat(np.arange(len(rows)), [len(row.images) for row in rows])
    return RealCatalogue(
        images, owners, texts, tuple(str(row.product.get("category", "")) for row in rows)
    )


def _means(vectors: FloatArray, groups: LongArray) -> FloatArray:
    """The mean (g, D) of each group."""
    sums = np.zeros((int(groups.max()) + 1, vectors.shape[1]), np.float32)
    np.add.at(sums, groups, vectors)
    means: FloatArray = sums / np.bincount(groups)[:, None].astype(np.float32)
    return means


def _mixed(differences: FloatArray, count: int, random: np.random.Generator) -> FloatArray:
    """Random mixtures (count, D) with the covariance of these differences (v, D)."""
    amounts = random.standard_normal((count, len(differences)), np.float32)
    mixed: FloatArray = (amounts / np.float32(np.sqrt(len(differences)))) @ differences
    return mixed


def _unit(vectors: FloatArray) -> FloatArray:
    unit: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
