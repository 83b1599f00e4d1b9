"""perf_analyzer's figures: read, and written as one CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bls_models.specs import PRODUCT_MATCH
from loadtest.measurements import LoadError
from loadtest.perf.analyzer import Level

# Column of perf_analyzer's CSV by field; times are in microseconds there.
LATENCIES = {f"p{share}_ms": f"p{share} latency" for share in (50, 90, 95, 99)}
STAGES = {
    "queue_ms": "Server Queue",
    "input_ms": "Server Compute Input",
    "infer_ms": "Server Compute Infer",
    "output_ms": "Server Compute Output",
}
# What perf_analyzer takes for the network, since Triton does not count it.
REST = ("Client Send", "Network+Server Send/Recv", "Client Recv")

COMPOSING = re.compile(
    r"^  (?P<model>\w+), version: \d+\n"
    r"(?:      .*\n)*?"
    r"      Avg request latency: .*?queue (?P<queue_ms>\d+) usec \+ "
    r"compute input (?P<input_ms>\d+) usec \+ compute infer (?P<infer_ms>\d+) usec \+ "
    r"compute output (?P<output_ms>\d+) usec\)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Figures:
    """One model at one level of load. Means and percentiles over requests, milliseconds.

    ``product_match`` has all; the models that it calls have their stages alone. Stages are those
    that Triton counts. ``product_match`` answers from threads of its own, and so does
    ``image_encoder`` where rows of several requests run side by side: their stages end when they
    have taken a request over.

    Attributes:
        sweep: ``concurrency`` or ``request_rate``.
        load: requests under way at once, or requests started a second.
        model: the model.
        queue_ms: waiting to be batched and for a free instance.
        input_ms: preparing the inputs.
        infer_ms: the model's own time, until it answers or has taken the request over.
        output_ms: preparing the outputs.
        requests_per_s: answers a second.
        p50_ms: median latency at the client, and so on.
        rest_ms: what the client waits for beside all that: threads that answer, and the network.
    """

    sweep: str
    load: float
    model: str
    queue_ms: float
    input_ms: float
    infer_ms: float
    output_ms: float
    requests_per_s: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    rest_ms: float | None = None


def figures_from_output(level: Level, table: str, printed: str) -> list[Figures]:
    """The figures of one level.

    Args:
        level: the load.
        table: perf_analyzer's CSV file, verbose.
        printed: what it printed, for the models that ``product_match`` calls.

    Returns:
        ``product_match`` first, then the models that it calls.

    Raises:
        LoadError: a figure is not where it should be.
    """
    rows = list(csv.DictReader(table.splitlines()))
    try:
        (row,) = rows
        own = Figures(
            level.sweep,
            level.value,
            PRODUCT_MATCH.name,
            requests_per_s=float(row["Inferences/Second"]),
            rest_ms=sum(_ms(row[name]) for name in REST),
            **{field: _ms(row[column]) for field, column in {**LATENCIES, **STAGES}.items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"perf_analyzer's CSV has another form ({error!r}):\n{table}") from error
    composing = [
        Figures(
            level.sweep,
            level.value,
            match["model"],
            **{field: _ms(match[field]) for field in STAGES},
        )
        for match in COMPOSING.finditer(printed)
    ]
    if not composing:
        raise LoadError(f"perf_analyzer printed no composing models:\n{printed}")
    return [own, *composing]


def write_figures(figures: Sequence[Figures], path: Path) -> None:
    """Write all figures as CSV, a line a model and level; what is not known is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [item.name for item in fields(Figures)])
        writer.writeheader()
        writer.writerows(_rounded(asdict(item)) for item in figures)


def _rounded(row: Mapping[str, object]) -> dict[str, object]:
    return {
        name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()
    }


def _ms(microseconds: str) -> float:
    return float(microseconds) / 1e3
