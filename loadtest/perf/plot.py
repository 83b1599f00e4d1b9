"""The plot of perf_analyzer's figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bls_models.specs import PRODUCT_MATCH
from loadtest.perf.figures import Figures

STAGES = {
    "rest_ms": ("threads that answer, network", "#b0b7c3"),
    "queue_ms": ("queue", "#d9a441"),
    "input_ms": ("input", "#6aa97c"),
    "infer_ms": ("infer", "#3b6ea5"),
    "output_ms": ("output", "#9b6a9f"),
}
PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")
AXES = {"concurrency": "requests under way", "request_rate": "requests started a second"}


def plot_figures(figures: Sequence[Figures], path: Path) -> None:
    """Draw a row of three charts for each sweep: throughput, latency, and where time goes.

    Args:
        figures: of at least one level.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    sweeps = list(dict.fromkeys(item.sweep for item in figures))
    picture = Figure(figsize=(15, 4.2 * len(sweeps)), layout="constrained")
    axes = picture.subplots(len(sweeps), 3, squeeze=False)
    for row, sweep in zip(axes, sweeps, strict=True):
        mine = [item for item in figures if item.sweep == sweep]
        own = [item for item in mine if item.model == PRODUCT_MATCH.name]
        loads = [item.load for item in own]
        row[0].plot(loads, [item.requests_per_s for item in own], marker="o", color="#3b6ea5")
        row[0].set(title="throughput", ylabel="requests a second")
        for name in PERCENTILES:
            values = [getattr(item, name) for item in own]
            row[1].plot(loads, values, marker="o", label=name.removesuffix("_ms"))
        row[1].set(title="latency at the client", ylabel="ms")
        row[1].legend()
        for chart in row[:2]:
            chart.set(xlabel=AXES[sweep], xlim=(0, None), ylim=(0, None))
            chart.grid(alpha=0.3)
        _stage_bars(row[2], mine, loads)
        row[2].set(
            title="mean time in each model, as Triton counts it", ylabel="ms", ylim=(0, None)
        )
        row[2].set(xlabel=f"model, {AXES[sweep]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=110)


def _stage_bars(chart: Any, figures: Sequence[Figures], loads: Sequence[float]) -> None:
    """A group of stacked bars for each load, one a model."""
    models = list(dict.fromkeys(item.model for item in figures))
    width = 0.8 / len(models)
    ticks: list[float] = []
    labels: list[str] = []
    for number, item in enumerate(figures):
        place = loads.index(item.load) + (models.index(item.model) - (len(models) - 1) / 2) * width
        bottom = 0.0
        for field, (stage, colour) in STAGES.items():
            height = getattr(item, field) or 0.0
            label = stage if number == 0 else None
            chart.bar(place, height, width * 0.9, bottom, color=colour, label=label)
            bottom += height
        ticks.append(place)
        labels.append(f"{item.model}  {item.load:g}")
    chart.set_xticks(ticks, labels, rotation=90, fontsize=7)
    chart.legend(fontsize=8, loc="upper left")
