"""What each write may leave behind, noted before it begins, so that nothing is left over.

A write changes several collections, and a process can end between any two steps. Its intent, a
document in ``writes``, therefore names all that it is about to create or to replace. ``settle``
looks at the products as they are now and removes whatever of that no product uses. It is the last
step of a write that went well and, where one failed or was cut off, what any server does with
intents that are older than the lease.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from bls_models.background import Background
from bls_models.database.connection import causal_session
from bls_models.database.pictures import Pictures, stored_hashes
from bls_models.database.store import Document, Store, database_errors
from bls_models.errors import DatabaseError

logger = logging.getLogger(__name__)

# Intents recovered between two looks at the clock.
MAX_RECOVERED = 64


@dataclass(frozen=True)
class WriteIntent:
    """What one write may leave behind.

    Attributes:
        intent_id: its name, also as the holder of pictures.
        product_ids: the products that it writes or deletes.
        write_ids: of the embeddings that it stores or that it makes useless.
        pictures: sha256 of those that it needs or that its products had before.
        files: by sha256 the file ids of the pictures that it may have to upload.
        begun: when, by this process's ``time.monotonic``.
    """

    intent_id: str
    product_ids: Sequence[str]
    write_ids: Sequence[str]
    pictures: Sequence[str]
    files: dict[str, ObjectId] = field(default_factory=dict)
    begun: float = 0.0


class WriteJournal:
    """Intents of all servers.

    Args:
        store: the products and embeddings.
        pictures: the pictures.
        lease_seconds: how long a write may take; intents that are older belong to nobody.
    """

    def __init__(self, store: Store, pictures: Pictures, lease_seconds: float) -> None:
        self.store = store
        self.pictures = pictures
        self._intents = store.database["writes"]
        self._lease_seconds = lease_seconds

    def begin(
        self,
        product_ids: Iterable[str],
        write_ids: Iterable[Any],
        pictures: Iterable[str],
        uploads: Iterable[str] = (),
    ) -> WriteIntent:
        """Note what a write is about to do; see ``WriteIntent``.

        Raises:
            DatabaseError: the database does not answer in time; nothing may be written then.
        """
        intent = WriteIntent(
            intent_id=uuid.uuid4().hex,
            product_ids=list(product_ids),
            # A product put there by hand has none, or anything.
            write_ids=[write_id for write_id in write_ids if isinstance(write_id, str)],
            pictures=list(dict.fromkeys(pictures)),
            files={sha256: ObjectId() for sha256 in dict.fromkeys(uploads)},
            begun=time.monotonic(),
        )
        content = {
            "product_ids": intent.product_ids,
            "write_ids": intent.write_ids,
            "pictures": intent.pictures,
            "files": list(intent.files.values()),
        }
        with database_errors("beginning a write"):
            # The database's clock, because servers' own may differ.
            self._intents.update_one(
                {"_id": intent.intent_id},
                {"$set": content, "$currentDate": {"begun": True}},
                upsert=True,
            )
        return intent

    def check_lease(self, intent: WriteIntent) -> None:
        """Refuse to go on with a write that others may soon take for dead.

        Raises:
            DatabaseError: more than half of the lease has passed.
        """
        if time.monotonic() - intent.begun > self._lease_seconds / 2:
            raise DatabaseError("the write was held up for too long and given up; try again")

    def settle(self, intent: WriteIntent, uploads_ended: bool = False) -> None:
        """Remove what no product uses of all that an intent names, and the intent.

        Args:
            intent: of a write that has ended, in whatever way.
            uploads_ended: it was cut off, so look for chunks without a file.

        Raises:
            DatabaseError: the database does not answer in time; what is left goes when the lease
                has passed.
        """
        with causal_session(self.store.database):
            # A write that a majority has acknowledged: what this session reads from here on is no
            # older, whichever server is the primary by then.
            with database_errors("ending a write"):
                self._intents.update_one(
                    {"_id": intent.intent_id}, {"$currentDate": {"settling": True}}
                )
            self._remove_useless(intent, uploads_ended)
            with database_errors("ending a write"):
                self._intents.delete_one({"_id": intent.intent_id})

    def _remove_useless(self, intent: WriteIntent, uploads_ended: bool) -> None:
        if intent.pictures:
            # First, because a write that replaces a product from here on holds its pictures itself.
            self.pictures.release(intent.intent_id, intent.pictures)
        current = self.store.find_products(
            intent.product_ids, ("write_id", "images.sha256")
        ).values()
        written = [document.get("write_id") for document in current]
        useless = [write_id for write_id in intent.write_ids if write_id not in written]
        if useless:
            self.store.delete_embeddings(useless)
        used = {sha256 for document in current for sha256 in stored_hashes(document)}
        self.pictures.delete_unused(
            (sha256 for sha256 in intent.pictures if sha256 not in used),
            lambda file_ids: self._note_files(intent, file_ids),
        )
        if uploads_ended and intent.files:
            self.pictures.delete_orphaned_chunks(list(intent.files.values()))

    def _note_files(self, intent: WriteIntent, file_ids: list[Any]) -> None:
        self._intents.update_one(
            {"_id": intent.intent_id}, {"$addToSet": {"files": {"$each": file_ids}}}
        )

    def settle_or_leave(self, intent: WriteIntent) -> None:
        """Settle an intent; where the database does not answer, leave it to ``recover``."""
        try:
            self.settle(intent)
        except DatabaseError as error:
            logger.warning("what a write has left over is removed later: %s", error)

    def recover(self) -> int:
        """Settle the intents of writes that must have been cut off; returns their number.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        with database_errors("looking for writes that were cut off"):
            if self._intents.find_one({}, {"_id": 1}) is None:
                return 0
            now: datetime = self.store.database.command(
                "hello", codec_options=self._intents.codec_options
            )["localTime"]
            overdue = list(
                self._intents.find(
                    {"begun": {"$lt": now - timedelta(seconds=self._lease_seconds)}}
                ).limit(MAX_RECOVERED)
            )
        settled = 0
        for item in overdue:
            try:
                self.settle(_intent_from_document(item), uploads_ended=True)
                settled += 1
            except DatabaseError:
                raise
            except Exception:
                # Changed by hand, for instance; the others must not wait for it.
                logger.exception("the write %s cannot be settled", item["_id"])
        return settled


def _intent_from_document(document: Document) -> WriteIntent:
    files: list[Any] = document["files"]
    return WriteIntent(
        intent_id=document["_id"],
        product_ids=document["product_ids"],
        write_ids=document["write_ids"],
        pictures=document["pictures"],
        files={str(number): file_id for number, file_id in enumerate(files)},
    )


class WriteRecovery:
    """A thread that settles, now and then, the writes that were cut off on any server."""

    def __init__(self, journal: WriteJournal, seconds: float) -> None:
        self._journal = journal
        self._seconds = seconds
        self._thread = Background("write-recovery", self._run)
        self._thread.start()

    def close(self) -> None:
        """Stop, after what is under way."""
        self._thread.close()

    def _run(self) -> None:
        while not self._thread.wait(self._seconds):
            try:
                recovered = self._journal.recover()
            except DatabaseError as error:
                logger.warning("writes that were cut off are looked for later: %s", error)
            else:
                if recovered:
                    logger.warning("%d writes that were cut off were settled", recovered)
