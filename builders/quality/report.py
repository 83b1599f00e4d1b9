"""The congruence results: as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from builders.quality.congruence import EncoderQuality
from builders.quality.metrics import Retrieval
from builders.quality.runners import Latency


def table_from_rows(rows: Sequence[EncoderQuality]) -> Table:
    """One encoder's runners, a line each; retrieval and agreement in percent.

    Args:
        rows: the original first, then the graphs.
    """
    sets = list(dict.fromkeys(name for row in rows for name in row.retrieval))
    batches = list(dict.fromkeys(batch for row in rows for batch in row.latency))
    table = Table(
        title=rows[0].model,
        title_justify="left",
        box=SIMPLE_HEAD,
        caption="top-1: the first match is right; same 1, same 10: it, and the first ten, are "
        "fp32's; x: time relative to fp32",
        caption_justify="left",
    )
    table.add_column("", no_wrap=True)
    table.add_column("in", no_wrap=True)
    for column in (
        "MB",
        "cosine\nmean",
        "cosine\nleast",
        *(f"{name}\ntop-1  same 1  same 10" for name in sets),
        *(f"batch {batch}\nms/item     x" for batch in batches),
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.precision,
            row.backend,
            f"{row.size / 1e6:.1f}",
            f"{row.cosine_mean:.4f}",
            f"{row.cosine_min:.4f}",
            *(_retrieval_cell(row.retrieval.get(name)) for name in sets),
            *(_latency_cell(row.latency.get(batch)) for batch in batches),
        )
    return table


def report_from_rows(
    bundle: str,
    fingerprint: str,
    machine: Mapping[str, Any],
    rows: Sequence[EncoderQuality],
    problems: Sequence[str],
) -> dict[str, Any]:
    """The content of ``reports/quality.json``."""
    return {
        "bundle": bundle,
        "fingerprint": fingerprint,
        "machine": dict(machine),
        "shortfalls": list(problems),
        "rows": [_row(row) for row in rows],
    }


def _row(row: EncoderQuality) -> dict[str, Any]:
    return {
        "model": row.model,
        "precision": row.precision,
        "backend": row.backend,
        "bytes": row.size,
        "cosine_mean": round(row.cosine_mean, 6),
        "cosine_min": round(row.cosine_min, 6),
        "retrieval": {
            name: {
                "top1_accuracy": round(item.top1_accuracy, 4),
                "top1_agreement": round(item.top1_agreement, 4),
                "top10_agreement": round(item.top10_agreement, 4),
                "mixed_top1_accuracy": round(item.mixed_top1_accuracy, 4),
            }
            for name, item in row.retrieval.items()
        },
        "latency": {f"batch_{batch}": _latency(item) for batch, item in row.latency.items()},
    }


def _latency(item: Latency) -> dict[str, float]:
    return {"ms_per_item": round(item.ms_per_item, 3), "ratio_to_fp32": round(item.ratio, 3)}


def _retrieval_cell(item: Retrieval | None) -> str:
    if item is None:
        return ""
    shares = (item.top1_accuracy, item.top1_agreement, item.top10_agreement)
    return "{:5.1f}   {:5.1f}    {:5.1f}".format(*(100 * share for share in shares))


def _latency_cell(item: Latency | None) -> str:
    return "" if item is None else f"{item.ms_per_item:.2f}  {item.ratio:4.2f}"
