"""What serves for one metric; another metric takes another generation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.errors import SetupError
from bls_models.index.lists.device import device_named
from bls_models.index.options import IndexOptions
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.metric.metric import Metric
from bls_models.replication.index_generation import IndexGeneration
from bls_models.settings import CPU, INDEX_ENGINE, MILVUS, Settings
from bls_models.telemetry.metrics import NO_METRICS, Metrics

logger = logging.getLogger(__name__)


class Generation(Protocol):
    """An index made for one metric, with what keeps it equal to the database.

    Attributes:
        version: of the metric.
    """

    version: str

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The answers to queries of raw vectors, and the index's state.

        Raises:
            IndexUnavailableError: the index is not loaded yet, or does not answer.
        """
        ...

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these."""
        ...

    def info(self) -> dict[str, Any]:
        """The index's state, as ``details`` has it."""
        ...

    @property
    def seconds_behind(self) -> float:
        """How far the index is behind the database, or how long ago it followed it last."""
        ...

    def require_loaded(self) -> None:
        """Refuse what needs the index, where it is not loaded yet.

        Raises:
            IndexUnavailableError: it is not.
        """
        ...

    def start(self, beside: bool = False) -> None:
        """Load the index and follow the database.

        Args:
            beside: another generation serves until ``take_over``.
        """
        ...

    def wait_loaded(self, seconds: float) -> bool:
        """Wait so long until it is loaded; whether it is."""
        ...

    def take_over(self, metrics: Metrics) -> None:
        """Report in place of another generation, which is stopped."""
        ...

    def step_aside(self) -> None:
        """Go on following, but report nothing."""
        ...

    def check(self, repair: bool, told: Callable[[dict[str, Any] | Exception], None]) -> None:
        """Compare with the database; see ``SyncCheck.start``."""
        ...

    def close(self, last_snapshot: bool = True) -> None:
        """Stop all that it started."""
        ...


def check_engine(settings: Settings) -> None:
    """Refuse at a server's start what its engine cannot do at all, and say what it does not do.

    Raises:
        SetupError: a setting is one of another engine, or names what is not there.
    """
    if settings.index_engine != MILVUS:
        device_named(IndexOptions.of(settings).device)
        return
    from bls_models.milvus.connection import check_connection_settings
    from bls_models.replication.milvus_generation import LEASE_SECONDS

    if settings.index_device != CPU:
        raise SetupError(
            f"PRODUCT_MATCH_INDEX_DEVICE={settings.index_device} is of the engine faiss; unset it, "
            f"or {INDEX_ENGINE}"
        )
    most_ms = round(LEASE_SECONDS * 1000 / 2)
    if settings.milvus_timeout_ms >= most_ms:
        # What a server began when its lease was half over must have ended when another takes it.
        raise SetupError(
            f"PRODUCT_MATCH_MILVUS_TIMEOUT_MS={settings.milvus_timeout_ms} is too long for a lease "
            f"of {LEASE_SECONDS:.0f} s; set it below {most_ms}"
        )
    check_connection_settings(settings)
    logger.info(
        "the engine milvus knows no facets and no order but that of scores (such requests are "
        "refused), and words count nothing in it (PRODUCT_MATCH_WORD_WEIGHT has no effect)"
    )


def generation_of(
    settings: Settings,
    bundle: Bundle,
    store: Store,
    metric: Metric | None,
    metrics: Metrics = NO_METRICS,
) -> Generation:
    """A generation with the engine that the settings name; nothing else asks which it is.

    Raises:
        SetupError: what the settings name is not there.
    """
    if settings.index_engine == MILVUS:
        # Only here: it imports what only this engine needs.
        from bls_models.replication.milvus_generation import MilvusGeneration

        return MilvusGeneration(settings, bundle, store, metric, metrics)
    return IndexGeneration(settings, bundle, store, metric, metrics)
