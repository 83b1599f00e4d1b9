"""What the tests of writing products share: requests, an ingester, and what must be stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from caption_support import PixelCaptioner
from pymongo.database import Database
from serving_support import SMALL_BUNDLE, ContentEncoders, text_vector

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.database.pictures import Pictures, stored_hashes
from bls_models.database.store import Document, Store
from bls_models.database.write_journal import WriteJournal
from bls_models.index.query import IndexAnswer, IndexQuery, Search
from bls_models.ingest.ingester import IngestRequest, IngestResult, Outcome, ProductIngester
from bls_models.product import embedding_text
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.telemetry.request_log import LogWriter
from bls_models.vectors import vector_from_binary

RED: dict[str, Any] = {
    "product_id": "mug",
    "name": "Red mug",
    "category": "mug",
    "price": 12.5,
    "currency": "EUR",
    "attributes": {"colour": "red"},
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def nothing_found(
    queries: Sequence[IndexQuery],
) -> tuple[list[IndexAnswer], dict[str, Any]]:
    """An index without products."""
    return [IndexAnswer() for _ in queries], {"following": True, "metric": "none"}


def journal_of(store: Store, settings: Settings, pictures: Pictures | None = None) -> WriteJournal:
    pictures = pictures or Pictures(store.database)
    return WriteJournal(store, pictures, settings.write_lease_seconds)


def with_indexes(store: Store) -> Callable[[], None]:
    """Build the indexes of a database; what an ingester asks whether they are there."""
    store.ensure_indexes()
    Pictures(store.database).ensure_indexes()
    return lambda: None


class Ingest:
    """An ingester with short forms of its operations."""

    def __init__(
        self,
        store: Store,
        log: LogWriter,
        settings: Settings,
        bundle: Bundle = SMALL_BUNDLE,
        pictures: Pictures | None = None,
        search: Search = nothing_found,
    ) -> None:
        journal = journal_of(store, settings, pictures)
        self.store = store
        self.encoders = ContentEncoders(bundle)
        self.captioner = PixelCaptioner()
        self.captions = CaptionQueue(self.captioner, 32, settings.ingest_caption_timeout_ms / 1e3)
        self.ingester = ProductIngester(
            Services(bundle, settings, self.encoders, self.captions, search, log),
            journal,
            with_indexes(store),
        )

    def run(self, *requests: IngestRequest) -> list[Outcome]:
        return self.ingester.run(requests)

    def upsert(self, product: dict[str, Any], *images: bytes) -> IngestResult:
        return self.one(upsert(product, *images))

    def stored_write_id(self, product_id: str) -> str:
        """The write that a product is of."""
        found = self.store.find_products([product_id])[product_id]
        return str(found["write_id"])

    def one(self, request: IngestRequest) -> IngestResult:
        (outcome,) = self.run(request)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def upsert(product: dict[str, Any], *images: bytes) -> IngestRequest:
    return IngestRequest("r", "upsert", json.dumps(product).encode(), images or None)


def request(operation: str, product_id: str = "mug") -> IngestRequest:
    return IngestRequest("r", operation, json.dumps({"product_id": product_id}).encode())


def assert_whole(store: Store, product_id: str) -> Document:
    """Product, embeddings and pictures agree, and nothing else is left of the product."""
    product = store.products.find_one({"_id": product_id})
    assert product is not None
    embeddings = list(store.embeddings.find({"product_id": product_id}))
    assert {item["write_id"] for item in embeddings} == {product["write_id"]}
    assert {item["fingerprint"] for item in embeddings} == {product["fingerprint"]}
    assert {item["revision"] for item in embeddings} == {product["revision"]}
    hashes = [image["sha256"] for image in product["images"]]
    views = [item for item in embeddings if item["kind"] == "image"]
    assert sorted(item["sha256"] for item in views) == sorted(hashes)
    for sha in hashes:
        assert sha256(Pictures(store.database).read(sha)) == sha
    assert [item["kind"] for item in embeddings].count("text") == 1
    return product


def assert_consistent(store: Store, product_id: str) -> Document:
    """A whole product, whose text vector is that of its words by ``ContentEncoders``."""
    product = assert_whole(store, product_id)
    words = store.embeddings.find_one({"product_id": product_id, "kind": "text"})
    assert words is not None
    np.testing.assert_array_equal(
        vector_from_binary(words["vector"]), text_vector(embedding_text(product))
    )
    return product


def stored_images(store: Store) -> set[str]:
    files = list(Pictures(store.database).files.find({}))
    assert not any(item["metadata"]["held_by"] for item in files), "no write holds them any more"
    return {item["filename"] for item in files}


def assert_nothing_left_over(database: Database[Document]) -> None:
    """All products are whole, and the database holds nothing that belongs to none of them."""
    products = list(database["products"].find({}))
    for product in products:
        assert_whole(Store(database, log_days=30), product["_id"])
    write_ids = {product["write_id"] for product in products}
    assert set(database["embeddings"].distinct("write_id")) == write_ids
    named = {key for product in products for key in stored_hashes(product)}
    assert stored_images(Store(database, log_days=30)) == named
    files = set(database["images.files"].distinct("_id"))
    assert set(database["images.chunks"].distinct("files_id")) == files
    assert list(database["writes"].find({})) == []
