"""When snapshots of the index are written: beside the changes and searches, in a thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bls_models.background import Background
from bls_models.errors import DatabaseError
from bls_models.index.product_index import ProductIndex
from bls_models.replication.checkpoints import Progress
from bls_models.replication.snapshot_folder import Position, SnapshotFolder
from bls_models.settings import Settings

logger = logging.getLogger(__name__)

# The writing of one snapshot is followed by so many times its length without one.
PAUSE_SHARE = 10
# Of a snapshot over its vectors: ids, fields and lists took 2% where a product had three pictures
# and short fields. The second is for small catalogues.
SIZE_OVER_VECTORS = 1.1
LEAST_BYTES = 2**20


class SnapshotSchedule:
    """Decides when a snapshot is due and writes it.

    Due is the first one when there is none, one after ``snapshot_changes`` changes, and one after
    ``snapshot_seconds`` if anything changed; if nothing did, the newest is only moved on to the
    present place in the change stream, which the database does not keep for ever.

    Args:
        index: what is saved and restored.
        settings: the folder and the intervals.
        fingerprint: the bundle's.
        metric: version of the metric that the index's image vectors go through.
        identity: asks the database for the catalogue's identity.
    """

    def __init__(
        self,
        index: ProductIndex,
        settings: Settings,
        fingerprint: str,
        metric: str,
        identity: Callable[[], str],
    ) -> None:
        self._index = index
        self._seconds = settings.snapshot_seconds
        self._changes = settings.snapshot_changes
        self._limit = settings.snapshot_bytes
        self._fingerprint = fingerprint
        self._metric = metric
        self._identity = identity
        self._path = settings.snapshot_folder
        self._folder = SnapshotFolder(Path(self._path)) if self._path else None
        self._writes = False
        self._thread: Background | None = None
        # Changes and time of the newest snapshot; None: there is none of this catalogue.
        self._saved: tuple[int, datetime] | None = None
        self._tried_at = float("-inf")
        self._took_seconds = 0.0

    def begin(self) -> None:
        """Write snapshots from now on, if there is a folder and nobody else writes there."""
        self._writes = self._folder is not None and _acquired(self._folder)

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the newest snapshot was up to date, None where there is none."""
        if self._saved is None:
            return None
        return (datetime.now(UTC) - self._saved[1]).total_seconds()

    def restore(self) -> Progress | None:
        """Fill the index from the newest snapshot that fits.

        Raises:
            DatabaseError: the database, which must be the same, does not answer.
        """
        if self._folder is None:
            return None
        snapshot = self._folder.restore(
            self._fingerprint, self._metric, self._identity(), self._index.restore
        )
        if snapshot is None:
            return None
        position = snapshot.position
        self._saved, self._tried_at = (0, position.time), time.monotonic()
        logger.info(
            "the index took %d products from a snapshot of %s",
            self._index.info()["products"],
            position.time.isoformat(timespec="seconds"),
        )
        return Progress(position.token, 0, snapshot.left_out)

    def offer(self, progress: Progress) -> None:
        """Start a snapshot if one is due and none is being written; does not wait for it.

        Called by whoever changes the index, after a change; what is changed while the snapshot is
        written may be in it.

        Raises:
            DatabaseError: the database does not answer.
        """
        if not self._writes or (self._thread is not None and self._thread.running):
            return
        waited = time.monotonic() - self._tried_at
        many = self._saved is not None and progress.changes - self._saved[0] >= self._changes
        if waited < (PAUSE_SHARE * self._took_seconds if many else self._seconds):
            return
        self._tried_at = time.monotonic()
        self._thread = Background("index-snapshot", self._prepared(progress))
        self._thread.start()

    def close(self, progress: Progress | None) -> None:
        """Wait for what is being written, and write what is newer.

        Args:
            progress: None where the index does not hold the whole catalogue.
        """
        if self._thread is not None:
            self._thread.close()
        if self._writes and progress is not None:
            try:
                self._prepared(progress)()
            except DatabaseError as error:
                logger.warning("the index wrote no last snapshot: %s", error)
        self._writes = False
        if self._folder is not None:
            self._folder.release()

    def _has(self, progress: Progress) -> bool:
        return self._saved is not None and self._saved[0] == progress.changes

    def _fits(self, folder: SnapshotFolder) -> bool:
        """Whether the folder has room for a snapshot, where its size is limited."""
        size = round(self._index.vector_bytes * SIZE_OVER_VECTORS) + LEAST_BYTES
        if not self._limit:
            return True
        if folder.make_room(size, self._limit):
            if not folder.holds_one:
                self._saved = None
            return True
        logger.warning(
            "the index wrote no snapshot: it takes about %d bytes, and %s may hold %d; raise "
            "PRODUCT_MATCH_SNAPSHOT_BYTES and the volume (of the chart: catalogue.pictures)",
            size,
            self._path,
            self._limit,
        )
        return False

    def _prepared(self, progress: Progress) -> Callable[[], None]:
        """The work of one snapshot; its position is fixed now, while the index stands still.

        Raises:
            DatabaseError: the database does not answer.
        """
        now = datetime.now(UTC)
        position = Position(self._fingerprint, self._metric, self._identity(), progress.token, now)
        left_out = dict(progress.left_out)

        def work() -> None:
            assert self._folder is not None
            start = time.monotonic()
            try:
                if self._has(progress):
                    self._folder.advance(position)
                elif self._fits(self._folder):
                    self._folder.write(position, left_out, self._index.save)
                    self._took_seconds = time.monotonic() - start
                    logger.info("the index wrote a snapshot in %.1f s", self._took_seconds)
                else:
                    return
                self._saved = (progress.changes, now)
            except Exception:
                kept = "the one before it stays" if self._folder.holds_one else "there is none"
                logger.exception("the index wrote no snapshot; %s", kept)

        return work


def _acquired(folder: SnapshotFolder) -> bool:
    try:
        if folder.acquire():
            return True
        reason = "another server writes there"
    except OSError as error:
        reason = str(error)
    logger.warning("the index writes no snapshots: %s", reason)
    return False
