"""Which metrics there are, and the metrics of an expression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser

from bls_models.telemetry.metrics import METRICS

# Label names of each metric that the models export, beside those that Prometheus adds.
MODEL_METRICS = {spec.name: set(spec.labels) for spec in METRICS}
HISTOGRAMS = {spec.name for spec in METRICS if spec.kind == "histogram"}
# What the values of a label may be.
LABEL_VALUES: dict[str, set[str]] = {
    "outcome": {"ok", "empty", "not_found", "client_error", "refused", "error"},
    "stage": {"queue", "decode", "encode", "search", "documents", "caption", "total"},
}
# Prometheus' own.
PROMETHEUS_METRICS: dict[str, set[str]] = {"up": set(), "ALERTS": {"alertname", "alertstate"}}
SCRAPE_LABELS = {"job", "instance", "namespace", "service", "pod"}


def known_metrics() -> dict[str, set[str]]:
    """Name and labels of each series, with those of histograms written out."""
    known = dict(PROMETHEUS_METRICS)
    for name, labels in MODEL_METRICS.items():
        if name in HISTOGRAMS:
            known |= {f"{name}_bucket": labels | {"le"}}
            known |= {f"{name}_{part}": labels for part in ("sum", "count")}
        else:
            known[name] = labels
    return known


def nodes_of(node: Any) -> Iterator[Any]:
    """A parsed expression and every part of it."""
    yield node
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if (part := getattr(node, name, None)) is not None:
            yield from nodes_of(part)
    for argument in getattr(node, "args", []):
        yield from nodes_of(argument)


def series_of(expression: str) -> list[promql_parser.VectorSelector]:
    """Every series that an expression reads.

    Raises:
        ValueError: it does not parse.
    """
    nodes = nodes_of(promql_parser.parse(expression))
    return [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]


def grouping_labels(expression: str) -> set[str]:
    """Every label that an expression groups by."""
    nodes = nodes_of(promql_parser.parse(expression))
    aggregates = [node for node in nodes if isinstance(node, promql_parser.AggregateExpr)]
    return {label for node in aggregates if node.modifier for label in node.modifier.labels}
