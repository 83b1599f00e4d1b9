"""Products' pictures in GridFS, each stored once, shared by the products that have it.

A picture's file has a fresh id, and its sha256 for a unique file name. Every upload therefore owns
its chunks, and removing one file can never take chunks of another upload of the same picture.

Two marks in a file's ``metadata`` keep servers from deleting what another is about to use:

- ``held_by``: the writes that need the picture now. A write holds its pictures before the products
  that name them are stored, and releases them afterwards.
- ``condemned``: put on a file that nobody holds, by whoever wants it gone. Holding a picture takes
  the mark away. Whoever set it looks for products with the picture, and deletes the file only if
  the mark is still its own.

So a file that goes was held by nobody when it was condemned, named by no product afterwards, and
not held in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import gridfs
import gridfs.errors
import pymongo
from bson import ObjectId
from pymongo import ASCENDING
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from bls_models.database.store import (
    INDEX_BUILD_SECONDS,
    PRODUCTS,
    Document,
    database_errors,
    duplicates_of,
)
from bls_models.errors import DatabaseError, MissingImageError
from bls_models.product import stored_images

BUCKET = "images"
HELD_BY = "metadata.held_by"
CONDEMNED = "metadata.condemned"
# GridFS's own default, so that its tools show files as they expect them.
CHUNK_BYTES = 255 * 1024
# Chunks sent at a time: far below the largest message, and what a batch needs beside its pictures.
MAX_INSERT_BYTES = 8 * 2**20
# How often others may delete or store a picture just when it is to be held.
HOLD_ATTEMPTS = 10


def stored_hashes(document: Document) -> list[str]:
    """The sha256 of each picture of a stored product."""
    return [image["sha256"] for image in stored_images(document)]


class Pictures:
    """Encoded pictures by their sha256."""

    def __init__(self, database: Database[Document]) -> None:
        self.files = database[f"{BUCKET}.files"]
        self.chunks = database[f"{BUCKET}.chunks"]
        self._bucket = gridfs.GridFSBucket(database, BUCKET)
        self._products = database[PRODUCTS]

    def ensure_indexes(self) -> None:
        """Create the indexes that are not there yet, which may take minutes.

        Raises:
            DatabaseError: the database does not answer, or refuses.
        """
        with database_errors("creating indexes of pictures"), pymongo.timeout(INDEX_BUILD_SECONDS):
            self.files.create_index([("filename", ASCENDING)], unique=True)
            self.chunks.create_index([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)

    def hold(
        self, holder: str, kept: Collection[str], uploads: Mapping[str, tuple[ObjectId, bytes]]
    ) -> set[str]:
        """Keep pictures from being deleted until ``release``; stores those that are not there.

        Args:
            holder: who holds them.
            kept: sha256 of pictures that should be stored already.
            uploads: by sha256 the file's id, if it must be stored, and its bytes.

        Returns:
            Those of ``uploads`` that were stored before.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        with database_errors("storing pictures"):
            before: set[str] = set()
            wanted = {*kept, *uploads}
            for _ in range(HOLD_ATTEMPTS):
                known = self._hold_known(holder, wanted)
                if known is None:
                    continue
                before |= known & uploads.keys()
                missing = {key: uploads[key] for key in wanted - known if key in uploads}
                wanted = self._upload(holder, missing) if missing else set()
                # Stored by another server meanwhile, so that it can be held now.
                if not wanted:
                    return before
        raise DatabaseError(
            "other servers store and delete the same pictures again and again; try again"
        )

    def _hold_known(self, holder: str, hashes: Collection[str]) -> set[str] | None:
        """Hold those that are stored; None where one of them went meanwhile."""
        known = {
            item["filename"]
            for item in self.files.find({"filename": {"$in": list(hashes)}}, {"filename": 1})
        }
        if not known:
            return known
        held = self.files.update_many(
            {"filename": {"$in": list(known)}},
            {"$addToSet": {HELD_BY: holder}, "$unset": {CONDEMNED: ""}},
        )
        return known if held.matched_count == len(known) else None

    def _upload(self, holder: str, uploads: Mapping[str, tuple[ObjectId, bytes]]) -> set[str]:
        """Store pictures, held at once; returns those that another server was faster with."""
        for batch in _batches(_chunks(uploads.values())):
            self.chunks.insert_many(batch, ordered=False)
        now = datetime.now(UTC)
        names = list(uploads)
        try:
            self.files.insert_many(
                [
                    {
                        "_id": uploads[name][0],
                        "filename": name,
                        "length": len(uploads[name][1]),
                        "chunkSize": CHUNK_BYTES,
                        "uploadDate": now,
                        "metadata": {"held_by": [holder]},
                    }
                    for name in names
                ],
                ordered=False,
            )
        except BulkWriteError as error:
            slower = {names[failure["index"]] for failure in duplicates_of(error)}
            self.chunks.delete_many({"files_id": {"$in": [uploads[name][0] for name in slower]}})
            return slower
        return set()

    def release(self, holder: str, hashes: Iterable[str]) -> None:
        """Undo ``hold``."""
        with database_errors("releasing pictures"):
            self.files.update_many(
                {"filename": {"$in": list(hashes)}}, {"$pull": {HELD_BY: holder}}
            )

    def read(self, sha256: str) -> bytes:
        """One stored picture's encoded bytes.

        Raises:
            MissingImageError: it is not stored.
            DatabaseError: the database does not answer in time.
        """
        with database_errors(f"reading image {sha256}"):
            try:
                return bytes(self._bucket.open_download_stream_by_name(sha256).read())
            except (gridfs.errors.NoFile, gridfs.errors.CorruptGridFile):
                raise MissingImageError(
                    f"image {sha256} of the product is not stored any more; "
                    "send the product again with its images"
                ) from None

    def delete_unused(self, hashes: Iterable[str], note: Callable[[list[Any]], None]) -> None:
        """Remove those of these pictures that no product names and nobody holds.

        Args:
            hashes: their sha256.
            note: called with the ids of files before they are deleted; after a crash in between
                their chunks are found by them (``delete_orphaned_chunks``).

        Raises:
            DatabaseError: the database does not answer in time.
        """
        candidates = list(hashes)
        if not candidates:
            return
        mark = uuid.uuid4().hex
        with database_errors("deleting unused pictures"):
            self.files.update_many(
                {"filename": {"$in": candidates}, f"{HELD_BY}.0": {"$exists": False}},
                {"$set": {CONDEMNED: mark}},
            )
            condemned = {
                item["filename"]: item["_id"]
                for item in self.files.find(
                    {"filename": {"$in": candidates}, CONDEMNED: mark}, {"filename": 1}
                )
            }
            ids = [condemned[name] for name in condemned.keys() - self._in_use(condemned)]
            if not ids:
                return
            note(ids)
            self.files.delete_many({"_id": {"$in": ids}, CONDEMNED: mark})
            self.delete_orphaned_chunks(ids)

    def _in_use(self, hashes: Iterable[str]) -> set[str]:
        query = {"images.sha256": {"$in": list(hashes)}}
        found = self._products.find(query, {"images.sha256": 1})
        return {sha256 for document in found for sha256 in stored_hashes(document)}

    def delete_orphaned_chunks(self, file_ids: Sequence[Any]) -> None:
        """Remove the chunks of those of these files that are not there.

        Only for files that were there, or whose upload has ended: chunks are stored first.
        """
        with database_errors("deleting chunks"):
            found = self.files.find({"_id": {"$in": list(file_ids)}}, {"_id": 1})
            gone = set(file_ids) - {item["_id"] for item in found}
            if gone:
                self.chunks.delete_many({"files_id": {"$in": list(gone)}})


def _chunks(files: Iterable[tuple[ObjectId, bytes]]) -> Iterator[Document]:
    for file_id, data in files:
        for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            yield {"files_id": file_id, "n": number, "data": data[start : start + CHUNK_BYTES]}


def _batches(chunks: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for chunk in chunks:
        batch.append(chunk)
        size += len(chunk["data"])
        if size >= MAX_INSERT_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
