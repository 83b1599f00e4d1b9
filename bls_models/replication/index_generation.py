"""An index in memory with what keeps it, made for one metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.errors import IndexUnavailableError
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.metric.catalogue import NONE
from bls_models.metric.metric import Metric
from bls_models.replication.follower import IndexFollower
from bls_models.replication.metric_search import MetricSearch
from bls_models.replication.snapshot_schedule import SnapshotSchedule
from bls_models.replication.sync_check import SyncCheck
from bls_models.settings import Settings
from bls_models.telemetry.metrics import NO_METRICS, Metrics


class IndexGeneration:
    """One index in memory, its follower and its sync check; see ``generation.Generation``.

    Args:
        settings: how to store, search and follow.
        bundle: the lengths of vectors, and whose they must be.
        store: what the index holds.
        metric: None: raw vectors.
        metrics: get the index's state.

    Raises:
        SetupError: the settings name a device that is not there.
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
        self.index = ProductIndex(
            bundle.image_dim if metric is None else metric.dim,
            bundle.text_dim,
            settings.max_filter_bytes,
            IndexOptions.of(settings),
        )
        self._search = MetricSearch(self.index, metric)
        snapshots = SnapshotSchedule(
            self.index, settings, bundle.fingerprint, self.version, store.identity
        )
        self.follower = IndexFollower(self.index, store, bundle, snapshots, metrics, metric)
        self._check = SyncCheck(self.index, store, self.follower)

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The answers to queries of raw vectors, and the index's state.

        Raises:
            IndexUnavailableError: the index is not loaded yet.
        """
        self.require_loaded()
        # Before the search: that the index follows must hold for the versions it gives.
        about = self.follower.info()
        return self._search.answers(queries), about

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these; see ``ProductIndex.may_take_long``."""
        return self.index.may_take_long(queries)

    def info(self) -> dict[str, Any]:
        """The index's state, as ``details`` has it."""
        return self.follower.info()

    @property
    def seconds_behind(self) -> float:
        """How old what it holds is; see ``IndexFollower.seconds_behind``."""
        return self.follower.seconds_behind

    def require_loaded(self) -> None:
        """Refuse what needs the index, where it is not loaded yet.

        Raises:
            IndexUnavailableError: it is not.
        """
        if not self.follower.loaded:
            raise IndexUnavailableError(
                f"the index is not loaded yet: {self.follower.waiting_for}; try again later"
            )

    def start(self, beside: bool = False) -> None:
        """Load the index and follow the database; see ``IndexFollower.start``."""
        self.follower.start(0.0, beside)

    def wait_loaded(self, seconds: float) -> bool:
        """Wait so long until it is loaded; whether it is."""
        return self.follower.wait_loaded(seconds)

    def take_over(self, metrics: Metrics) -> None:
        """Report and write snapshots in place of another generation, which is stopped."""
        self.follower.take_over(metrics)

    def step_aside(self) -> None:
        """Go on following, but report nothing and leave the snapshots to another generation."""
        self.follower.step_aside()

    def check(self, repair: bool, told: Callable[[dict[str, Any] | Exception], None]) -> None:
        """Compare with the database; see ``SyncCheck.start``."""
        self._check.start(repair, told)

    def close(self, last_snapshot: bool = True) -> None:
        """Break off a check, stop following, write a last snapshot, and end the upkeep."""
        self._check.close()
        self.follower.stop(last_snapshot)
        self.index.close()
