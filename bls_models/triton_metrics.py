"""``bls_models.metrics`` on Triton's metrics endpoint.

Like ``bls_models.triton`` this is imported by ``model_repository/*/1/model.py`` alone.
"""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils

from bls_models.metrics import HISTOGRAM_BUCKETS, MetricSpec


class TritonMetrics:
    """Creates families and series as they are first used.

    Instances of one model share their series: what they add sums up.
    """

    def __init__(self) -> None:
        self._families: dict[str, Any] = {}
        self._series: dict[tuple[str, tuple[str, ...]], Any] = {}

    def add(self, spec: MetricSpec, amount: float = 1.0, *labels: str) -> None:
        """See ``bls_models.metrics.Metrics``."""
        self._get(spec, labels).increment(amount)

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        """See ``bls_models.metrics.Metrics``."""
        self._get(spec, labels).set(value)

    def observe(self, spec: MetricSpec, value: float, *labels: str) -> None:
        """See ``bls_models.metrics.Metrics``."""
        self._get(spec, labels).observe(value)

    def _get(self, spec: MetricSpec, labels: tuple[str, ...]) -> Any:
        key = (spec.name, labels)
        series = self._series.get(key)
        if series is None:
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
