"""The product index in the process that holds it, always made for the metric that is served."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pymongo.database import Database

from bls_models.background import Background
from bls_models.bundle import Bundle
from bls_models.database.store import Document, Store
from bls_models.errors import IndexUnavailableError, ProductMatchError
from bls_models.index.lists.device import device_named
from bls_models.index.options import IndexOptions
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.metric.catalogue import NONE, CatalogueMetrics
from bls_models.metric.metric import Metric
from bls_models.replication.index_generation import IndexGeneration
from bls_models.replication.metric_fitter import LOOK_SECONDS, MetricFitter
from bls_models.settings import AUTO, Settings
from bls_models.telemetry.metrics import NO_METRICS, Metrics

logger = logging.getLogger(__name__)

# A large catalogue goes on loading after this, and searches answer 503 until it is there.
LOAD_WAIT_SECONDS = 30.0
# How often the database is asked which metric is served; a new one shows after this and the load.
VERSION_SECONDS = 1.0
CLOSE_SECONDS = 5.0


class IndexHost:
    """The index of a server; all methods may be called from any thread.

    When another metric is to be served, an index for it is built beside the one that serves, and
    takes its place when it is loaded: every answer comes from one of them alone.

    Args:
        settings: how to store, search and follow.
        bundle: the lengths of vectors, and whose they must be.
        database: what the index holds.
        metrics: get the index's state.
        keeps_raw: whether there is also an index of raw vectors, for queries that ask for it.
        look_seconds: between two looks at whether a metric is to be fitted.

    Raises:
        SetupError: the settings name a device that is not there.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        database: Database[Document],
        metrics: Metrics = NO_METRICS,
        keeps_raw: bool = False,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        device_named(IndexOptions.of(settings).device)
        self._settings = settings
        self._bundle = bundle
        self._store = Store(database, settings.log_days)
        self._metrics = metrics
        self._keeps_raw = keeps_raw
        self._catalogue = CatalogueMetrics(self._store, bundle)
        self._serving: IndexGeneration | None = None
        self._raw: IndexGeneration | None = None
        self._begun = threading.Event()
        self._watcher = Background("index-metric", self._watch)
        self._fitter = MetricFitter(self._catalogue, look_seconds)

    def start(self, wait_seconds: float = LOAD_WAIT_SECONDS) -> None:
        """Load the index and follow the database.

        Args:
            wait_seconds: returns after this, if the index is not loaded before.
        """
        deadline = time.monotonic() + wait_seconds
        self._watcher.start()
        if self._settings.metric == AUTO:
            self._fitter.start()
        if self._begun.wait(wait_seconds) and self._serving is not None:
            self._serving.follower.wait_loaded(deadline - time.monotonic())

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The answers, and the index's state; see ``bls_models.index.query.Search``."""
        serving = self._generation()
        raw = [number for number, query in enumerate(queries) if query.raw]
        if not raw or serving.version == NONE:
            return serving.search(queries)
        if self._raw is None:
            raise IndexUnavailableError(
                "the index of raw vectors is not there yet; try again later"
            )
        answers: list[IndexAnswer | None] = [None] * len(queries)
        others = [number for number, query in enumerate(queries) if not query.raw]
        for generation, numbers in ((self._raw, raw), (serving, others)):
            found, about = generation.search([queries[number] for number in numbers])
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return [answer for answer in answers if answer is not None], about

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these; see ``ProductIndex.may_take_long``."""
        return self._serving is not None and self._serving.index.may_take_long(queries)

    def check(self, repair: bool, reply: Callable[[dict[str, Any] | Exception], None]) -> None:
        """Compare the index with the database, beside the searches.

        Args:
            repair: have what differs read again.
            reply: gets the index's state with the report of ``SyncCheck`` as ``sync_check``, in
                it as ``metric`` the version that the database names, or what went wrong, mostly in
                another thread.

        Raises:
            IndexUnavailableError: the index is not loaded.
        """
        serving = self._generation()
        serving.require_loaded()

        def told(outcome: dict[str, Any] | Exception) -> None:
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                report = outcome | {"metric": self._wanted()}
                reply(serving.follower.info() | {"sync_check": report})
            except Exception as error:
                reply(error)

        serving.check.start(repair, told)

    def close(self) -> None:
        """Break off a check, stop following, write a last snapshot, and end the upkeep."""
        self._fitter.close()
        self._watcher.close(CLOSE_SECONDS)
        for generation in (self._raw, self._serving):
            if generation is not None:
                generation.close()

    def _generation(self) -> IndexGeneration:
        if self._serving is None:
            raise IndexUnavailableError(
                "the index is not loaded yet: check that MongoDB runs; try again later"
            )
        return self._serving

    def _wanted(self) -> str:
        """The version of the metric that is to be served."""
        return NONE if self._settings.metric == NONE else self._catalogue.current().version

    # --- the watcher's thread -------------------------------------------------------------

    def _watch(self) -> None:
        while not self._watcher.stopping:
            try:
                self._follow_version()
            except ProductMatchError as error:
                logger.warning("the index stays with the metric that it has: %s", error)
            self._watcher.wait(VERSION_SECONDS)

    def _follow_version(self) -> None:
        version = self._wanted()
        if self._serving is not None and version == self._serving.version:
            return
        metric = self._catalogue.read(version)
        if self._serving is None:
            self._serving = self._made(metric, self._metrics)
            self._serving.follower.start(0.0)
            self._begun.set()
        else:
            self._replace(self._made(metric))
        if self._keeps_raw and self._raw is None and version != NONE:
            self._raw = self._made(None)
            self._raw.follower.start(0.0, beside=True)

    def _made(self, metric: Metric | None, metrics: Metrics = NO_METRICS) -> IndexGeneration:
        return IndexGeneration(self._settings, self._bundle, self._store, metric, metrics)

    def _replace(self, new: IndexGeneration) -> None:
        """Load an index beside the one that serves, and let it serve."""
        old = self._generation()
        logger.info("an index for metric %s is built beside that for %s", new.version, old.version)
        new.follower.start(0.0, beside=True)
        while not new.follower.loaded:
            if self._watcher.wait(VERSION_SECONDS / 10) or self._wanted() != new.version:
                new.close(last_snapshot=False)
                return
        self._serving = new
        old.close(last_snapshot=False)
        new.follower.take_over(self._metrics)
        logger.info("the index serves metric %s", new.version)
