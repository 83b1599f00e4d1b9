"""The MongoDB collections: connection, indexes, and the operations that ingest and match need.

Queries for people and reports are in ``bls_models.queries``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gridfs
import gridfs.errors
from pymongo import ASCENDING, DESCENDING, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.operations import ReplaceOne

from bls_models.errors import DatabaseError, MissingImageError
from bls_models.settings import Settings

Document = dict[str, Any]

PRODUCTS = "products"
EMBEDDINGS = "embeddings"
MATCH_LOG = "match_log"
INGEST_LOG = "ingest_log"
FEEDBACK = "feedback"
IMAGES_BUCKET = "images"

# What the index keeps of a product, beside its vectors.
INDEX_FIELDS = (
    "write_id",
    "fingerprint",
    "name",
    "category",
    "price",
    "currency",
    "attributes",
    "description_generated",
)

SECONDS_A_DAY = 86_400
DUPLICATE_KEY = 11000
# IndexOptionsConflict and IndexKeySpecsConflict: servers differ in which one they answer.
INDEX_CONFLICTS = (85, 86)


def connect(settings: Settings) -> Database[Document]:
    """The product database; the connection itself is made at the first operation."""
    timeout = settings.mongodb_timeout_ms
    client: MongoClient[Document] = MongoClient(
        settings.mongodb_uri,
        serverSelectionTimeoutMS=timeout,
        connectTimeoutMS=timeout,
        timeoutMS=timeout,
        tz_aware=True,
        # What was acknowledged must outlive the database's process. MongoDB does this by default.
        w="majority",
        journal=True,
        appname="product-match",
    )
    return client[settings.database]


@contextlib.contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """Turn the driver's errors into ``DatabaseError`` with what was being done."""
    try:
        yield
    except PyMongoError as error:
        raise DatabaseError(
            f"MongoDB failed while {doing}: {error}; check that it runs and that MONGODB_URI is "
            "right, then try again"
        ) from error


@dataclass(frozen=True)
class Replacement:
    """A product document to write if the stored revision is still ``expected_revision``."""

    document: Document
    expected_revision: int | None


class Store:
    """Products, embeddings and images, as ingest and match use them."""

    def __init__(self, database: Database[Document], log_days: int) -> None:
        self.database = database
        self.products = database[PRODUCTS]
        self.embeddings = database[EMBEDDINGS]
        self.images = gridfs.GridFSBucket(database, IMAGES_BUCKET)
        self.image_files = database[f"{IMAGES_BUCKET}.files"]
        self._log_days = log_days

    def ensure_indexes(self) -> None:
        """Create the indexes that are not there yet.

        Raises:
            DatabaseError: the database does not answer.
        """
        with database_errors("creating indexes"):
            for field in ("category", "price", "name", "images.sha256"):
                self.products.create_index([(field, ASCENDING)])
            self.embeddings.create_index([("write_id", ASCENDING)])
            self.embeddings.create_index([("product_id", ASCENDING)])
            for name in (MATCH_LOG, INGEST_LOG):
                log = self.database[name]
                self._expire(log)
                log.create_index([("status", ASCENDING), ("time", DESCENDING)])
            self._expire(self.database[FEEDBACK])
            self.database[MATCH_LOG].create_index([("request_id", ASCENDING)])

    def _expire(self, log: Collection[Document]) -> None:
        """Let entries expire, also where the collection had another time for it before."""
        seconds = self._log_days * SECONDS_A_DAY
        try:
            log.create_index([("time", ASCENDING)], expireAfterSeconds=seconds)
        except OperationFailure as error:
            if error.code not in INDEX_CONFLICTS:
                raise
            index = {"keyPattern": {"time": 1}, "expireAfterSeconds": seconds}
            self.database.command("collMod", log.name, index=index)

    def find_products(self, ids: Sequence[str]) -> dict[str, Document]:
        """Stored documents by id; ids that are not stored are left out. One round trip.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        with database_errors("reading products"):
            found = self.products.find({"_id": {"$in": list(ids)}})
            return {document["_id"]: document for document in found}

    def find_embeddings(self, write_ids: Sequence[str]) -> list[Document]:
        """The embeddings that these writes stored (see ``bls_models.ingest``)."""
        with database_errors("reading embeddings"):
            return list(self.embeddings.find({"write_id": {"$in": list(write_ids)}}))

    def iterate_products(self, page: int = 64) -> Iterator[list[Document]]:
        """What the index needs of every product, in pages, in the order of ids."""
        last: str | None = None
        while True:
            query: Document = {} if last is None else {"_id": {"$gt": last}}
            with database_errors("reading all products"):
                documents = list(
                    self.products.find(query, dict.fromkeys(INDEX_FIELDS, 1))
                    .sort("_id", ASCENDING)
                    .limit(page)
                )
            if not documents:
                return
            yield documents
            last = documents[-1]["_id"]

    def write_images(self, images: Mapping[str, bytes]) -> None:
        """Store encoded images under their sha256, each once."""
        with database_errors("storing images"):
            known = {
                item["_id"]
                for item in self.image_files.find({"_id": {"$in": list(images)}}, {"_id": 1})
            }
            for sha256, data in images.items():
                if sha256 in known:
                    continue
                try:
                    self.images.upload_from_stream_with_id(sha256, sha256, data)
                except gridfs.errors.FileExists:
                    # Another server has stored it meanwhile, or an upload was cut off and left
                    # chunks without a file.
                    if self.image_files.find_one({"_id": sha256}, {"_id": 1}) is None:
                        with contextlib.suppress(gridfs.errors.NoFile):
                            self.images.delete(sha256)
                        self.images.upload_from_stream_with_id(sha256, sha256, data)

    def read_image(self, sha256: str) -> bytes:
        """One stored image's encoded bytes.

        Raises:
            MissingImageError: it is not stored.
            DatabaseError: the database does not answer in time.
        """
        with database_errors(f"reading image {sha256}"):
            try:
                return bytes(self.images.open_download_stream(sha256).read())
            except gridfs.errors.NoFile:
                raise MissingImageError(
                    f"image {sha256} of the product is not stored any more; "
                    "send the product again with its images"
                ) from None

    def insert_embeddings(self, documents: list[Document]) -> None:
        """Store embeddings; they count only once a product with their ``write_id`` is stored."""
        if documents:
            with database_errors("storing embeddings"):
                self.embeddings.insert_many(documents, ordered=False)

    def replace_products(self, replacements: list[Replacement]) -> set[str]:
        """Write products whose stored revision is the expected one (0: not stored yet).

        Returns:
            Ids of products that somebody else changed in between; they were not written.
        """
        operations = [
            # With upsert, a stored product of another revision fails as a duplicate id.
            ReplaceOne(
                {"_id": item.document["_id"], "revision": item.expected_revision},
                item.document,
                upsert=True,
            )
            for item in replacements
        ]
        with database_errors("storing products"):
            try:
                self.products.bulk_write(operations, ordered=False)
            except BulkWriteError as error:
                failures = error.details["writeErrors"]
                if any(failure["code"] != DUPLICATE_KEY for failure in failures):
                    raise
                return {replacements[failure["index"]].document["_id"] for failure in failures}
        return set()

    def write_id_of(self, product_id: str) -> str | None:
        """The write that stored a product, None where it is not stored."""
        with database_errors(f"reading product {product_id}"):
            found = self.products.find_one({"_id": product_id}, {"write_id": 1})
            return None if found is None else found.get("write_id")

    def delete_product(self, product_id: str) -> Document | None:
        """Remove a product and return what was stored, or None."""
        with database_errors(f"deleting product {product_id}"):
            found: Document | None = self.products.find_one_and_delete({"_id": product_id})
            return found

    def delete_embeddings(self, query: Document) -> None:
        """Remove the embeddings that a query selects."""
        with database_errors("deleting old embeddings"):
            self.embeddings.delete_many(query)

    def delete_unused_images(self, hashes: Iterable[str]) -> None:
        """Remove those of these images that no product refers to any more."""
        candidates = set(hashes)
        if not candidates:
            return
        with database_errors("deleting unused images"):
            query = {"images.sha256": {"$in": list(candidates)}}
            for document in self.products.find(query, {"images.sha256": 1}):
                candidates -= {image["sha256"] for image in document["images"]}
            for sha256 in candidates:
                with contextlib.suppress(gridfs.errors.NoFile):
                    self.images.delete(sha256)
