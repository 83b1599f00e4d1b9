"""A lease on work that one server of several may do at a time."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection

from bls_models.database.store import Document, database_errors
from bls_models.errors import ConflictError


class Lease:
    """A lease, kept in a document by the database's clock, since servers' own may differ.

    Each taking has a fence, a number above all before it. What is saved with the document names
    it, so nobody who has lost the lease changes what the next holder saved. Before each change of
    something else a holder asks ``check``: it says no long before anybody may take the lease.

    One thread takes and releases it; others may save and check.

    Args:
        collection: where the document is.
        name: its id; made if it is not there.
        seconds: for which a lease is good that is not renewed.

    Attributes:
        fence: of this taking; 0: it is not held.
        document: the lease as it was last seen, with what holders saved.
    """

    def __init__(self, collection: Collection[Document], name: str, seconds: float) -> None:
        self._collection = collection
        self._name = name
        self._seconds = seconds
        self._holder = uuid.uuid4().hex
        self._renewed_at = float("-inf")
        # When somebody was last seen to have renewed it, on this process's clock.
        self._changed_at = float("-inf")
        self.fence = 0
        self.document: Document = {}

    @property
    def held(self) -> bool:
        """Whether it was taken here, and was not found lost since."""
        return self.fence > 0

    @property
    def idle_seconds(self) -> float:
        """How long nobody was seen to renew it; endless: nobody has it."""
        return time.monotonic() - self._changed_at

    def take(self) -> bool:
        """Take it if it is free, where it is not held here already.

        Looking costs a read. Only where it may be free the database's clock is asked, by a write.

        Returns:
            Whether it is held here now.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        if self.held:
            return True
        with database_errors("asking for a lease"):
            self._see(self._collection.find_one({"_id": self._name}) or {})
            if self.idle_seconds <= self._seconds:
                return False
            began = time.monotonic()
            found = self._collection.find_one_and_update(
                {"_id": self._name},
                {"$currentDate": {"now": True}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
            assert found is not None
            renewed, fence = found.get("renewed"), int(found.get("fence", 0))
            if renewed is not None:
                idle: timedelta = found["now"] - renewed
                self._changed_at = began - idle.total_seconds()
                if idle.total_seconds() <= self._seconds:
                    return False
            # Whoever is quicker has another fence by then.
            same = {name: found.get(name) for name in ("fence", "renewed")}
            taken = self._collection.update_one(
                {"_id": self._name, **same},
                {
                    "$set": {"holder": self._holder, "fence": fence + 1},
                    "$currentDate": {"renewed": True},
                },
            )
        if taken.matched_count:
            self.fence, self._renewed_at = fence + 1, began
        return self.held

    def check(self) -> None:
        """Refuse what only the holder may do, where another may soon be that.

        Raises:
            ConflictError: the lease is not held, or was not renewed for half of its time.
        """
        if not self.held or time.monotonic() - self._renewed_at > self._seconds / 2:
            raise ConflictError("another server may have taken the work over; it goes on there")

    def save(self, values: dict[str, Any], fence: int | None = None) -> None:
        """Save values with the document, which renews the lease.

        Args:
            values: by name.
            fence: of the taking that they belong to; None: the present one.

        Raises:
            ConflictError: the lease is lost, or was taken again since.
            DatabaseError: the database does not answer in time.
        """
        own, began = self.fence if fence is None else fence, time.monotonic()
        with database_errors("saving what the holder of a lease knows"):
            found = None
            if own and own == self.fence:
                found = self._collection.find_one_and_update(
                    {"_id": self._name, "holder": self._holder, "fence": own},
                    {"$set": values, "$currentDate": {"renewed": True}},
                    return_document=ReturnDocument.AFTER,
                )
        if found is None:
            if self.fence == own:
                self.fence = 0
            raise ConflictError("another server has taken the work over")
        self._renewed_at = began
        self._see(found)

    def release(self) -> None:
        """Leave it to others at once.

        Raises:
            DatabaseError: the database does not answer in time; it ends by itself then.
        """
        own, self.fence = self.fence, 0
        if own:
            with database_errors("giving a lease back"):
                self._collection.update_one(
                    {"_id": self._name, "holder": self._holder, "fence": own},
                    {"$unset": {"renewed": ""}},
                )

    def _see(self, document: Document) -> None:
        renewed = document.get("renewed")
        if renewed is None:
            self._changed_at = float("-inf")
        elif self.document and renewed != self.document.get("renewed"):
            self._changed_at = time.monotonic()
        self.document = document
