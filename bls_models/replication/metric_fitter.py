"""Fits the catalogue's metric anew when so much has changed, on one server of all."""

from __future__ import annotations

import logging
import time

from bls_models.background import Background
from bls_models.errors import ConflictError, DatabaseError
from bls_models.metric.catalogue import CHANGED_SHARE, CatalogueMetrics
from bls_models.watchdog import apart

logger = logging.getLogger(__name__)

# How often the catalogue is looked at. A fit that is due is made when the catalogue stands still
# from one look to the next, or when it has been due for long.
LOOK_SECONDS = 30.0
LONG_DUE_SECONDS = 900.0
CLOSE_SECONDS = 5.0


class _StoppedError(Exception):
    """The server stops while a fit is under way."""


class MetricFitter:
    """Looks at the catalogue now and then, in a thread of its own.

    Args:
        catalogue: where metrics are fitted and kept.
        look_seconds: between two looks.
    """

    def __init__(self, catalogue: CatalogueMetrics, look_seconds: float = LOOK_SECONDS) -> None:
        self._catalogue = catalogue
        self._look_seconds = look_seconds
        self._seen = 0.0
        self._due_since: float | None = None
        self._thread = Background("metric-fitter", self._run)

    def start(self) -> None:
        """Begin to look."""
        if self._catalogue.can_fit:
            self._thread.start()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End; a fit under way is given up."""
        self._thread.close(seconds)

    def _run(self) -> None:
        apart()
        while not self._thread.wait(self._look_seconds):
            try:
                if self._due():
                    self._fit()
            except ConflictError:
                logger.info("another server fits a metric")
            except (_StoppedError, DatabaseError) as error:
                logger.warning("a fit of the metric is put off: %s", error)
            except Exception:
                logger.exception("a fit of the metric failed")

    def _due(self) -> bool:
        share, before = self._catalogue.changed_share(), self._seen
        self._seen = share
        if share < CHANGED_SHARE:
            self._due_since = None
            return False
        now = time.monotonic()
        self._due_since = now if self._due_since is None else self._due_since
        return share == before or now - self._due_since > LONG_DUE_SECONDS

    def _go_on(self, _: int) -> None:
        if self._thread.stopping:
            raise _StoppedError("the server stops")

    def _fit(self) -> None:
        start = time.monotonic()
        fitted = self._catalogue.fit(self._go_on)
        self._due_since = None
        logger.info(
            "%d views of %d products were looked at in %.1f s: %s",
            fitted.views,
            fitted.products,
            time.monotonic() - start,
            fitted.reason or "they have a new metric",
        )
