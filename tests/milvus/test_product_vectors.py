"""Vectors from the database, and how long they stay in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from milvus_catalogue import embeddings_of
from pymongo.database import Database
from serving_support import SMALL_BUNDLE

from bls_models.database.store import Document, Store
from bls_models.metric.metric import Metric
from bls_models.milvus.vectors import WRITE_BYTES, ProductVectors
from bls_models.vectors import FloatArray, unit

pytestmark = pytest.mark.server

NUMBERS = np.random.default_rng(0)
WHOLE = 1 << 30


class CountingStore(Store):
    """Notes which writes are read."""

    def __init__(self, database: Database[Document]) -> None:
        super().__init__(database, 30)
        self.read: list[str] = []

    def find_embeddings(self, write_ids: Sequence[str]) -> list[Document]:
        self.read += write_ids
        return super().find_embeddings(write_ids)


def random_vectors(count: int, dim: int) -> FloatArray:
    return unit(NUMBERS.standard_normal((count, dim)).astype(np.float32))


def store_write(store: Store, write_id: str, images: FloatArray, texts: FloatArray) -> None:
    documents = embeddings_of(write_id, images, texts)
    # Not in the order of their numbers: the database promises none.
    store.insert_embeddings(documents[::-1])


@pytest.fixture
def counting(database: Database[Document]) -> CountingStore:
    return CountingStore(database)


def test_a_write_has_its_views_in_order_and_is_read_once(counting: CountingStore) -> None:
    images, texts = random_vectors(12, 48), random_vectors(1, 8)
    store_write(counting, "a", images, texts)
    store_write(counting, "b", images[:0], texts)
    vectors = ProductVectors(counting, SMALL_BUNDLE, None, WHOLE)
    found = vectors.of(["a", "b", "gone", "a"])
    assert found.keys() == {"a", "b"}
    assert (found["a"].images == images).all()
    assert (found["a"].texts == texts).all()
    assert found["b"].images.shape == (0, 48)
    assert sorted(counting.read) == ["a", "b", "gone"]
    assert vectors.of(["b", "a"])["a"] is found["a"]
    assert len(counting.read) == 3


def test_images_go_through_the_metric(counting: CountingStore) -> None:
    images, texts = random_vectors(3, 48), random_vectors(1, 8)
    store_write(counting, "a", images, texts)
    metric = Metric("m", images.mean(axis=0), random_vectors(48, 6), 1.5)
    found = ProductVectors(counting, SMALL_BUNDLE, metric, WHOLE).of(["a"])["a"]
    assert (found.images == metric.rows(images)).all()
    assert (found.texts == texts).all()


def test_what_was_asked_for_last_stays_within_the_memory(counting: CountingStore) -> None:
    images, texts = random_vectors(2, 48), random_vectors(1, 8)
    for name in "abc":
        store_write(counting, name, images, texts)
    room = 2 * (images.nbytes + texts.nbytes + WRITE_BYTES)
    vectors = ProductVectors(counting, SMALL_BUNDLE, None, room)
    for name in "abac":
        assert vectors.of([name]).keys() == {name}
    assert counting.read == ["a", "b", "c"]
    vectors.of(["a", "c"])
    assert counting.read == ["a", "b", "c"]
    vectors.of(["b"])
    assert counting.read == ["a", "b", "c", "b"]
    # More than fits is answered all the same.
    assert vectors.of("abc").keys() == {"a", "b", "c"}


def test_another_bundles_and_damaged_vectors_are_as_none(counting: CountingStore) -> None:
    store_write(counting, "a", random_vectors(1, 48), random_vectors(1, 8))
    other = replace(SMALL_BUNDLE, fingerprint="f" * 16)
    assert ProductVectors(counting, other, None, WHOLE).of(["a"]) == {}
    store_write(counting, "b", random_vectors(1, 47), random_vectors(1, 8))
    assert ProductVectors(counting, SMALL_BUNDLE, None, WHOLE).of("ab").keys() == {"a"}
