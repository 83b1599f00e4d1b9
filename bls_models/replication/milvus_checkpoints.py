"""How far the index in Milvus has followed the database, kept with its lease."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bls_models.database.lease import Lease
from bls_models.database.store import Document
from bls_models.replication.checkpoints import Progress
from bls_models.replication.product_loader import LeftOut

# A change of which no checkpoint is kept comes once more after a restart, which does no harm.
CHECKPOINT_SECONDS = 1.0
# They lie in one document, of 16 MB at most. With more nothing is kept, and whoever takes over
# reads the whole catalogue.
MAX_LEFT_OUT = 10_000

CHECKPOINT = "checkpoint"


class MilvusCheckpoints:
    """Places in the change stream up to which Milvus has acknowledged everything.

    Args:
        lease: who follows; a place is saved under its fence.
        identity: of the catalogue (``Store.identity``): a place in another one means nothing.
    """

    def __init__(self, lease: Lease, identity: str) -> None:
        self._lease = lease
        self._identity = identity
        self._changes = -1
        self._saved_at = float("-inf")

    @property
    def age_seconds(self) -> float | None:
        """None: the index itself is kept by Milvus, and no snapshot grows old."""
        return None

    def begin(self) -> None:
        """Nothing begins: whoever has the lease keeps them."""

    def restore(self) -> Progress | None:
        """Where the last holder was; the index is in Milvus already."""
        kept = checkpoint_of(self._lease.document)
        if kept is None or kept["identity"] != self._identity:
            return None
        return Progress(kept["token"], 0, left_out_of(kept))

    def offer(self, progress: Progress) -> None:
        """Keep where the follower is, once a second at most.

        Raises:
            ConflictError: the lease is lost.
            DatabaseError: the database does not answer.
        """
        if time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
            self._save(progress)

    def close(self, progress: Progress | None) -> None:
        """Keep where the follower was when it ended."""
        if progress is not None and self._lease.held:
            self._save(progress)

    def _save(self, progress: Progress) -> None:
        self._saved_at = time.monotonic()
        kept: Document | None = None
        if len(progress.left_out) <= MAX_LEFT_OUT:
            kept = {
                "token": progress.token,
                "identity": self._identity,
                "time": datetime.now(UTC),
                # Ids may hold what is no name of a field.
                "left_out": [[key, asdict(item)] for key, item in progress.left_out.items()],
            }
        self._lease.save({CHECKPOINT: kept})


def checkpoint_of(document: Mapping[str, Any]) -> Document | None:
    """The checkpoint in a lease's document, None where there is none."""
    kept: Document | None = document.get(CHECKPOINT)
    return kept


def left_out_of(kept: Document) -> dict[str, LeftOut]:
    """The products that were left out, by id."""
    return {key: LeftOut(**item) for key, item in kept["left_out"]}
