"""How far the index in Milvus has followed the database, kept with its lease."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from bls_models.database.lease import Lease
from bls_models.database.store import Document, database_errors
from bls_models.replication.checkpoints import Progress
from bls_models.replication.product_loader import LeftOut

logger = logging.getLogger(__name__)

# A change of which no checkpoint is kept comes once more after a restart, which does no harm.
CHANGED_SECONDS = 1.0
UNCHANGED_SECONDS = 5.0
# They lie in one document, of 16 MB at most. Of more it is not known which they are after a
# handover; a sync check then calls them missing until they are sent or reembedded.
MAX_LEFT_OUT = 10_000

CHECKPOINT = "checkpoint"


class MilvusCheckpoints:
    """Places in the change stream up to which Milvus has acknowledged everything.

    Args:
        lease: who follows; a place is saved under the fence that it has now.
        left_out: has a document for each index, with the products that are left out.
        name: of the index.
        identity: of the catalogue (``Store.identity``): a place in another one means nothing.
    """

    def __init__(
        self, lease: Lease, left_out: Collection[Document], name: str, identity: str
    ) -> None:
        self._lease = lease
        self._fence = lease.fence
        self._left_out = left_out
        self._name = name
        self._identity = identity
        self._changes = -1
        self._saved_at = float("-inf")
        self._kept: Mapping[str, LeftOut] | None = None

    @property
    def age_seconds(self) -> float | None:
        """None: the index itself is kept by Milvus, and no snapshot grows old."""
        return None

    def begin(self) -> None:
        """Nothing begins: whoever has the lease keeps them."""

    def restore(self) -> Progress | None:
        """Where the last holder was; the index is in Milvus already.

        Raises:
            DatabaseError: the database does not answer.
        """
        kept: Document | None = self._lease.document.get(CHECKPOINT)
        if kept is None or kept["identity"] != self._identity:
            return None
        return Progress(kept["token"], 0, read_left_out(self._left_out, self._name))

    def offer(self, progress: Progress) -> None:
        """Keep where the follower is, once a second at most.

        Raises:
            ConflictError: the lease is lost.
            DatabaseError: the database does not answer.
        """
        changed = progress.changes != self._changes
        pause = CHANGED_SECONDS if changed else UNCHANGED_SECONDS
        if time.monotonic() - self._saved_at >= pause:
            self._save(progress, changed)

    def close(self, progress: Progress | None) -> None:
        """Keep where the follower was when it ended."""
        if progress is not None and self._lease.fence == self._fence:
            self._save(progress, progress.changes != self._changes)

    def _save(self, progress: Progress, changed: bool) -> None:
        self._saved_at = time.monotonic()
        # Before the place: what is left out by then is known to whoever goes on there.
        if changed and progress.left_out != self._kept:
            self._keep(dict(progress.left_out))
        kept = {"token": progress.token, "identity": self._identity, "time": datetime.now(UTC)}
        self._lease.save({CHECKPOINT: kept}, self._fence)
        self._changes = progress.changes

    def _keep(self, left_out: Mapping[str, LeftOut]) -> None:
        self._kept = left_out
        if len(left_out) > MAX_LEFT_OUT:
            logger.warning(
                "%d products are left out; which they are is not kept for the next follower",
                len(left_out),
            )
            left_out = {}
        # Ids may hold what is no name of a field.
        rows = [[key, asdict(item)] for key, item in left_out.items()]
        older = {"_id": self._name, "fence": {"$lte": self._fence}}
        # A later holder's stays.
        with (
            database_errors("keeping which products are left out"),
            contextlib.suppress(DuplicateKeyError),
        ):
            self._left_out.update_one(
                older, {"$set": {"fence": self._fence, "rows": rows}}, upsert=True
            )


def read_left_out(collection: Collection[Any], name: str) -> dict[str, LeftOut]:
    """The products that an index leaves out, by id, as its follower kept them.

    Raises:
        DatabaseError: the database does not answer.
    """
    with database_errors("reading which products are left out"):
        found = collection.find_one({"_id": name}) or {}
    return {key: LeftOut(**item) for key, item in found.get("rows", [])}
