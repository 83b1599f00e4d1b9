"""The benchmark's results: as a table for people and as an object for its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bls_models.specs import PRODUCT_MATCH
from loadtest.measurements import LOAD_GENERATOR, Summary
from local_server.temporary_stack import SERVING


@dataclass(frozen=True)
class Accuracy:
    """How right the first matches of all contestants were, as shares of the photos.

    Attributes:
        right: by contestant: its first match is the photo's product.
        agreement: the least share in which a contestant and ``product_match`` found the same
            product first.
    """

    right: Mapping[str, float]
    agreement: float

    def as_json(self) -> dict[str, float]:
        """One flat object: the contestants and the agreement."""
        return {**self.right, "agreement": self.agreement}


def accuracy_from_matches(expected: Sequence[str], found: Mapping[str, Sequence[str]]) -> Accuracy:
    """Compare the first match of each photo.

    Args:
        expected: the product that each photo shows.
        found: the first matches of each contestant, ``product_match`` among them.
    """
    served = found[PRODUCT_MATCH.name]
    return Accuracy(
        {name: _share(mine, expected) for name, mine in found.items()},
        min(_share(mine, served) for mine in found.values()),
    )


def table_from_summaries(clients: int, summaries: Mapping[str, Summary]) -> Table:
    """One line a contestant."""
    title = f"\n{clients} client{'s' if clients > 1 else ''}"
    # Close together, so that all columns fit a terminal of 80.
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, collapse_padding=True
    )
    parts = _parts(summaries.values())
    table.add_column("", no_wrap=True)
    for column in (
        "req/s",
        *(f"of\n{name}" for name in _others(summaries)),
        *(f"{name}\nms" for name in ("p50", "p95", "p99")),
        *(f"CPU ms\n{part}" for part in parts),
        "peak\nMB",
        "idle",
    ):
        table.add_column(column, justify="right")
    for name, summary in summaries.items():
        latencies = (summary.p50_ms, summary.p95_ms, summary.p99_ms)
        cpu, memory = summary.cpu_ms_per_request, summary.peak_memory_mb
        table.add_row(
            # In full only in the report: it would not fit.
            name.removeprefix(f"{PRODUCT_MATCH.name}_"),
            f"{summary.throughput:.1f}",
            *(f"{summary.ratio_to[other]:.2f}" for other in _others(summaries)),
            *(milliseconds(value) for value in latencies),
            *(f"{cpu[part]:.1f}" if part in cpu else "" for part in parts),
            f"{memory[SERVING]:.0f}" if SERVING in memory else "",
            percent(summary.idle),
        )
    return table


def report_from_summaries(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    """The contestants of one number of clients, as in ``reports/bench.json``."""
    return {
        name: {
            **speed_from_summary(summary),
            **{
                f"ratio_to_{other}": round(summary.ratio_to[other], 3)
                for other in _others(summaries)
            },
            "cpu_ms_per_request": _rounded(summary.cpu_ms_per_request).get(SERVING),
            "other_cpu_ms_per_request": _without_serving(summary.cpu_ms_per_request),
            "peak_memory_mb": _rounded(summary.peak_memory_mb).get(SERVING),
            "other_peak_memory_mb": _without_serving(summary.peak_memory_mb),
            "stages": _rounded(summary.stages_ms),
            "cpu_ms_by_process": _rounded(summary.cpu_ms_by_process),
            "idle": None if summary.idle is None else round(summary.idle, 3),
        }
        for name, summary in summaries.items()
    }


def speed_from_summary(summary: Summary) -> dict[str, float]:
    """Throughput and latency, as in ``reports/bench.json``."""
    return {
        "throughput": round(summary.throughput, 2),
        "p50_ms": round(summary.p50_ms, 2),
        "p95_ms": round(summary.p95_ms, 2),
        "p99_ms": round(summary.p99_ms, 2),
    }


def line_of_milliseconds(title: str, values: Mapping[str, float]) -> str:
    """Values by name in one line."""
    return f"{title}, ms: " + ", ".join(f"{k} {v:.1f}" for k, v in values.items())


def milliseconds(value: float) -> str:
    """Milliseconds in a table."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float | None) -> str:
    """A share in a table; empty text where it is not known."""
    return "" if share is None else f"{share:.0%}"


def _others(summaries: Mapping[str, Summary]) -> list[str]:
    """What ratios are given to, but for the product itself."""
    compared = next(iter(summaries.values())).ratio_to
    return [name for name in compared if not name.startswith(PRODUCT_MATCH.name)]


def _parts(summaries: Iterable[Summary]) -> list[str]:
    """Whose CPU time is known of any contestant; the load generator's is next to nothing."""
    parts = dict.fromkeys(part for item in summaries for part in item.cpu_ms_per_request)
    return [part for part in parts if part != LOAD_GENERATOR]


def _without_serving(values: Mapping[str, float]) -> dict[str, float]:
    return {part: value for part, value in _rounded(values).items() if part != SERVING}


def _share(found: Sequence[str], wanted: Sequence[str]) -> float:
    same = sum(one == other for one, other in zip(found, wanted, strict=True))
    return round(same / len(wanted), 4)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
