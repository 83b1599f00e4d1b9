"""The product index with what keeps it equal to the database, in the process that holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pymongo.database import Database

from bls_models.bundle import Bundle
from bls_models.database.store import Document, Store
from bls_models.errors import IndexUnavailableError
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.replication.follower import IndexFollower
from bls_models.replication.sync_check import SyncCheck
from bls_models.settings import Settings
from bls_models.telemetry.metrics import NO_METRICS, Metrics

# A large catalogue goes on loading after this, and searches answer 503 until it is there.
LOAD_WAIT_SECONDS = 30.0


class IndexHost:
    """The one index of a server; all methods may be called from any thread.

    Args:
        settings: how to store, search and follow.
        bundle: the lengths of vectors, and whose they must be.
        database: what the index holds.
        metrics: get the index's state.

    Raises:
        SetupError: the settings name a device that is not there.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        database: Database[Document],
        metrics: Metrics = NO_METRICS,
    ) -> None:
        store = Store(database, settings.log_days)
        self._index = ProductIndex(
            bundle.image_dim,
            bundle.text_dim,
            settings.max_filter_bytes,
            IndexOptions.of(settings),
        )
        self._follower = IndexFollower(self._index, store, bundle, settings, metrics)
        self._check = SyncCheck(self._index, store, self._follower)

    def start(self, wait_seconds: float = LOAD_WAIT_SECONDS) -> None:
        """Load the index and follow the database.

        Args:
            wait_seconds: returns after this, if the index is not loaded before.
        """
        self._follower.start(wait_seconds)

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The answers, and the index's state; see ``bls_models.index.query.Search``."""
        self._require_loaded()
        # Before the search: that the index follows must hold for the versions it gives.
        about = self._follower.info()
        return self._index.answers(queries), about

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these; see ``ProductIndex.may_take_long``."""
        return self._index.may_take_long(queries)

    def check(self, repair: bool, reply: Callable[[dict[str, Any] | Exception], None]) -> None:
        """Compare the index with the database, beside the searches.

        Args:
            repair: have what differs read again.
            reply: gets the index's state with the report of ``SyncCheck`` as ``sync_check``, or
                what went wrong, mostly in another thread.

        Raises:
            IndexUnavailableError: the index is not loaded.
        """
        self._require_loaded()

        def told(outcome: dict[str, Any] | Exception) -> None:
            if isinstance(outcome, Exception):
                reply(outcome)
            else:
                reply(self._follower.info() | {"sync_check": outcome})

        self._check.start(repair, told)

    def close(self) -> None:
        """Break off a check, stop following, write a last snapshot, and end the upkeep."""
        self._check.close()
        self._follower.stop()
        self._index.close()

    def _require_loaded(self) -> None:
        if not self._follower.loaded:
            raise IndexUnavailableError(
                f"the index is not loaded yet: {self._follower.waiting_for}; try again later"
            )
