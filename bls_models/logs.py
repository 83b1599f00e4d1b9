"""Writes log entries to MongoDB off the request path."""

from __future__ import annotations

import collections
import logging
import threading

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, PyMongoError

from bls_models.metrics import LOG_QUEUE_ENTRIES, NO_METRICS, Metrics
from bls_models.store import DUPLICATE_KEY, Document

logger = logging.getLogger(__name__)

MAX_BATCH = 256
RETRY_SECONDS = 1.0
# A batch is written when this much time has passed since its first entry.
FLUSH_SECONDS = 0.1
CLOSE_SECONDS = 5.0


class LogWriter:
    """A bounded queue in memory and a thread that writes it in batches.

    While the database is away entries wait; when the queue is full the oldest are dropped and
    the number of them is logged.

    Args:
        collection: where entries go.
        size: entries held at most.
        metrics: get the number of entries that wait.
    """

    def __init__(
        self, collection: Collection[Document], size: int, metrics: Metrics = NO_METRICS
    ) -> None:
        self._collection = collection
        self._metrics = metrics
        self._size = size
        self._entries: collections.deque[Document] = collections.deque()
        self._dropped = 0
        self._reported = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, entries: list[Document]) -> None:
        """Queue entries; returns at once."""
        with self._changed:
            self._entries.extend(entries)
            while len(self._entries) > self._size:
                self._entries.popleft()
                self._dropped += 1
            self._report()
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued, as far as the database answers, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)
        with self._changed:
            if self._entries:
                logger.error("%d log entries were not written", len(self._entries))

    def _report(self) -> None:
        """Tell by how much the queue has grown or shrunk: instances add up in one metric."""
        waiting = len(self._entries)
        if waiting != self._reported:
            change = waiting - self._reported
            self._metrics.add(LOG_QUEUE_ENTRIES, change, self._collection.name)
            self._reported = waiting

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._entries or self._closing)
                if not self._entries:
                    return
                if not self._closing:
                    # Let a few more requests share the round trip.
                    self._changed.wait_for(lambda: self._closing, FLUSH_SECONDS)
                batch = [self._entries.popleft() for _ in range(min(MAX_BATCH, len(self._entries)))]
                dropped, self._dropped = self._dropped, 0
                self._report()
            if dropped:
                logger.error(
                    "the log queue was full: %d entries of %s were dropped",
                    dropped,
                    self._collection.name,
                )
            self._insert(batch)

    def _insert(self, batch: list[Document]) -> None:
        try:
            self._collection.insert_many(batch, ordered=False)
        except BulkWriteError as error:
            # An id that is there already was written before, and only the answer was lost.
            failures = [
                item for item in error.details["writeErrors"] if item["code"] != DUPLICATE_KEY
            ]
            if failures:
                logger.error("%d log entries were refused: %s", len(failures), failures[0])
        except PyMongoError as error:
            if self._closing:
                logger.error("%d log entries were not written: %s", len(batch), error)
                return
            logger.warning("%d log entries wait for the database: %s", len(batch), str(error)[:200])
            with self._changed:
                self._entries.extendleft(reversed(batch))
                self._report()
                self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)
        except Exception:
            # What BSON has no form for is found before anything is sent; the others can go.
            if len(batch) == 1:
                logger.exception("a log entry cannot be stored and is dropped")
            else:
                for entry in batch:
                    self._insert([entry])
