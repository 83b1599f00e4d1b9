"""Keeps the product index equal to MongoDB: a snapshot or a full read, then the change stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import ConnectionFailure, PyMongoError

from bls_models.background import Background
from bls_models.bundle import Bundle
from bls_models.database.change_stream import (
    CLOSE_SECONDS,
    ChangeReader,
    Changes,
    StreamEndedError,
    Token,
    age_seconds,
)
from bls_models.database.connection import causal_session, check_server
from bls_models.database.store import Store
from bls_models.errors import STANDS_STILL, IndexUnavailableError, ServiceError, SetupError
from bls_models.index.engine import WritableIndex
from bls_models.metric.catalogue import NONE
from bls_models.metric.metric import Metric
from bls_models.replication.checkpoints import Checkpoints, Progress
from bls_models.replication.product_loader import LeftOut, ProductLoader
from bls_models.telemetry.metrics import (
    INDEX_ATTRIBUTE_KEYS,
    INDEX_FOLLOWING,
    INDEX_LAG_SECONDS,
    INDEX_LOADED_SHARE,
    INDEX_PRODUCTS,
    INDEX_RESYNCS,
    INDEX_SNAPSHOT_AGE_SECONDS,
    INDEX_STALE,
    INDEX_VECTORS,
    INDEX_VERSION,
    NO_METRICS,
    Metrics,
)
from bls_models.watchdog import apart

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
# Longest wait for a change, and so for what others ask of the follower's thread.
WAIT_SECONDS = 0.1
# Changes that follow each other faster are applied together: the database is asked for the
# vectors of all of them at once.
APPLY_SECONDS = 0.05


# A page of a full read has so long, and its vectors as long again (``PAGE_SECONDS``).
STANDSTILL_SECONDS = 300.0


class StoppedError(Exception):
    """The follower is to end in the middle of a full read."""


@dataclass(frozen=True)
class LoadProgress:
    """A full read of the catalogue under way.

    Attributes:
        taken: products read so far.
        total: products to read, about.
        moved_at: when the last page came, on the monotonic clock.
    """

    taken: int
    total: int
    moved_at: float

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return min(1.0, self.taken / max(1, self.total))


class IndexFollower:
    """Loads the index and follows the database from a thread of its own.

    A lost change stream is resumed where it broke; one that cannot be resumed leads to a full
    read, during which searches go on with what was there before. All changes of the index are made
    by that one thread, in the order of the stream.

    Args:
        index: what is kept; no other follower changes it.
        store: the database.
        bundle: whose vectors are searched.
        checkpoints: keep how far it has followed.
        metrics: get the index's state.
        metric: what image vectors become in the index; None: they stay as they are.
    """

    def __init__(
        self,
        index: WritableIndex,
        store: Store,
        bundle: Bundle,
        checkpoints: Checkpoints,
        metrics: Metrics = NO_METRICS,
        metric: Metric | None = None,
    ) -> None:
        self._index = index
        self._store = store
        self._metrics = metrics
        self._loader = ProductLoader(index, store, bundle, metric)
        self._metric = NONE if metric is None else metric.version
        self._checkpoints = checkpoints
        self._restored = False
        self._followed_at = time.monotonic()
        self._lag_seconds = 0.0
        # Of a full read, None where none is under way.
        self._load_progress: LoadProgress | None = None
        # Whether the index holds the whole catalogue, and whether it can be searched well.
        self._filled = False
        self._loaded = threading.Event()
        self._following = False
        self._reported: dict[str, Any] = {}
        self._token: Token | None = None
        self._changes = 0
        self._tasks: list[Callable[[], None]] = []
        self._tasks_lock = threading.Lock()
        self._thread = Background("index-follower", self._run)

    @property
    def loaded(self) -> bool:
        """Whether the index has been filled since the start, and has candidate lists for it."""
        return self._loaded.is_set()

    def wait_loaded(self, seconds: float) -> bool:
        """Wait so long for ``loaded``; whether it is."""
        return self._loaded.wait(seconds)

    @property
    def waiting_for(self) -> str:
        """Why the index is not loaded yet, in words.

        It names a full read that stands still; the probe restarts the server then.
        """
        progress = self._load_progress
        if progress is not None:
            still = time.monotonic() - progress.moved_at
            pace = f", which {STANDS_STILL} for {still:.0f} s" if still > STANDSTILL_SECONDS else ""
            return f"{progress.taken} of {progress.total} products are read{pace}"
        if self._filled:
            return "its candidate lists are being made"
        return "check that MongoDB runs"

    @property
    def left_out(self) -> Mapping[str, LeftOut]:
        """Stored products that are not searched now, by id; another thread changes it."""
        return self._loader.left_out

    @property
    def lag_seconds(self) -> float:
        """How far the index is behind the database; endless while it does not follow."""
        return self._lag_seconds if self._following else float("inf")

    @property
    def seconds_behind(self) -> float:
        """How far the index is behind the database; while it does not follow, since it last did."""
        return self._lag_seconds if self._following else time.monotonic() - self._followed_at

    def info(self) -> dict[str, Any]:
        """What ``details`` says of the index; ``stale_products`` are stored, not searched."""
        return self._index.info() | {
            "metric": self._metric,
            "following": self._following,
            "stale_products": len(self._loader.left_out),
            "loaded_share": self._loaded_share,
        }

    @property
    def reported(self) -> dict[str, Any]:
        """``info`` of a moment ago, for whoever may not wait for the index."""
        return self._reported

    def start(self, wait_seconds: float, beside: bool = False) -> None:
        """Start following.

        Args:
            wait_seconds: returns after this, if the index is not loaded before.
            beside: another follower serves and has the snapshots until ``take_over``.
        """
        # So that it is exported before the first one.
        self._metrics.add(INDEX_RESYNCS, 0)
        if beside:
            self._restored = True
        else:
            self._checkpoints.begin()
        self._thread.start()
        self._loaded.wait(wait_seconds)

    def take_over(self, metrics: Metrics) -> None:
        """Report, and write snapshots, in place of a follower that has done so and is stopped.

        Args:
            metrics: get the index's state from now on.
        """
        self._metrics = metrics
        self._checkpoints.begin()

    def step_aside(self) -> None:
        """Go on following, but report nothing and leave the snapshots to another follower."""
        self._metrics = NO_METRICS
        self._checkpoints.close(None)

    def stop(self, last_snapshot: bool = True) -> None:
        """Stop following, and write a last snapshot where one is wanted."""
        ended = self._thread.close(CLOSE_SECONDS + 1)
        self._checkpoints.close(self._progress() if ended and last_snapshot else None)

    def ask_reread(self, product_ids: list[str]) -> Future[None]:
        """Have products read again, in turn with the changes.

        Returns:
            Has ended when they are, or has what the database or the index said instead.
        """
        done: Future[None] = Future()

        def task() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                self._loader.reread(product_ids)
                self._changes += len(product_ids)
                done.set_result(None)
            except Exception as error:
                done.set_exception(error)
                raise

        with self._tasks_lock:
            self._tasks.append(task)
        return done

    def reread(self, product_ids: list[str], seconds: float) -> None:
        """Have products read again, in turn with the changes, and wait for it.

        Raises:
            IndexUnavailableError: the follower did not get to it in time.
            DatabaseError: the database did not answer.
        """
        done = self.ask_reread(product_ids)
        try:
            done.result(seconds)
        except TimeoutError:
            done.cancel()
            raise IndexUnavailableError(
                f"the products were not read again within {seconds:.0f} s; check that MongoDB "
                "runs, then try again"
            ) from None

    # --- the follower's thread ------------------------------------------------------------

    def _run(self) -> None:
        apart()
        while not self._thread.stopping:
            try:
                if not self._restored:
                    self._restore()
                check_server(self._store.database)
                # Opened before the full read, so that no change falls between the two.
                with (
                    ChangeReader(self._store.products, self._token) as reader,
                    causal_session(self._store.database) as session,
                ):
                    # What is read is no older than the stream, also after a change of the primary.
                    session.advance_operation_time(reader.opened)
                    if self._token is None:
                        self._load()
                    self._following = True
                    self._follow(reader, session)
            except StoppedError:
                logger.info("the index was not read as a whole; the next start reads it")
            except (ConnectionFailure, ServiceError, SetupError) as error:
                logger.warning("the index cannot follow the database, trying again: %s", error)
            except (PyMongoError, StreamEndedError) as error:
                # A token that the server no longer knows, or any other refusal.
                self._token = None
                logger.warning("the index reads everything again: %s", error)
            except Exception:
                self._token = None
                logger.exception("the index could not apply changes, reading all again")
            self._following = False
            self._report()
            self._thread.wait(RETRY_SECONDS)

    def _restore(self) -> None:
        progress = self._checkpoints.restore()
        self._restored = True
        if progress is not None:
            self._loader.restore(progress.left_out)
            self._token = progress.token

    def _load(self) -> None:
        if self._index.info()["products"]:
            self._metrics.add(INDEX_RESYNCS)
        # Without them, as after a restore, each page of vectors would be a scan.
        self._store.ensure_indexes()
        total = self._store.count_products()

        def taken(count: int) -> None:
            if self._thread.stopping:
                raise StoppedError
            self._load_progress = LoadProgress(count, total, time.monotonic())
            self._report()

        taken(0)
        try:
            self._loader.load_all(taken)
        finally:
            self._load_progress = None
        self._changes += 1
        self._filled = True

    def _follow(self, reader: ChangeReader, session: ClientSession) -> None:
        while not self._thread.stopping:
            start = time.monotonic()
            changes = reader.take(WAIT_SECONDS)
            if changes.events:
                session.advance_operation_time(changes.events[-1]["clusterTime"])
            self._loader.apply(changes.events)
            # Only now, so that what could not be applied comes again.
            self._note(changes)
            self._run_tasks()
            self._report()
            progress = self._progress()
            if progress is not None:
                self._checkpoints.offer(progress)
            if changes.events:
                self._thread.wait(start + APPLY_SECONDS - time.monotonic())

    def _note(self, changes: Changes) -> None:
        self._token = changes.token
        self._changes += len(changes.events)
        self._followed_at = time.monotonic()
        self._lag_seconds = max(map(age_seconds, changes.events), default=0.0)
        self._filled = self._filled or changes.caught_up
        # Without lists each search would score all that so large a catalogue has.
        if self._filled and self._index.has_first_lists:
            self._loaded.set()

    @property
    def _loaded_share(self) -> float:
        progress = self._load_progress
        if progress is not None:
            return progress.share
        return float(self._filled)

    def _progress(self) -> Progress | None:
        """What a snapshot would be of; None before there is a whole catalogue."""
        if not self._filled or self._token is None:
            return None
        return Progress(self._token, self._changes, self._loader.left_out)

    def _run_tasks(self) -> None:
        with self._tasks_lock:
            tasks, self._tasks = self._tasks, []
        for task in tasks:
            task()

    def _report(self) -> None:
        """Bring the metrics up to date."""
        info, report = self.info(), self._metrics
        self._reported = info
        report.set(INDEX_PRODUCTS, info["products"])
        report.set(INDEX_VECTORS, info["image_vectors"], "image")
        report.set(INDEX_VECTORS, info["text_vectors"], "text")
        for state, keys in zip(("indexed", "refused"), self._index.attribute_keys(), strict=True):
            report.set(INDEX_ATTRIBUTE_KEYS, keys, state)
        report.set(INDEX_VERSION, info["version"])
        report.set(INDEX_STALE, info["stale_products"])
        report.set(INDEX_FOLLOWING, float(self._following))
        report.set(INDEX_LOADED_SHARE, info["loaded_share"])
        report.set(INDEX_LAG_SECONDS, self.seconds_behind)
        age = self._checkpoints.age_seconds
        if age is not None:
            report.set(INDEX_SNAPSHOT_AGE_SECONDS, age)
