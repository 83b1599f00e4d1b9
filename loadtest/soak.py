"""``python -m loadtest.soak``: matches, upserts and deletes at random for some minutes.

Then a storm: many clients ask for captions, filters, objects and several photos, some of what
cannot be answered, and some go before their answer. Every request must be answered as it must be,
were it with a refusal, and no part may die.

At the end there must be no error, every request in the log exactly once, every product as it was
acknowledged, the index equal to the database, and memory flat. Before the time counts, a burst of
many clients makes the largest batches, whose memory engines keep. After it no process of Triton's,
nor their shared memory, may come to hold a tenth and 24 MB more at the end than early on: the
medians of the last and of the second sixth of the time are compared. Exit status 1 if anything is
not.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import psutil
from rich.console import Console
from rich.progress import Progress

from loadtest.faults.audit import audit_logs, index_difference, wrong_products
from loadtest.faults.server import SAMPLE, BreakableServer, breakable_server
from loadtest.faults.traffic import ANSWERED, MATCH, Traffic
from loadtest.options import exit_status, tool_parser
from loadtest.photos import read_any_photos
from loadtest.storm import Storm
from local_server.model_processes import model_processes
from local_server.temporary_stack import DATABASE
from reporting.reports import machine, write_report

SAMPLE_SECONDS = 2.0
# What a process may hold more at the end than after warming up.
GROWTH_SHARE = 0.1
GROWTH_MB = 24.0
# Fewer samples do not show growth.
LEAST_SAMPLES = 6
# More than the largest batch of any model.
BURST_CLIENTS = 40
BURST_SECONDS = 8.0
# What memory that is no process's own is called.
SHARED_MEMORY = "shared memory"


class MemoryWatch:
    """Resident memory of the server's processes over time, MB (10^6 bytes) by process.

    Shared memory counts, which Triton's models grow to the largest request that they have seen, and
    is also there by itself.
    """

    def __init__(self, server: BreakableServer) -> None:
        triton = server.triton.process.pid
        names = {triton: "tritonserver", server.database.pid: DATABASE}
        for pid, model in sorted(model_processes(triton).items()):
            taken = sum(name.startswith(model) for name in names.values())
            names[pid] = f"{model} {taken}" if taken else model
        self._server = server
        self._processes = {name: psutil.Process(pid) for pid, name in names.items()}
        self.samples: dict[str, list[float]] = {
            name: [] for name in (*self._processes, SHARED_MEMORY)
        }
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            for name, process in self._processes.items():
                # One that died has no more samples; the others go on.
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.samples[name].append(process.memory_info().rss / 1e6)
            self.samples[SHARED_MEMORY].append(self._server.triton.shared_memory / 1e6)

    def close(self) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()


def growth(samples: Sequence[float]) -> tuple[float, float]:
    """Memory after warming up and at the end.

    Args:
        samples: over the whole time, evenly spaced, at least ``LEAST_SAMPLES``.

    Returns:
        The medians of the second and of the last sixth.
    """
    sixth = len(samples) // 6
    return statistics.median(samples[sixth : 2 * sixth]), statistics.median(samples[-sixth:])


def grown_processes(samples: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """The growth of each process that lived long enough to judge it."""
    return {name: growth(own) for name, own in samples.items() if len(own) >= LEAST_SAMPLES}


def grown_too_much(grown: Mapping[str, tuple[float, float]]) -> list[str]:
    """Which processes hold much more at the end, in words.

    The database is not judged: what is logged stays in its cache, which has a bound of its own.
    """
    return [
        f"{name} grew from {early:.0f} to {late:.0f} MB"
        for name, (early, late) in grown.items()
        if name != DATABASE and late > early * (1 + GROWTH_SHARE) and late > early + GROWTH_MB
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; returns 0 if all is as it must be, else 1."""
    options = _options(arguments)
    return exit_status("soak", lambda: run(options, Console()))


def run(options: argparse.Namespace, console: Console) -> int:
    """Soak, print and write the report; returns 0 if all is as it must be, else 1.

    Raises:
        ProductMatchError: the server does not start.
        ClientError: the server answered with an error while it was filled.
    """
    report = soaked(options, console)
    write_report(options.report, report)
    console.print(_summary(report), highlight=False)
    for text in report["problems"]:
        console.print(text, style="red", highlight=False)
    console.print(f"wrote {options.report}", highlight=False)
    return int(bool(report["problems"]))


def soaked(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Start a server, load it, and check what is left.

    Returns:
        The report; ``problems`` is empty if all is as it must be.

    Raises:
        ProductMatchError: see ``run``.
        ClientError: see ``run``.
    """
    photos = read_any_photos(SAMPLE / "images", 0)
    events: list[str] = []
    console.print("starting a database and Triton")
    with breakable_server(events.append, options.repository) as server:
        burst = Traffic(server.triton.http_url, photos, BURST_CLIENTS, 0.5, options.seed + 1000)
        _load(burst, BURST_SECONDS, console, "warming up")
        traffic = Traffic(server.triton.http_url, photos, options.clients, 0.1, options.seed)
        memory = MemoryWatch(server)
        _load(traffic, options.minutes * 60, console, "load")
        memory.close()
        storm = Storm(
            (server.triton.http_url, server.triton.grpc_url),
            photos,
            options.storm_clients,
            options.seed,
        )
        storm_memory = MemoryWatch(server)
        _load(storm, options.storm_minutes * 60, console, "storm")
        storm_memory.close()
        sent = [*burst.sent, *traffic.sent]
        logs = audit_logs(server.products, sent)
        differing = index_difference(server.triton.http_url)
        outcomes = Counter(f"{item.operation} {item.outcome}" for item in sent)
        grown = grown_processes(memory.samples)
        storm_grown = grown_processes(storm_memory.samples)
        wrong = [key for load in (burst, traffic) for key in wrong_products(server.products, load)]
    errors = [item for item in sent if item.outcome != ANSWERED]
    too_large = [*grown_too_much(grown), *grown_too_much(storm_grown)]
    checks = {
        f"{len(errors)} requests were not answered completely, the first: "
        f"{errors[0].note if errors else ''}": errors,
        f"{logs.missing} requests are not in the log": logs.missing,
        f"{logs.doubled} log entries are doubled": logs.doubled,
        f"products are not as acknowledged: {wrong[:5]}": wrong,
        f"index and database differ: {differing}": differing,
        f"memory grew: {', '.join(too_large)}": too_large,
        f"{len(storm.unanswered)} requests of the storm were not answered as they must be, the "
        f"first: {storm.unanswered[0] if storm.unanswered else ''}": storm.unanswered,
        f"parts died: {'; '.join(events)}": events,
    }
    return {
        "machine": machine(),
        "minutes": options.minutes,
        "clients": options.clients,
        "seed": options.seed,
        "requests": dict(sorted(outcomes.items())),
        "requests_a_second": round(
            sum(item.operation == MATCH for item in traffic.sent) / (options.minutes * 60), 1
        ),
        "logs": asdict(logs),
        "memory_mb": _as_json(grown),
        "storm": {
            "minutes": options.storm_minutes,
            "clients": options.storm_clients,
            "requests": dict(sorted(storm.outcomes.items())),
            "memory_mb": _as_json(storm_grown),
        },
        "problems": [text for text, found in checks.items() if found],
    }


def _as_json(grown: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {"warm": round(early, 1), "end": round(late, 1)}
        for name, (early, late) in grown.items()
    }


def _load(traffic: Traffic | Storm, seconds: float, console: Console, name: str) -> None:
    """Send traffic for some time."""
    with traffic, Progress(console=console, transient=True) as progress:
        end = time.monotonic() + seconds
        task = progress.add_task(name, total=seconds)
        while (left := end - time.monotonic()) > 0:
            progress.update(task, completed=seconds - left)
            time.sleep(min(1.0, left))


def _summary(report: dict[str, Any]) -> str:
    text = (
        f"{sum(report['requests'].values())} requests in {report['minutes']:g} min, "
        f"{report['logs']['written']} log entries, {report['logs']['missing']} missing, "
        f"{report['logs']['doubled']} doubled; "
        f"{sum(report['storm']['requests'].values())} requests of the storm"
    )
    memory = report["storm"]["memory_mb"] or report["memory_mb"]
    if not memory:
        return f"{text}; too short a time to judge memory"
    name = max(memory, key=lambda name: memory[name]["end"] - memory[name]["warm"])
    held = memory[name]
    return f"{text}; memory grew most in {name}: {held['warm']:.0f} to {held['end']:.0f} MB"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = tool_parser("soak", __doc__, "soak")
    add = parser.add_argument
    add("--minutes", type=float, default=5.0, help="length of the load (default: %(default)s)")
    add("--storm-minutes", type=float, default=5.0, help="length of the storm "
        "(default: %(default)s)")  # fmt: skip
    add("--storm-clients", type=int, default=64, help="threads of the storm (default: "
        "%(default)s)")  # fmt: skip
    add("--clients", type=int, default=4, help="threads that match (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the random choices (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
