"""``python -m loadtest.faults``: break a real server under load, part by part, and count.

The faults meet a server of their own: a database, Triton with the sample catalogue, and the
supervisor of `make run`. Every request has an id. Afterwards each one that a model acknowledged
must be in the log exactly once, every product as it was acknowledged, and the index equal to the
database. Exit status 1 if anything is not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from loadtest.faults.scenarios import (
    FAULTS,
    IN_MILVUS,
    QUEUE_FULL,
    SECONDARY_BEHIND,
    SMALL_QUEUE,
    Fault,
    Result,
    run_fault,
)
from loadtest.faults.server import SAMPLE, breakable_server
from loadtest.faults.traffic import ANSWERED, DEGRADED, FAILED, REFUSED
from loadtest.options import exit_status, tool_parser
from loadtest.photos import read_any_photos
from reporting.reports import machine, write_report

COLUMNS = """\
Requests sent, and how many were answered, were answered degraded, were refused,
or failed; the 99th percentile of matches; seconds until all was well again; log
entries that were written, are missing, are doubled, were counted as dropped."""
OUTCOMES = ("sent", ANSWERED, DEGRADED, REFUSED, FAILED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the faults; returns 0 if all is as it must be, else 1."""
    options = _options(arguments)
    return exit_status("faults", lambda: run(options, Console()))


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the faults, print and write the report; returns 0 if all is as it must be, else 1.

    Raises:
        ProductMatchError: the server does not start, or cannot be brought back.
        ClientError: the server answered with an error while it was filled.
    """
    results = run_all(options, console)
    console.print(f"\n{COLUMNS}", highlight=False, soft_wrap=True)
    console.print(table_from_results(results))
    problems = [f"{item.fault}: {text}" for item in results for text in item.problems]
    write_report(
        options.report,
        {
            "machine": machine(),
            "seconds": options.seconds,
            "clients": options.clients,
            "faults": [item.as_json() for item in results],
            "problems": problems,
        },
    )
    for text in problems:
        console.print(text, style="red", highlight=False)
    console.print(f"wrote {options.report}", highlight=False)
    return int(bool(problems))


def run_all(options: argparse.Namespace, console: Console) -> list[Result]:
    """Run the faults that were asked for, each with its result on the console."""
    photos = read_any_photos(SAMPLE / "images", 0)
    results = []
    for settings, lagging, in_milvus, possible in (
        ({}, False, False, FAULTS),
        (SMALL_QUEUE, False, False, (QUEUE_FULL,)),
        ({}, True, False, (SECONDARY_BEHIND,)),
        ({}, False, True, IN_MILVUS),
    ):
        faults = [item for item in possible if item.name in options.faults]
        if not faults:
            continue
        console.print("starting a database and Triton")

        def report(line: str) -> None:
            console.print(f"    {line}", style="dim", highlight=False)

        with breakable_server(report, options.repository, settings, lagging, in_milvus) as server:
            for fault in faults:
                console.print(f"{fault.name}", style="bold")
                results.append(run_fault(fault, server, photos, options.seconds, options.clients))
                console.print(f"    {_summary(fault, results[-1])}", highlight=False)
    return results


def _summary(fault: Fault, result: Result) -> str:
    state = "; ".join(result.problems) or "as it must be"
    return f"{state}: {result.matches['sent']} matches, recovered after {result.recovery_s} s"


def table_from_results(results: Iterable[Result]) -> Table:
    """One line a fault."""
    # Close together, so that all columns fit a terminal of 80.
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    for name in ("sent", "ans.", "degr.", "ref.", "fail", "p99\nms", "back\ns", "log", "miss",
                 "dbl", "drop"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for item in results:
        table.add_row(
            item.fault,
            *(str(item.matches[name] + item.writes[name]) for name in OUTCOMES),
            f"{item.p99_match_ms:.0f}",
            f"{item.recovery_s:.1f}",
            *map(str, (item.logs.written, item.logs.missing, item.logs.doubled, item.dropped)),
        )
    return table


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = tool_parser("faults", __doc__, "faults")
    names = [item.name for item in (*FAULTS, QUEUE_FULL, SECONDARY_BEHIND, *IN_MILVUS)]
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long the database is away "
        "(default: %(default)s)")  # fmt: skip
    add("--clients", type=int, default=4, help="threads that match (default: %(default)s)")
    add("--faults", nargs="+", default=names, choices=names, metavar="FAULT", help="some of: "
        f"{', '.join(names)} (default: all)")  # fmt: skip
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
