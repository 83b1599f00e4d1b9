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
        self.fence = 0
        self.document: Document = {}

    @property
    def held(self) -> bool:
        """Whether it was taken here, and was not found lost since."""
        return self.fence > 0

    def take(self) -> bool:
        """Renew it, or take it if it is free.

        Returns:
            Whether it is held here now.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        began = time.monotonic()
        with database_errors("asking for a lease"):
            if self.held:
                self._renew({}, began)
                return self.held
            found = self._collection.find_one_and_update(
                {"_id": self._name},
                {"$currentDate": {"now": True}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
            assert found is not None
            self.document = found
            if self.idle_seconds <= self._seconds:
                return False
            fence = int(found.get("fence", 0)) + 1
            # Whoever is quicker has another fence by then.
            same = {name: found.get(name) for name in ("fence", "renewed")}
            taken = self._collection.update_one(
                {"_id": self._name, **same},
                {
                    "$set": {"holder": self._holder, "fence": fence},
                    "$currentDate": {"renewed": True},
                },
            )
        if taken.matched_count:
            self.fence, self._renewed_at = fence, began
        return self.held

    @property
    def idle_seconds(self) -> float:
        """How long nobody had renewed it when it was last asked for; endless: it was free."""
        renewed = self.document.get("renewed")
        if renewed is None:
            return float("inf")
        idle: timedelta = self.document["now"] - renewed
        return idle.total_seconds()

    def check(self) -> None:
        """Refuse what only the holder may do, where another may soon be that.

        Raises:
            ConflictError: the lease is not held, or was not renewed for half of its time.
        """
        if not self.held or time.monotonic() - self._renewed_at > self._seconds / 2:
            raise ConflictError("another server may have taken the work over; it goes on there")

    def save(self, values: dict[str, Any]) -> None:
        """Save values with the document, which renews the lease.

        Raises:
            ConflictError: the lease is lost.
            DatabaseError: the database does not answer in time.
        """
        began = time.monotonic()
        with database_errors("saving what the holder of a lease knows"):
            if self.held:
                self._renew({"$set": values}, began)
        if not self.held:
            raise ConflictError("another server has taken the work over")

    def release(self) -> None:
        """Leave it to others at once.

        Raises:
            DatabaseError: the database does not answer in time; it ends by itself then.
        """
        if self.held:
            with database_errors("giving a lease back"):
                self._collection.update_one(self._mine, {"$unset": {"renewed": ""}})
            self.fence = 0

    @property
    def _mine(self) -> Document:
        return {"_id": self._name, "holder": self._holder, "fence": self.fence}

    def _renew(self, update: Document, began: float) -> None:
        found = self._collection.find_one_and_update(
            self._mine,
            update | {"$currentDate": {"renewed": True, "now": True}},
            return_document=ReturnDocument.AFTER,
        )
        if found is None:
            self.fence = 0
        else:
            self.document, self._renewed_at = found, began
