"""Products in a database and in Milvus, and the same ones in an exact index in memory."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from serving_support import SMALL_BUNDLE

from bls_models.database.connection import connect
from bls_models.database.store import Document, Store
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.milvus import collections
from bls_models.milvus.collections import Collections
from bls_models.milvus.connection import MilvusConnection
from bls_models.milvus.product_rows import Row, batches, rows_of
from bls_models.milvus.search import MilvusSearch, MilvusSearchOptions
from bls_models.milvus.vectors import ProductVectors
from bls_models.settings import Settings
from bls_models.vectors import FloatArray, binary_from_vector, unit

IMAGE_DIM, TEXT_DIM = SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim
MAX_FILTER_BYTES = 100_000
CATEGORIES = ("mug", "vase", "bowl", "lamp")


class MilvusCatalogue:
    """A catalogue that both engines have.

    Args:
        settings: database and Milvus.
        lists_in_filters: see ``Expressions``.
    """

    def __init__(self, settings: Settings, lists_in_filters: bool) -> None:
        self._lists_in_filters = lists_in_filters
        self.database = connect(settings)
        self.store = Store(self.database, log_days=30)
        self.store.ensure_indexes()
        self.connection = MilvusConnection(settings)
        self.collections = Collections.of(uuid.uuid4().hex, "none", IMAGE_DIM, TEXT_DIM)
        collections.create(self.connection, self.collections)
        self.exact = ProductIndex(IMAGE_DIM, TEXT_DIM, MAX_FILTER_BYTES)
        self._version = 0

    def close(self) -> None:
        for name in self.collections.dims:
            collections.drop(self.connection, name)
        self.connection.close()
        self.exact.close()
        self.database.client.drop_database(self.database.name)
        self.database.client.close()

    def put(self, products: Sequence[IndexedProduct]) -> None:
        """Store products and have both engines know them."""
        self.exact.upsert(products)
        self.store.products.delete_many({"_id": {"$in": [item.product_id for item in products]}})
        self.store.products.insert_many(
            [{"_id": item.product_id, "write_id": item.write_id} for item in products]
        )
        self.store_vectors(products)
        self.insert(products)

    def store_vectors(self, products: Sequence[IndexedProduct]) -> None:
        """Store the vectors of products under their writes."""
        self.store.insert_embeddings(
            [
                document
                for item in products
                for document in embeddings_of(item.write_id, item.image_vectors, item.text_vectors)
            ]
        )

    def store_write(self, product: IndexedProduct) -> None:
        """Store a product in place of its last write, as a writer does; Milvus is not told."""
        self.store_vectors([product])
        before = self.store.products.find_one_and_update(
            {"_id": product.product_id}, {"$set": {"write_id": product.write_id}}
        )
        assert before is not None
        self.store.delete_embeddings([before["write_id"]])

    def insert(self, products: Sequence[IndexedProduct]) -> None:
        """Add the rows of products, whatever there is of them already."""
        rows: dict[str, list[Row]] = {name: [] for name in self.collections.dims}
        for product in products:
            self._version += 1
            for own, of in zip(rows.values(), rows_of(product, self._version), strict=True):
                own += of
        for name, own in rows.items():
            for batch in batches(own):
                self.connection.client.insert(name, batch, timeout=60)
            # From here on every read sees them.
            self.connection.client.query(
                name, "", [collections.ID], limit=1, consistency_level="Strong", timeout=60
            )

    def search(self, proof: bool = False, max_search_work: int | None = None) -> MilvusSearch:
        """What searches it, with nothing in memory yet."""
        return MilvusSearch(
            self.connection,
            self.collections,
            self.store,
            ProductVectors(self.store, SMALL_BUNDLE, None, 1 << 30),
            MilvusSearchOptions(
                "Bounded", self._lists_in_filters, MAX_FILTER_BYTES, max_search_work, proof
            ),
        )

    def expected(self, queries: Sequence[IndexQuery]) -> list[IndexAnswer]:
        """By the index in memory, with every product scored."""
        return self.exact.answers(queries, exact=True)


def embeddings_of(write_id: str, images: FloatArray, texts: FloatArray) -> list[Document]:
    """What a write stores of its vectors."""
    vectors = [("image", vector) for vector in images] + [("text", vector) for vector in texts]
    return [
        {
            "_id": f"{write_id}:{number}",
            "write_id": write_id,
            "fingerprint": SMALL_BUNDLE.fingerprint,
            "kind": kind,
            "vector": binary_from_vector(vector),
        }
        for number, (kind, vector) in enumerate(vectors)
    ]


def some_products(random: np.random.Generator, count: int) -> list[IndexedProduct]:
    """Products around some centres, as catalogues have kinds: some without pictures or texts."""
    image_centres = random.standard_normal((40, IMAGE_DIM))
    text_centres = random.standard_normal((40, TEXT_DIM))
    products = []
    for number in range(count):
        kind = number % 40
        views, texts = int(random.choice([0, 1, 2, 4])), int(random.choice([1, 1, 1, 0]))
        own = image_centres[kind] + random.standard_normal(IMAGE_DIM)
        images = own + 0.5 * random.standard_normal((max(views, 1 - texts), IMAGE_DIM))
        words = text_centres[kind] + random.standard_normal((texts, TEXT_DIM))
        fields: dict[str, Any] = {
            "category": CATEGORIES[number % len(CATEGORIES)],
            "attributes": {"rare": number % 100 == 0, "number": number},
        }
        if random.random() < 0.8:
            fields["price"] = round(float(random.uniform(0, 100)), 2)
        products.append(
            IndexedProduct(
                f"p{number:05d}",
                f"w{number}-{uuid.uuid4().hex[:8]}",
                fields,
                unit(images.astype(np.float32)),
                unit(words.astype(np.float32)),
            )
        )
    return products


def near(random: np.random.Generator, vectors: FloatArray, noise: float = 0.1) -> FloatArray:
    """Vectors (n, dim) near to others, of length 1."""
    moved = vectors + noise * random.standard_normal(vectors.shape)
    return unit(moved.astype(np.float32))


def query(
    images: FloatArray | None = None,
    texts: FloatArray | None = None,
    image_weights: Sequence[float] = (),
    text_weights: Sequence[float] = (),
    **others: Any,
) -> IndexQuery:
    """A query of vectors, with weights of 1 unless they are given."""
    images = np.zeros((0, IMAGE_DIM), np.float32) if images is None else images
    texts = np.zeros((0, TEXT_DIM), np.float32) if texts is None else texts
    return IndexQuery(
        images,
        np.array(image_weights or [1.0] * len(images), np.float32),
        texts,
        np.array(text_weights or [1.0] * len(texts), np.float32),
        **{"top_k": 10, **others},
    )


def rewritten(product: IndexedProduct, **changes: Any) -> IndexedProduct:
    """A later write of a product."""
    return replace(product, write_id=f"w-{uuid.uuid4().hex}", **changes)
