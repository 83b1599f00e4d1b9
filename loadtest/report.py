"""The benchmark's results: as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bls_models.settings import cpu_count
from loadtest.measurements import SERVING, Summary


@dataclass(frozen=True)
class Accuracy:
    """How right the first matches were, as shares of the photos.

    Attributes:
        raw: the raw pipeline's first match is the photo's product.
        product_match: the served first match is the photo's product.
        agreement: both found the same product first.
    """

    raw: float
    product_match: float
    agreement: float


def accuracy_from_matches(expected: list[str], raw: list[str], served: list[str]) -> Accuracy:
    """Compare the first match of each photo."""
    return Accuracy(_share(raw, expected), _share(served, expected), _share(served, raw))


def table_from_summaries(clients: int, summaries: Mapping[str, Summary]) -> Table:
    """One line a contestant."""
    parts = list(
        dict.fromkeys(part for item in summaries.values() for part in item.cpu_ms_per_request)
    )
    title = f"\n{clients} client{'s' if clients > 1 else ''}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    cpu_columns = (f"CPU ms\n{part}" for part in parts)
    for column in ("req/s", "of raw", "p50 ms", "p95 ms", "p99 ms", *cpu_columns):
        table.add_column(column, justify="right")
    for name, summary in summaries.items():
        latencies = (summary.p50_ms, summary.p95_ms, summary.p99_ms)
        cpu = summary.cpu_ms_per_request
        table.add_row(
            name,
            f"{summary.throughput:.1f}",
            f"{summary.ratio_to_raw:.2f}",
            *(f"{value:.1f}" for value in latencies),
            *(f"{cpu[part]:.1f}" if part in cpu else "" for part in parts),
        )
    return table


def report_from_summaries(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    """The contestants of one number of clients, as in ``reports/bench.json``."""
    return {
        name: {
            "throughput": round(summary.throughput, 2),
            "ratio_to_raw": round(summary.ratio_to_raw, 3),
            "p50_ms": round(summary.p50_ms, 2),
            "p95_ms": round(summary.p95_ms, 2),
            "p99_ms": round(summary.p99_ms, 2),
            "cpu_ms_per_request": _rounded(summary.cpu_ms_per_request).get(SERVING),
            "other_cpu_ms_per_request": {
                part: value
                for part, value in _rounded(summary.cpu_ms_per_request).items()
                if part != SERVING
            },
            "stages": _rounded(summary.stages_ms),
        }
        for name, summary in summaries.items()
    }


def machine() -> dict[str, Any]:
    """The machine that the numbers belong to."""
    return {"cpu": _cpu_model(), "cores": cpu_count(), "load_average": os.getloadavg()[0]}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _share(found: list[str], wanted: list[str]) -> float:
    same = sum(one == other for one, other in zip(found, wanted, strict=True))
    return round(same / len(wanted), 4)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
