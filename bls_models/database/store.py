"""The MongoDB collections: indexes, and the operations that ingest and match need.

Questions to the request logs are in ``bls_models.database.queries``.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.operations import InsertOne, ReplaceOne

from bls_models.errors import DatabaseError
from bls_models.watchdog import progress

logger = logging.getLogger(__name__)

Document = dict[str, Any]

PRODUCTS = "products"
EMBEDDINGS = "embeddings"
MATCH_LOG = "match_log"
INGEST_LOG = "ingest_log"
FEEDBACK = "feedback"
CATALOGUE = "catalogue"
IDENTITY = "identity"

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
# For a page of a read of all products, which a shop's server gives in milliseconds; the local
# database looks through everything for the first one.
PAGE_SECONDS = 120.0
# An index of a large collection takes minutes; a connection that is dead is found out before.
INDEX_BUILD_SECONDS = 86_400.0
DUPLICATE_KEY = 11000
# IndexOptionsConflict and IndexKeySpecsConflict: servers differ in which one they answer.
INDEX_CONFLICTS = (85, 86)


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
    finally:
        progress()


def duplicates_of(error: BulkWriteError) -> list[Document]:
    """The errors of a bulk write that met keys which were there already, if it met nothing else.

    Raises:
        BulkWriteError: it did, or a majority has not acknowledged what was written, so that it may
            be undone.
    """
    errors: list[Document] = error.details["writeErrors"]
    if error.details["writeConcernErrors"] or any(item["code"] != DUPLICATE_KEY for item in errors):
        raise error
    return errors


@dataclass(frozen=True)
class Replacement:
    """A product document to write if what is stored is still ``expected``, or still nothing."""

    document: Document
    expected: Document | None


def _same_write(document: Document) -> Document:
    """A query for a product as it was read: neither written since nor deleted and created anew.

    The revision alone would not tell, because it counts from 1 again after a deletion. One that was
    put there by hand may lack either, which None stands for.
    """
    names = ("revision", "write_id")
    return {"_id": document["_id"]} | {name: {"$eq": document.get(name)} for name in names}


class Store:
    """Products and embeddings, as ingest and match use them; pictures have a module."""

    # Products read at a time, with their vectors.
    PAGE = 64

    def __init__(self, database: Database[Document], log_days: int) -> None:
        self.database = database
        self.products = database[PRODUCTS]
        self.embeddings = database[EMBEDDINGS]
        self._log_days = log_days

    def ensure_indexes(self) -> None:
        """Create the indexes that are not there yet, which may take minutes.

        Raises:
            DatabaseError: the database does not answer, or refuses.
        """
        with database_errors("creating indexes"), pymongo.timeout(INDEX_BUILD_SECONDS):
            for unused in ("category_1", "price_1", "name_1"):
                # An earlier version made them, and every write pays for them.
                with contextlib.suppress(OperationFailure):
                    self.products.drop_index(unused)
            for field in ("created", "images.sha256"):
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

    def identity(self) -> str:
        """What tells this catalogue from every other, also from a later one of the same name.

        Made up of the database's name, an id that is generated at the first call, and the
        server's own id of the products collection, which a restored or new one does not share.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        with database_errors("reading the catalogue's identity"):
            catalogue = self.database[CATALOGUE]
            found = catalogue.find_one({"_id": IDENTITY})
            if found is None:
                with contextlib.suppress(DuplicateKeyError):
                    catalogue.insert_one({"_id": IDENTITY, "id": uuid.uuid4().hex})
                found = catalogue.find_one({"_id": IDENTITY})
            parts = [self.database.name, "" if found is None else found["id"]]
            for item in self.database.list_collections(filter={"name": PRODUCTS}):
                parts.append(bytes(item["info"].get("uuid", b"")).hex())
            return "/".join(parts)

    def count_products(self) -> int:
        """About how many products are stored.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        # The local database counts one by one.
        with database_errors("counting products"), pymongo.timeout(PAGE_SECONDS):
            return self.products.estimated_document_count()

    def find_products(self, ids: Sequence[str], fields: Iterable[str] = ()) -> dict[str, Document]:
        """Stored documents by id; ids that are not stored are left out. One round trip.

        Args:
            ids: of products.
            fields: what is wanted of each beside its id; all if empty.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        with database_errors("reading products"):
            found = self.products.find(
                {"_id": {"$in": list(ids)}}, dict.fromkeys(fields, 1) or None
            )
            return {document["_id"]: document for document in found}

    def products_with_picture(self, sha256: str, most: int) -> list[str]:
        """Ids of products that have a picture, at most so many."""
        with database_errors("looking for a picture's products"):
            found = self.products.find({"images.sha256": sha256}, {"_id": 1}).limit(most)
            return [document["_id"] for document in found]

    def find_embeddings(self, write_ids: Sequence[str]) -> list[Document]:
        """The embeddings that these writes stored (see ``bls_models.ingest.upserter``).

        Each has one of the ``write_id``s, and may lack anything else that was taken out by hand.
        """
        with database_errors("reading embeddings"):
            found = self.embeddings.find({"write_id": {"$in": list(write_ids)}})
            # MongoDB also finds a list that holds one of them.
            return [item for item in found if isinstance(item["write_id"], str)]

    def iterate_products(
        self, page: int = PAGE, fields: Iterable[str] = INDEX_FIELDS
    ) -> Iterator[list[Document]]:
        """Some fields of every product, in pages, in the order of ids, of whatever type these are.

        Each page has ``PAGE_SECONDS``, however long all of them take. Where the database loses its
        place, or its primary, reading goes on behind the last page.

        Args:
            page: most products at a time.
            fields: what is wanted of each beside its id.

        Raises:
            DatabaseError: the database does not answer in time, for the second time in a row.
        """
        # The id that was read last; an id may be anything, also None.
        place: list[Any] = []
        while True:
            before = place
            try:
                for documents in self._pages_behind(before, page, fields):
                    place = [documents[-1]["_id"]]
                    yield documents
                return
            except DatabaseError as error:
                if place is before:
                    raise
                logger.warning("reading all products goes on where it was: %s", error)

    def _pages_behind(
        self, place: list[Any], page: int, fields: Iterable[str]
    ) -> Iterator[list[Document]]:
        cursor = self.products.find(
            {},
            dict.fromkeys(fields, 1),
            sort=[("_id", ASCENDING)],
            hint=[("_id", ASCENDING)],
            batch_size=page,
        )
        if place:
            # Not by `$gt`, which compares only within a type.
            cursor.min([("_id", place[0])])
        with database_errors("reading all products"), cursor:
            while True:
                with pymongo.timeout(PAGE_SECONDS):
                    documents = list(itertools.islice(cursor, page))
                if not documents:
                    return
                if new := [item for item in documents if [item["_id"]] != place]:
                    yield new

    def stored_ids(self, ids: Sequence[Any]) -> list[Any]:
        """Those of some ids, of whatever type, that a product has."""
        with database_errors("reading products"):
            found = self.products.find({"_id": {"$in": list(ids)}}, {"_id": 1})
            return [document["_id"] for document in found]

    def insert_embeddings(self, documents: list[Document]) -> None:
        """Store embeddings; they count only once a product with their ``write_id`` is stored."""
        if documents:
            with database_errors("storing embeddings"):
                self.embeddings.insert_many(documents, ordered=False)

    def replace_products(self, replacements: list[Replacement]) -> set[str]:
        """Write products that are stored as expected.

        Returns:
            Ids of products that somebody else changed in between; they were not written.
        """
        operations: list[InsertOne[Document] | ReplaceOne[Document]] = [
            InsertOne(item.document)
            if item.expected is None
            else ReplaceOne(_same_write(item.expected), item.document)
            for item in replacements
        ]
        with database_errors("storing products"):
            try:
                result = self.products.bulk_write(operations, ordered=False)
                written = result.inserted_count + result.matched_count
            except BulkWriteError as error:
                duplicates_of(error)
                written = error.details["nInserted"] + error.details["nMatched"]
        if written == len(operations):
            return set()
        # A replacement that found nothing to replace does not say which one it was.
        write_ids = {item.document["_id"]: item.document["write_id"] for item in replacements}
        found = self.find_products(list(write_ids), ("write_id",))
        return {
            product_id
            for product_id, write_id in write_ids.items()
            if found.get(product_id, {}).get("write_id") != write_id
        }

    def delete_product(self, stored: Document) -> bool:
        """Remove a product that is still stored as it was read; whether it was."""
        with database_errors(f"deleting product {stored['_id']}"):
            return self.products.delete_one(_same_write(stored)).deleted_count == 1

    def delete_embeddings(self, write_ids: Sequence[str]) -> None:
        """Remove what these writes stored."""
        with database_errors("deleting old embeddings"):
            self.embeddings.delete_many({"write_id": {"$in": list(write_ids)}})
