"""``bls_models.telemetry.metrics`` on Triton's metrics endpoint.

Like ``bls_models.triton.bridge`` this is imported by ``model_repository/*/1/model.py`` alone.
"""

from __future__ import annotations

import collections
import logging
import threading
from typing import Any

import triton_python_backend_utils as pb_utils

from bls_models.background import Background
from bls_models.telemetry.metrics import HISTOGRAM_BUCKETS, Metrics, MetricSpec

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
CLOSE_SECONDS = 5.0
# Values of histograms that wait at most; more than a busy second has.
MAX_OBSERVATIONS = 10_000

Key = tuple[MetricSpec, tuple[str, ...]]


class TritonMetrics(Metrics):
    """Gathers values and hands them to Triton once a second, from a thread of its own.

    Each update is a message between two processes, so sums are sent and not their parts.
    Instances of one model share their series: what they add sums up.
    """

    def __init__(self) -> None:
        self._families: dict[str, Any] = {}
        self._series: dict[Key, Any] = {}
        self._lock = threading.Lock()
        self._added: collections.Counter[Key] = collections.Counter()
        self._set: dict[Key, float] = {}
        self._observed: collections.deque[tuple[Key, float]] = collections.deque(
            maxlen=MAX_OBSERVATIONS
        )
        self._thread = Background("metrics", self._run)
        self._thread.start()

    def add(self, spec: MetricSpec, amount: float = 1.0, *labels: str) -> None:
        """See ``bls_models.telemetry.metrics.Metrics``."""
        with self._lock:
            self._added[spec, labels] += amount  # type: ignore[assignment]

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        """See ``bls_models.telemetry.metrics.Metrics``."""
        with self._lock:
            self._set[spec, labels] = value

    def observe(self, spec: MetricSpec, value: float, *labels: str) -> None:
        """See ``bls_models.telemetry.metrics.Metrics``."""
        with self._lock:
            self._observed.append(((spec, labels), value))

    def close(self) -> None:
        """Hand over what is left and stop."""
        self._thread.close(CLOSE_SECONDS)

    def _run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._thread.wait(FLUSH_SECONDS)
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            added, self._added = self._added, collections.Counter()
            values, self._set = self._set, {}
            observed = list(self._observed)
            self._observed.clear()
        for method, updates in (
            ("increment", added.items()),
            ("set", values.items()),
            ("observe", observed),
        ):
            for key, value in updates:
                try:
                    getattr(self._get(key), method)(value)
                except Exception:
                    logger.exception("metric %s was not handed to Triton", key[0].name)

    def _get(self, key: Key) -> Any:
        series = self._series.get(key)
        if series is None:
            spec, labels = key
            if spec.name not in self._families:
                # The stub adds the class to the module only after it has imported the model.
                kind = getattr(pb_utils.MetricFamily, spec.kind.upper())
                self._families[spec.name] = pb_utils.MetricFamily(
                    name=spec.name, description=spec.doc, kind=kind
                )
            named = dict(zip(spec.labels, labels, strict=True))
            options = {"buckets": list(HISTOGRAM_BUCKETS)} if spec.kind == "histogram" else {}
            series = self._families[spec.name].Metric(labels=named, **options)
            self._series[key] = series
        return series
