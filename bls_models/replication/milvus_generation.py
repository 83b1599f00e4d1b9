"""An index in Milvus with what keeps it, made for one metric and shared by all servers."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pymongo import ReturnDocument

from bls_models.background import Background
from bls_models.bundle import Bundle
from bls_models.database.lease import Lease
from bls_models.database.store import Document, Store, database_errors
from bls_models.errors import (
    DatabaseError,
    IndexUnavailableError,
    ProductMatchError,
    ServiceError,
)
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.metric.catalogue import NONE
from bls_models.metric.metric import Metric
from bls_models.milvus.collections import Collections, ask, create, drop, existing
from bls_models.milvus.connection import MilvusConnection
from bls_models.milvus.search import MilvusSearch, MilvusSearchOptions
from bls_models.milvus.vectors import ProductVectors
from bls_models.milvus.writer import MilvusWriter
from bls_models.replication.follower import IndexFollower
from bls_models.replication.metric_search import MetricSearch
from bls_models.replication.milvus_checkpoints import (
    CHECKPOINT,
    MilvusCheckpoints,
    read_left_out,
)
from bls_models.replication.product_loader import LeftOut
from bls_models.replication.sync_check import SyncCheck
from bls_models.settings import Settings
from bls_models.telemetry.metrics import (
    INDEX_FOLLOWING,
    INDEX_LAG_SECONDS,
    INDEX_LEADER,
    INDEX_LOADED_SHARE,
    INDEX_PRODUCTS,
    INDEX_RESYNCS,
    INDEX_STALE,
    INDEX_VECTORS,
    MILVUS_UP,
    NO_METRICS,
    Metrics,
)
from bls_models.watchdog import apart

logger = logging.getLogger(__name__)

# The collection with a document for each index: its lease, its collections' names, its state.
INDEXES = "milvus_indexes"
# Requests to read products again, for whoever has the lease.
REREADS = "milvus_rereads"
REREAD_AT_ONCE = 256
# A document for each index with the products that it leaves out.
LEFT_OUT = "milvus_left_out"
LEASE_SECONDS = 10.0
LOOK_SECONDS = 0.5
# A state that is older tells nothing of now.
STATE_SECONDS = 5.0
# How often Milvus is asked whether it answers; searches alone would not tell where nobody searches.
ASK_SECONDS = 5.0
# Whoever follows and has not reached Milvus for so long leaves that to others for a while.
AWAY_SECONDS = 15.0
REST_SECONDS = 5.0
# How often indexes that nobody uses any more are looked for, and an index in use says so.
USED_SECONDS = 30.0
CLOSE_SECONDS = 10.0

# The address of a Milvus Lite is a file.
LITE_SUFFIX = ".db"

STATE = "state"
# The collection that has had the whole catalogue; that of another one, as after a restore, has not.
FILLED = "filled"
# Of an index whose state nobody has saved yet.
UNKNOWN: dict[str, Any] = {
    "version": 0,
    "time": None,
    "products": 0,
    "image_vectors": 0,
    "text_vectors": 0,
    "type": "Milvus",
    "stale_products": 0,
    "loaded_share": 0.0,
}


class MilvusGeneration:
    """One index in Milvus; see ``generation.Generation``.

    Of all servers one has the lease, and follows the database. The others search, and know the
    index's state from what that one saves with the lease.

    Args:
        settings: where Milvus is, and how to search.
        bundle: the lengths of vectors, and whose they must be.
        store: what the index holds.
        metric: None: raw vectors.
        metrics: get the index's state.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        store: Store,
        metric: Metric | None,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self.version = NONE if metric is None else metric.version
        self._settings = settings
        self._bundle = bundle
        self._store = store
        self._metric = metric
        self._metrics = metrics
        self._connection = MilvusConnection(settings)
        self._name = f"{bundle.fingerprint}/{self.version}"
        self._lease = Lease(store.database[INDEXES], self._name, LEASE_SECONDS)
        self._collections: Collections | None = None
        # The making of the collections, while it is under way.
        self._made: Future[None] | None = None
        self._followed_at = self._answered_at = time.monotonic()
        self._resting_until = float("-inf")
        self._said_used: datetime | None = None
        self._used_at = self._asked_at = float("-inf")
        self._loaded = threading.Event()
        self._index: MilvusSearch | None = None
        self._search: MetricSearch | None = None
        # While the lease is held here, with its fence.
        self._follower: IndexFollower | None = None
        self._fence = 0
        # A request to read products again that is under way, with its id.
        self._rereading: tuple[Any, Future[None]] | None = None
        self._check: SyncCheck | None = None
        self._problem = "check that MongoDB and Milvus run"
        self._keeper = Background("milvus-index", self._keep)

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The answers to queries of raw vectors, and the index's state.

        Raises:
            IndexUnavailableError: the index is not loaded yet, or Milvus does not answer.
        """
        self.require_loaded()
        about = self.info()
        assert self._search is not None
        return self._search.answers(queries), about

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these; see ``MilvusSearch.may_take_long``."""
        return self._index is not None and self._index.may_take_long(queries)

    def info(self) -> dict[str, Any]:
        """The index's state, as its follower saved it last."""
        state: dict[str, Any] = UNKNOWN | self._lease.document.get(STATE, {})
        state.pop("lag_seconds", None)
        return state | {"metric": self.version, "following": self.lag_seconds != float("inf")}

    @property
    def lag_seconds(self) -> float:
        """How far the index is behind the database; endless while nobody follows."""
        if self._follower is not None:
            return self._follower.lag_seconds
        state: Mapping[str, Any] = self._lease.document.get(STATE, {})
        fresh = self._lease.idle_seconds <= STATE_SECONDS
        return float(state.get("lag_seconds", "inf")) if fresh else float("inf")

    @property
    def seconds_behind(self) -> float:
        """How far the index is behind the database, or how long ago that was known last."""
        if self._follower is not None:
            return self._follower.seconds_behind
        lag = self.lag_seconds
        return lag if lag != float("inf") else time.monotonic() - self._followed_at

    @property
    def left_out(self) -> Mapping[str, LeftOut]:
        """Stored products that are not searched, by id."""
        if self._follower is not None:
            return self._follower.left_out
        return read_left_out(self._store.database[LEFT_OUT], self._name)

    def require_loaded(self) -> None:
        """Refuse what needs the index, where it is not loaded yet.

        Raises:
            IndexUnavailableError: it is not.
        """
        if not self._loaded.is_set():
            follower = self._follower
            why = follower.waiting_for if follower is not None else self._problem
            if not why:
                share = float(self.info()["loaded_share"])
                why = f"it is being filled by the server that follows the database ({share:.0%})"
            raise IndexUnavailableError(f"the index is not loaded yet: {why}; try again later")

    def start(self, beside: bool = False) -> None:
        """Search the index, and keep it equal to the database where no other server does."""
        self._keeper.start()

    def wait_loaded(self, seconds: float) -> bool:
        """Wait so long until the whole catalogue is in it; whether it is."""
        return self._loaded.wait(max(0.0, seconds))

    def take_over(self, metrics: Metrics) -> None:
        """Report in place of another generation, which is stopped."""
        self._metrics = metrics
        if self._follower is not None:
            self._follower.take_over(metrics)

    def step_aside(self) -> None:
        """Go on, but report nothing."""
        self._metrics = NO_METRICS
        if self._follower is not None:
            self._follower.step_aside()

    def check(self, repair: bool, told: Callable[[dict[str, Any] | Exception], None]) -> None:
        """Compare with the database; see ``SyncCheck.start``."""
        self.require_loaded()
        assert self._check is not None
        self._check.start(repair, told)

    def reread(self, product_ids: list[str], seconds: float) -> None:
        """Have products read again by whoever follows, and wait for it.

        Raises:
            IndexUnavailableError: nobody got to it in time.
            DatabaseError: the database did not answer.
        """
        requests = self._store.database[REREADS]
        deadline = time.monotonic() + seconds
        parts = [
            {"index": self._name, "product_ids": product_ids[start : start + REREAD_AT_ONCE]}
            for start in range(0, len(product_ids), REREAD_AT_ONCE)
        ]
        with database_errors("asking for products to be read again"):
            mine = {"_id": {"$in": requests.insert_many(parts).inserted_ids}}
        while True:
            with database_errors("waiting for products to be read again"):
                if requests.find_one(mine, {"_id": 1}) is None:
                    return
                late = time.monotonic() > deadline or self._keeper.stopping
                if late:
                    requests.delete_many(mine)
            if late:
                raise IndexUnavailableError(
                    f"the products were not read again within {seconds:.0f} s; check that a "
                    "server follows the database, then try again"
                )
            time.sleep(LOOK_SECONDS)

    def close(self, last_snapshot: bool = True) -> None:
        """Break off a check, stop following, and leave that to others."""
        if self._check is not None:
            self._check.close()
        self._keeper.close(CLOSE_SECONDS)
        self._stop_following(last_snapshot)
        with contextlib.suppress(DatabaseError):
            self._lease.release()
        self._connection.close()

    # --- the keeper's thread --------------------------------------------------------------

    def _keep(self) -> None:
        apart()
        self._metrics.add(INDEX_RESYNCS, 0)
        while not self._keeper.stopping:
            problem = ""
            try:
                self._look()
            except ProductMatchError as error:
                problem = str(error)
            except Exception as error:
                logger.exception("the index in Milvus could not be looked after")
                problem = repr(error)
            if problem and problem != self._problem:
                logger.warning("the index in Milvus is looked after again: %s", problem)
            self._problem = problem
            self._report()
            self._keeper.wait(LOOK_SECONDS)

    def _look(self) -> None:
        if self._collections is None:
            self._collections = self._named()
        collections = self._collections
        if time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._ask(collections)
        if self._follower is not None and self._lease.fence != self._fence:
            logger.warning("the lease of the index in Milvus was lost")
            self._stop_following(last_checkpoint=False)
        if time.monotonic() >= self._resting_until and self._lease.take():
            if self._follower is None:
                self._prepare(collections)
            self._lead(collections)
        if self._lease.document.get(FILLED) != collections.images:
            self._loaded.clear()
        elif self._made is None and not self._loaded.is_set():
            self._begin_searching(collections)
            self._loaded.set()
        if time.monotonic() - self._used_at >= USED_SECONDS:
            self._look_for_changes(collections)
            self._say_used()

    def _named(self) -> Collections:
        # The catalogue is known by its products' collection, which this makes.
        self._store.ensure_indexes()
        dim = self._bundle.image_dim if self._metric is None else self._metric.dim
        # Catalogues of the same bundle may share a Milvus.
        return Collections.of(
            f"{self._bundle.fingerprint}_{self._catalogue()}",
            self.version,
            dim,
            self._bundle.text_dim,
        )

    def _catalogue(self) -> str:
        return hashlib.sha256(self._store.identity().encode()).hexdigest()[:8]

    def _ask(self, collections: Collections) -> None:
        """See whether Milvus answers; what does not reach it leaves the lease to others."""
        self._asked_at = time.monotonic()
        try:
            ask(self._connection, collections)
        except ProductMatchError:
            self._metrics.set(MILVUS_UP, 0.0)
            if self._follower is not None and self._asked_at - self._answered_at > AWAY_SECONDS:
                logger.warning("Milvus is not reached from here; another server may follow")
                self._stop_following(last_checkpoint=False)
                self._lease.release()
                self._resting_until = time.monotonic() + REST_SECONDS
        else:
            self._metrics.set(MILVUS_UP, 1.0)
            self._answered_at = time.monotonic()

    def _prepare(self, collections: Collections) -> None:
        """Have the collections made, while the lease is renewed, and then follow."""
        if self._made is None:
            self._made = Future()
            Background("milvus-collections", partial(self._make, collections, self._made)).start()
        elif self._made.done():
            made, self._made = self._made, None
            try:
                made.result()
                self._begin_following(collections)
            except ProductMatchError:
                # Another server may reach what this one does not.
                self._lease.release()
                self._resting_until = time.monotonic() + REST_SECONDS
                raise

    def _make(self, collections: Collections, made: Future[None]) -> None:
        try:
            if not _are_there(self._connection, collections):
                # What an earlier index had followed will not be in this one.
                self._lease.save({CHECKPOINT: None, FILLED: None})
            create(self._connection, collections)
        except Exception as error:
            made.set_exception(error)
        else:
            made.set_result(None)

    def _begin_following(self, collections: Collections) -> None:
        identity, database = self._store.identity(), self._store.database
        follower = IndexFollower(
            MilvusWriter(self._connection, collections, self._store, self._lease),
            self._store,
            self._bundle,
            MilvusCheckpoints(self._lease, database[LEFT_OUT], self._name, identity),
            self._metrics,
            self._metric,
        )
        follower.start(0.0)
        self._follower, self._fence = follower, self._lease.fence
        self._answered_at = time.monotonic()
        self._rereading = None

    def _stop_following(self, last_checkpoint: bool) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.stop(last_checkpoint)

    def _lead(self, collections: Collections) -> None:
        """What the holder of the lease does for all."""
        document, follower = self._lease.document, self._follower
        saved: Document = {"images": collections.images, "texts": collections.texts}
        if follower is not None:
            # Not asked for anew: the lease must be renewed in time, however slow Milvus is.
            state = document.get(STATE, {}) | follower.reported
            saved[STATE] = state | {"lag_seconds": follower.lag_seconds}
            if follower.loaded:
                saved[FILLED] = collections.images
        self._lease.save(saved)
        if follower is not None:
            self._reread_for_others(follower)

    def _reread_for_others(self, follower: IndexFollower) -> None:
        requests = self._store.database[REREADS]
        if self._rereading is not None:
            asked, done = self._rereading
            if not done.done():
                return
            self._rereading = None
            if isinstance(done.exception(), ServiceError):
                # The database or Milvus is away; the request stays for later.
                return
            with database_errors("telling that products were read again"):
                requests.delete_one({"_id": asked})
        with database_errors("looking for products to read again"):
            item = requests.find_one({"index": self._name})
        if item is not None:
            self._rereading = item["_id"], follower.ask_reread(item["product_ids"])

    def _begin_searching(self, collections: Collections) -> None:
        settings = self._settings
        self._index = MilvusSearch(
            self._connection,
            collections,
            self._store,
            ProductVectors(self._store, self._bundle, self._metric, settings.milvus_cache_bytes),
            MilvusSearchOptions(
                consistency=settings.milvus_consistency,
                lists_in_filters=not settings.milvus_uri.endswith(LITE_SUFFIX),
                max_filter_bytes=settings.max_filter_bytes,
                max_search_work=settings.max_search_work,
                proof=settings.milvus_proof,
            ),
        )
        self._search = MetricSearch(self._index, self._metric)
        written = MilvusWriter(self._connection, collections, self._store, self._lease)
        self._check = SyncCheck(written, self._store, self)

    def _look_for_changes(self, collections: Collections) -> None:
        """Begin anew where the collections are gone, or the catalogue is another one by now."""
        leads = self._follower is not None
        if self._named() == collections and not (
            leads and not _are_there(self._connection, collections)
        ):
            return
        logger.warning("the index in Milvus is not this catalogue's any more, and is made anew")
        self._collections = None
        self._loaded.clear()
        self._stop_following(last_checkpoint=False)
        # So that whatever the old follower still does has another fence.
        self._lease.release()

    def _say_used(self) -> None:
        """Keep this index from being removed, and look for those that nobody uses."""
        indexes = self._store.database[INDEXES]
        with database_errors("looking for indexes that nobody uses"):
            own = indexes.find_one_and_update(
                {"_id": self._name},
                {"$currentDate": {"used": True}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
            others = list(indexes.find({"_id": {"$ne": self._name}})) if self._lease.held else []
        self._used_at = time.monotonic()
        assert own is not None
        now, before = own["used"], self._said_used
        self._said_used = now
        # After a pause nobody has said for long what is in use: each is to have its turn first.
        if before is None or now - before > timedelta(seconds=2 * USED_SECONDS):
            return
        kept = timedelta(seconds=self._settings.milvus_keep_seconds)
        unused = [item for item in others if now - item.get("used", now) > kept]
        if unused:
            # Beside the lease's renewal.
            Background("milvus-unused", partial(self._remove, unused)).start()

    def _remove(self, indexes: Sequence[Document]) -> None:
        mark = f"_{self._catalogue()}_"
        for item in indexes:
            for name in (item.get("images"), item.get("texts")):
                # Those of a catalogue that this one is a copy of are not its own.
                if name and mark in name:
                    drop(self._connection, name)
            with database_errors("forgetting an index that nobody uses"):
                self._store.database[INDEXES].delete_one({"_id": item["_id"], "used": item["used"]})
                self._store.database[LEFT_OUT].delete_one({"_id": item["_id"]})
            logger.info("the index %s, which nobody uses, was removed from Milvus", item["_id"])

    def _report(self) -> None:
        """Bring the metrics up to date; while it follows, the follower does most of it."""
        report = self._metrics
        report.set(INDEX_LEADER, float(self._follower is not None))
        if self._follower is not None:
            return
        info, following = self.info(), self.lag_seconds != float("inf")
        report.set(INDEX_PRODUCTS, info.get("products", 0))
        report.set(INDEX_VECTORS, info.get("image_vectors", 0), "image")
        report.set(INDEX_VECTORS, info.get("text_vectors", 0), "text")
        report.set(INDEX_STALE, info.get("stale_products", 0))
        report.set(INDEX_LOADED_SHARE, info.get("loaded_share", 0.0))
        report.set(INDEX_FOLLOWING, float(following))
        if following:
            self._followed_at = time.monotonic()
        report.set(INDEX_LAG_SECONDS, self.seconds_behind)


def _are_there(connection: MilvusConnection, collections: Collections) -> bool:
    return {collections.images, collections.texts} <= set(existing(connection))
