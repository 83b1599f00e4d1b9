"""Log entries: into a queue on disk before the request is answered, from there into MongoDB."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import bson
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, PyMongoError

from bls_models.background import Background
from bls_models.database.store import DUPLICATE_KEY, Document
from bls_models.settings import Settings
from bls_models.telemetry.log_queue import LogQueue, abandoned_queues, open_queue
from bls_models.telemetry.metrics import LOG_DROPPED, LOG_QUEUE_ENTRIES, NO_METRICS, Metrics

logger = logging.getLogger(__name__)

MAX_BATCH = 256
# One that the database can never take would keep all behind it waiting.
MAX_ENTRY_BYTES = 16 * 2**20
RETRY_SECONDS = 1.0
# A batch is written when this much time has passed since its first entry.
FLUSH_SECONDS = 0.1
# How often SQLite's log is moved into its file, which waits for the disk.
CHECKPOINT_SECONDS = 1.0
# How often queues are looked for whose processes have died.
ADOPT_SECONDS = 5.0
CLOSE_SECONDS = 5.0

FULL = "full"
REFUSED = "refused"


class LogWriter:
    """Writes the entries of one collection, each exactly once.

    ``write`` gives an entry an ``_id`` and puts it into a queue on disk. A thread moves what is
    there to MongoDB in batches; one that was written before, when only the answer or the removal
    from the queue was lost, fails there as a duplicate and counts as written. Queues that
    processes left behind are emptied too.

    Args:
        collection: where entries go.
        settings: the queue's folder and size.
        metrics: get how much waits, and what was dropped.
    """

    def __init__(
        self, collection: Collection[Document], settings: Settings, metrics: Metrics = NO_METRICS
    ) -> None:
        self._collection = collection
        self._metrics = metrics
        # A queue's entries must never reach another database than their own.
        self._folder = Path(settings.log_queue_folder) / collection.database.name
        self._max_bytes = settings.log_queue_bytes
        self._queue: LogQueue | None = None
        self._adopted: list[LogQueue] = []
        # By queue: the last entry that is written, where it is still in the file.
        self._written: dict[LogQueue, int] = {}
        self._adopt_at = self._checkpoint_at = self._open_at = 0.0
        self._dropped = 0
        self._waiting = False
        self._thread = Background("log-writer", self._run)
        self._changed = self._thread.changed
        for reason in (FULL, REFUSED):
            # Exported from the start, because alerts see a rise and no first value.
            metrics.add(LOG_DROPPED, 0, collection.name, reason)
        self._open()
        self._thread.start()

    def write(self, entries: list[Document]) -> int:
        """Put entries into the queue; never raises.

        What cannot be queued is dropped, counted and reported, and its request is answered all the
        same.

        Args:
            entries: each gets an ``_id`` unless it has one.

        Returns:
            The number of entries that were dropped.
        """
        encoded = []
        for entry in entries:
            try:
                # Made here and not by the database, so that writing it twice leaves one.
                content = bson.encode({"_id": bson.ObjectId(), **entry})
                if len(content) > MAX_ENTRY_BYTES:
                    raise OverflowError(f"{len(content)} bytes are more than MongoDB takes")
                encoded.append(content)
            except (BSONError, OverflowError):
                logger.exception("a log entry cannot be stored and is dropped")
                self._metrics.add(LOG_DROPPED, 1, self._collection.name, REFUSED)
        dropped = len(entries) - len(encoded)
        if not encoded:
            return dropped
        if self._queue is None:
            self._open()
        queued = False
        if self._queue is not None:
            with contextlib.suppress(sqlite3.Error):
                self._queue.append(encoded)
                queued = True
        if not queued:
            dropped += len(encoded)
            self._drop(len(encoded))
        with self._changed:
            # Once for all entries of a batch: each waking costs more than an entry.
            if not self._waiting:
                self._waiting = True
                self._changed.notify()
        return dropped

    def close(self) -> None:
        """Write what is queued, as far as the database answers; the rest stays in the queue."""
        ended = self._thread.close(CLOSE_SECONDS)
        left = sum(queue.count for queue in self._queues())
        if left:
            logger.warning(
                "%d entries of %s stay in %s until the next start",
                left,
                self._collection.name,
                self._folder,
            )
        if ended:
            for queue in self._queues():
                queue.close()

    def _queues(self) -> list[LogQueue]:
        return [*([self._queue] if self._queue else []), *self._adopted]

    def _open(self) -> None:
        """Open the queue, unless that failed a moment ago."""
        if time.monotonic() < self._open_at:
            return
        self._open_at = time.monotonic() + RETRY_SECONDS
        try:
            self._queue = open_queue(self._folder, self._collection.name, self._max_bytes)
        except (OSError, sqlite3.Error) as error:
            logger.error(
                "the log queue in %s cannot be opened (%s): entries are dropped until it can; see "
                "to the disk or set PRODUCT_MATCH_LOG_QUEUE_FOLDER",
                self._folder,
                error,
            )

    def _drop(self, count: int) -> None:
        with self._changed:
            self._dropped += count
        self._metrics.add(LOG_DROPPED, count, self._collection.name, FULL)

    # --- the writer's thread --------------------------------------------------------------

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting or self._thread.stopping, CHECKPOINT_SECONDS
                )
                # Let a few more requests share the round trip.
                closing = self._thread.wait(FLUSH_SECONDS)
                self._waiting = False
            self._pass()

    def _pass(self) -> None:
        """Write all that waits, or wait if the database is away."""
        try:
            self._adopt()
            for queue in self._queues():
                self._drain(queue)
            for queue in [item for item in self._adopted if not item.count]:
                self._adopted.remove(queue)
                self._written.pop(queue, None)
                self._report(queue)
                queue.close()
        except PyMongoError as error:
            entries = sum(queue.count for queue in self._queues())
            logger.warning("%d log entries wait for the database: %s", entries, str(error)[:200])
            self._thread.wait(RETRY_SECONDS)
        except Exception:
            logger.exception("the log queue failed, trying again")
            self._thread.wait(RETRY_SECONDS)
        self._tell()

    def _tell(self) -> None:
        """Report what was dropped and how much waits; keep the files short."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            logger.error(
                "the log queue is full or cannot be written: %d entries of %s were dropped",
                dropped,
                self._collection.name,
            )
        for queue in self._queues():
            self._report(queue)
        if time.monotonic() >= self._checkpoint_at:
            self._checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS
            for queue in self._queues():
                queue.checkpoint()

    def _report(self, queue: LogQueue) -> None:
        name = self._collection.name
        self._metrics.set(LOG_QUEUE_ENTRIES, queue.count, name, queue.slot)

    def _adopt(self) -> None:
        """Take over what processes have left behind that died."""
        if time.monotonic() < self._adopt_at or not self._folder.is_dir():
            return
        self._adopt_at = time.monotonic() + ADOPT_SECONDS
        try:
            for queue in abandoned_queues(self._folder, self._collection.name, self._max_bytes):
                logger.info("%d entries were left in %s", queue.count, queue.path)
                self._adopted.append(queue)
        except (OSError, sqlite3.Error) as error:
            logger.warning("log queues in %s cannot be read: %s", self._folder, error)

    def _drain(self, queue: LogQueue) -> None:
        """Write a queue's entries until none is left.

        Raises:
            PyMongoError: the database does not take them now.
        """
        while rows := queue.read(self._written.get(queue, 0), MAX_BATCH):
            self._insert([entry for _, entry in rows])
            self._written[queue] = rows[-1][0]
            self._remove_written(queue)
            self._report(queue)
        if queue.count and queue in self._written:
            self._remove_written(queue)

    def _remove_written(self, queue: LogQueue) -> None:
        try:
            queue.remove(self._written[queue])
            del self._written[queue]
        except sqlite3.Error as error:
            # A full disk takes no removal either. They are passed over, and removed later.
            logger.warning("written entries stay in %s for now: %s", queue.path, error)

    def _insert(self, entries: Sequence[bytes]) -> None:
        try:
            self._collection.insert_many([RawBSONDocument(entry) for entry in entries], False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise
            # An id that is there already was written before.
            refused = [
                item for item in error.details["writeErrors"] if item["code"] != DUPLICATE_KEY
            ]
            if refused:
                logger.error("%d log entries were refused: %s", len(refused), refused[0])
                self._metrics.add(LOG_DROPPED, len(refused), self._collection.name, REFUSED)
