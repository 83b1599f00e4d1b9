"""``python -m loadtest.overload``: what becomes of requests when there are too many.

Requests come at their own time, each from a client that gives up after a while, at shares of what
the server can carry, and beside them the probes of `make run` and of containers ask as they always
do. What it can carry is measured in a closed loop before and after each load, for the machine may
have others to serve. A server that is as it must be answers as much as it can carry in time,
however much is asked, and refuses the rest at once. Exit status 1 if it does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bls_models.background import repeated
from loadtest.addresses import address_from_url
from loadtest.http_load import Address, run_load
from loadtest.match_wire import request_from_photo
from loadtest.open_load import FAILED, IN_TIME, LATE, OUTCOMES, run_open_load
from loadtest.options import add_catalog, add_photo_side, exit_status, tool_parser
from loadtest.photos import read_photos
from local_server.probe import LIVE, READY, problem
from local_server.temporary_stack import local_stack
from reporting.reports import machine, write_report

WARM_UP_SECONDS = 3.0
# Requests under way at once that keep every process busy.
CLIENTS = 16
PROBE_EVERY_SECONDS = 1.0
PROBE_SECONDS = 5.0
# Least share of what the server can carry that is answered in time, and most of all that comes too
# late, where more is asked than that.
LEAST_ANSWERED = 0.9
MOST_LATE = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns 0 if all is as it must be, else 1."""
    options = parse_options(arguments)
    return exit_status("overload", lambda: run(options, Console()))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser("overload", __doc__, "overload")
    add = parser.add_argument
    add("--seconds", type=float, default=20.0, help="of each load (default: %(default)s)")
    add("--capacity-seconds", type=float, default=6.0, metavar="SECONDS", help="of each closed "
        "loop (default: %(default)s)")  # fmt: skip
    add("--factors", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.0, 3.0], help="shares of "
        "what the server can carry (default: 0.5 1 1.5 2 3)")  # fmt: skip
    add("--deadline", type=float, default=2.0, metavar="SECONDS", help="after which a client "
        "gives up (default: %(default)s)")  # fmt: skip
    add_catalog(parser)
    add_photo_side(parser)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, print and write the report; returns 0 if all is as it must be, else 1.

    Raises:
        LoadError: a request of the closed loop failed.
        ProductMatchError: the server does not start.
        ClientError: the server answered with an error while it was filled.
    """
    photos = read_photos(options.catalog / "queries", options.photo_side)
    console.print("starting a database and Triton")
    with local_stack(options.repository, options.catalog) as stack:
        address = address_from_url(stack.http_url)
        requests = [
            request_from_photo(photo.data, address, timeout_s=options.deadline) for photo in photos
        ]
        run_load(address, requests, CLIENTS, WARM_UP_SECONDS)

        def capacity() -> float:
            load = run_load(address, requests, CLIENTS, options.capacity_seconds)
            return len(load.latencies_ms) / load.seconds

        rows = []
        before = capacity()
        for factor in options.factors:
            row = measured(stack.http_url, address, requests, factor * before, options)
            after = capacity()
            rows.append({"factor": factor, "capacity": round((before + after) / 2, 1), **row})
            before = after
    console.print(table_from_rows(rows))
    problems = [text for row in rows for text in problems_of(row)]
    write_report(
        options.report,
        {
            "machine": machine(),
            "seconds": options.seconds,
            "deadline_s": options.deadline,
            "loads": rows,
            "problems": problems,
        },
    )
    for text in problems:
        console.print(text, style="red", highlight=False)
    console.print(f"wrote {options.report}", highlight=False)
    return int(bool(problems))


def measured(
    url: str,
    address: Address,
    requests: Sequence[bytes],
    rate: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One load of so many requests a second.

    Returns:
        For the report: ``asked`` and each of ``OUTCOMES``, requests a
        second; ``answered_p50_ms``, ``answered_p99_ms`` and ``refused_p50_ms``, None where there
        are none; ``probes``, how many found the server live, dead, ready and not ready.
    """
    probes: Counter[str] = Counter({LIVE: 0, "dead": 0, READY: 0, "not ready": 0})

    def probe() -> None:
        for level, otherwise in ((LIVE, "dead"), (READY, "not ready")):
            probes[otherwise if problem(url, level, PROBE_SECONDS) else level] += 1

    with repeated("probes", probe, PROBE_EVERY_SECONDS):
        load = run_open_load(address, requests, rate, options.seconds, options.deadline)
    # What clients gave up may still be under way.
    time.sleep(options.deadline)
    return {
        "asked": round(load.outcomes.total() / load.seconds, 1),
        **{outcome: round(load.rate(outcome), 1) for outcome in OUTCOMES},
        "answered_p50_ms": _percentile(load.answered_ms, 50),
        "answered_p99_ms": _percentile(load.answered_ms, 99),
        "refused_p50_ms": _percentile(load.refused_ms, 50),
        "probes": dict(probes),
    }


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 1) if values else None


def problems_of(row: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    possible = min(row["capacity"], row["asked"])
    checks = {
        f"{row[IN_TIME]} of {possible} a second were answered in time": row[IN_TIME]
        < LEAST_ANSWERED * possible,
        f"{row[LATE]} a second came too late": row[LATE] > MOST_LATE * row["asked"],
        f"{row[FAILED]} a second failed": row[FAILED],
        "a probe took the server for dead": row["probes"]["dead"],
    }
    return [f"at {row['factor']:g} times the load: {text}" for text, bad in checks.items() if bad]


def table_from_rows(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a load."""
    # Close together, so that all columns fit a terminal of 80.
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("load", justify="right")
    for name in ("carries\n/s", "asked\n/s", *OUTCOMES, "p50\nms", "p99\nms", "refused\nms",
                 "ready"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        probes = row["probes"]
        table.add_row(
            f"{row['factor']:g}",
            *(f"{row[name]:.0f}" for name in ("capacity", "asked", *OUTCOMES)),
            *(
                "" if row[name] is None else f"{row[name]:.0f}"
                for name in ("answered_p50_ms", "answered_p99_ms", "refused_p50_ms")
            ),
            f"{probes[READY]} of {probes[READY] + probes['not ready']}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
