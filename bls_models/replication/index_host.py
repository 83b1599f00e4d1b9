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
from bls_models.errors import DatabaseError, IndexUnavailableError, ProductMatchError
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.metric.catalogue import NONE, CatalogueMetrics
from bls_models.metric.metric import Metric
from bls_models.replication.generation import Generation, check_engine, generation_of
from bls_models.replication.metric_fitter import LOOK_SECONDS, MetricFitter
from bls_models.settings import AUTO, Settings
from bls_models.telemetry.metrics import INDEX_FOLLOWING, NO_METRICS, Metrics
from bls_models.watchdog import apart

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
        SetupError: see ``check_engine``.
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
        check_engine(settings)
        self._settings = settings
        self._bundle = bundle
        self._store = Store(database, settings.log_days)
        self._metrics = metrics
        self._keeps_raw = keeps_raw
        self._catalogue = CatalogueMetrics(self._store, bundle)
        self._serving: Generation | None = None
        self._raw: Generation | None = None
        # Why the metric that is to be served is not known; empty: it is.
        self._problem = "check that MongoDB runs"
        self._begun = threading.Event()
        self._watcher = Background("index-metric", self._watch)
        self._fitter = MetricFitter(self._catalogue, look_seconds)

    def start(self, wait_seconds: float = LOAD_WAIT_SECONDS) -> None:
        """Load the index and follow the database.

        Args:
            wait_seconds: returns after this, if the index is not loaded before.
        """
        # Where the database is away there is no follower yet that would tell.
        self._metrics.set(INDEX_FOLLOWING, 0.0)
        deadline = time.monotonic() + wait_seconds
        self._watcher.start()
        if self._settings.metric == AUTO:
            self._fitter.start()
        if self._begun.wait(wait_seconds) and self._serving is not None:
            self._serving.wait_loaded(deadline - time.monotonic())

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The answers, and the index's state; see ``bls_models.index.query.Search``."""
        serving, raw = self._generation(), self._raw
        asks_raw = [query.raw for query in queries]
        if not any(asks_raw) or serving.version == NONE:
            return serving.search(queries)
        if raw is None:
            # As it is about to serve alone.
            raise IndexUnavailableError("the index of raw vectors changes its place; try again")
        answers, about = serving.search([query for query in queries if not query.raw])
        raw_answers, raw_about = raw.search([query for query in queries if query.raw])
        parts = {True: iter(raw_answers), False: iter(answers)}
        following = about["following"] and raw_about["following"]
        return [next(parts[asks]) for asks in asks_raw], about | {"following": following}

    def info(self) -> dict[str, Any]:
        """The index's state, also while it loads, and as ``lag_seconds`` how old that is.

        Raises:
            IndexUnavailableError: it has not begun to load.
        """
        generation = self._begun_generation()
        return generation.info() | {"lag_seconds": round(generation.seconds_behind, 3)}

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these; see ``ProductIndex.may_take_long``."""
        return self._serving is not None and self._serving.may_take_long(queries)

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
            if not isinstance(outcome, Exception):
                try:
                    report = outcome | {"metric": self._wanted()}
                    outcome = serving.info() | {"sync_check": report}
                except ProductMatchError as error:
                    outcome = error
            reply(outcome)

        serving.check(repair, told)

    def close(self) -> None:
        """Break off a check, stop following, write a last snapshot, and end the upkeep."""
        self._fitter.close(0)
        # It closes what it is about to build.
        self._watcher.close(CLOSE_SECONDS)
        for generation in (self._raw, self._serving):
            if generation is not None:
                generation.close()
        self._fitter.close()

    def _generation(self) -> Generation:
        """The one that serves, if all that queries may ask for is loaded.

        Raises:
            IndexUnavailableError: it is not.
        """
        serving = self._begun_generation()
        if self._raw is not None:
            self._raw.require_loaded()
        return serving

    def _begun_generation(self) -> Generation:
        """The one that serves, or is about to.

        Raises:
            IndexUnavailableError: there is none yet.
        """
        if self._serving is None:
            raise IndexUnavailableError(f"the index is not loaded yet: {self._problem}")
        return self._serving

    def _wanted(self) -> str:
        """The version of the metric that is to be served."""
        return NONE if self._settings.metric == NONE else self._catalogue.current().version

    # --- the watcher's thread -------------------------------------------------------------

    def _watch(self) -> None:
        apart()
        while not self._watcher.stopping:
            problem = ""
            try:
                self._follow_version()
            except ProductMatchError as error:
                problem = str(error)
            except Exception as error:
                logger.exception("which metric is served could not be followed")
                problem = repr(error)
            if problem and problem != self._problem:
                logger.warning("the metric to be served is looked for again: %s", problem)
            self._problem = problem
            self._watcher.wait(VERSION_SECONDS)

    def _follow_version(self) -> None:
        version = self._wanted()
        if self._serving is not None and version == self._serving.version:
            return
        if self._serving is not None and version == NONE and self._raw is not None:
            raw, self._raw = self._raw, None
            self._replace(raw)
            return
        metric = self._catalogue.read(version)
        if self._watcher.stopping:
            return
        if self._serving is not None:
            self._load_beside(metric)
            return
        serving = self._made(metric, self._metrics)
        if self._keeps_raw and metric is not None:
            self._raw = self._made(None)
            self._raw.start(beside=True)
        serving.start()
        self._serving = serving
        self._begun.set()

    def _made(self, metric: Metric | None, metrics: Metrics = NO_METRICS) -> Generation:
        return generation_of(self._settings, self._bundle, self._store, metric, metrics)

    def _load_beside(self, metric: Metric | None) -> None:
        """Load an index beside the one that serves, and let it serve."""
        new = self._made(metric)
        logger.info("an index for metric %s is built beside the one that serves", new.version)
        new.start(beside=True)
        try:
            while not new.wait_loaded(VERSION_SECONDS):
                if self._watcher.stopping or self._overtaken(new.version):
                    return
            if not self._watcher.stopping:
                self._replace(new)
        finally:
            if self._serving is not new:
                new.close(last_snapshot=False)

    def _overtaken(self, version: str) -> bool:
        """Whether the database names another version by now."""
        try:
            return self._wanted() != version
        except DatabaseError:
            return False

    def _replace(self, new: Generation) -> None:
        """Let a generation that is loaded serve."""
        old = self._serving
        assert old is not None
        if self._keeps_raw and old.version == NONE:
            old.step_aside()
            self._raw = old
        self._serving = new
        if old is not self._raw:
            old.close(last_snapshot=False)
        new.take_over(self._metrics)
        logger.info("the index serves metric %s", new.version)
