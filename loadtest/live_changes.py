"""``python -m loadtest.live_changes``: matches while the catalogue changes.

The same load of photos meets a catalogue that stands still and one that changes at several rates,
in turns of one run. Of each rate: the matches' throughput and latency, the CPU time of the serving
processes, of the database and of what writes, and how soon a search sees a change.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from rich.console import Console
from rich.table import Table

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.errors import SetupError
from bls_models.index.query import IndexQuery
from bls_models.index.wire import answers_from_tensors, tensors_from_queries
from bls_models.product import json_bytes
from bls_models.settings import Settings
from bls_models.specs import PRODUCT_INDEX, PRODUCT_MATCH
from bls_models.vectors import FloatArray
from loadtest.addresses import grpc_address_from_url
from loadtest.bench import WARM_UP_SECONDS, product_match
from loadtest.catalogue_changes import (
    PROBE_SECONDS,
    Catalogue,
    Change,
    ChangesResult,
    PacedChanges,
    Sees,
)
from loadtest.measurements import Measurement, Summary, alternating_rounds, summary_from_rounds
from loadtest.options import add_catalog, add_photo_side, exit_status, tool_parser
from loadtest.photos import read_photos
from loadtest.served import ServedContestant
from loadtest.synthetic_catalogue import VIEWS_PER_PRODUCT, SyntheticCatalogue, real_catalogue
from loadtest.workers import Worker, own_process
from local_server.running import connect_for_reports
from local_server.sync_check import ask_for_check
from local_server.temporary_stack import DATABASE, INDEX_SECONDS, SERVING, local_stack
from reporting.reports import machine, write_report

CHANGES = "changes"
VECTORS = 512
ADD_AT_ONCE = 200
TABLE_WIDTH = 120


class UnderChanges:
    """``product_match`` under its usual load while the catalogue changes.

    Args:
        matches: the contestant that is loaded.
        rate: changes a second; 0: none.
        writer: makes them.
    """

    def __init__(self, matches: ServedContestant, rate: float, writer: Worker[Writer]) -> None:
        self.name = f"changes_{rate:g}"
        self.rate = rate
        self._matches = matches
        self._writer = writer
        self.results: list[ChangesResult] = []

    def first_matches(self) -> list[str]:
        """See ``loadtest.measurements.Contestant``."""
        return self._matches.first_matches()

    def measure(self, clients: int, seconds: float) -> Measurement:
        """Load the matches; see ``loadtest.measurements.Contestant``."""
        if not self.rate:
            measured = self._matches.measure(clients, seconds)
            return replace(measured, cpu_ms={**measured.cpu_ms, CHANGES: 0.0})
        self._writer.call(Writer.start, self.rate)
        try:
            measured = self._matches.measure(clients, seconds)
        finally:
            result = self._writer.call(Writer.stop)
        self.results.append(result)
        # Its share of the time that the matches took.
        cpu_ms = result.cpu_ms * measured.seconds / result.seconds
        return replace(measured, cpu_ms={**measured.cpu_ms, CHANGES: cpu_ms})


def index_sees(grpc_url: str, text_dim: int, image_dim: int) -> Sees:
    """Ask ``product_index`` for a product by a filter, past encoders and documents."""
    client = triton_grpc.InferenceServerClient(grpc_address_from_url(grpc_url))
    text: FloatArray = np.zeros((1, text_dim), np.float32)
    text[0, 0] = 1

    def sees(product_id: str, number: int) -> bool:
        condition = {"name": f"Product {product_id}", "attributes.change": {"$gte": number}}
        query = IndexQuery(
            np.zeros((0, image_dim), np.float32),
            np.zeros(0, np.float32),
            text,
            np.ones(1, np.float32),
            top_k=1,
            filter=json_bytes(condition),
        )
        inputs = []
        for name, array in tensors_from_queries([query]).items():
            spec = PRODUCT_INDEX.input(name)
            item = triton_grpc.InferInput(name, list(array.shape), spec.dtype)
            item.set_data_from_numpy(array)
            inputs.append(item)
        answer = client.infer(PRODUCT_INDEX.name, inputs)
        names = set(PRODUCT_INDEX.output_names) - {"index_info"}
        (found,) = answers_from_tensors({name: answer.as_numpy(name) for name in names})
        return bool(found.matches)

    return sees


class Writer:
    """Makes products, and changes them while it is told to.

    Args:
        uri: the database.
        grpc_url: the server, whose index is asked for the changes.
        bundle: the server's.
        images: vectors (n, image_dim) to choose from.
        texts: vectors (m, text_dim) to choose from.
        products: how many there are to change.
    """

    def __init__(
        self,
        uri: str,
        grpc_url: str,
        bundle: Bundle,
        images: FloatArray,
        texts: FloatArray,
        products: int,
    ) -> None:
        # As the server's, which inherits this environment.
        settings = Settings.from_environment()
        store = Store(connect_for_reports(uri, settings.database), settings.log_days)
        self._catalogue = Catalogue(store, bundle.fingerprint, images, texts)
        last = []
        for start in range(0, products, ADD_AT_ONCE):
            last = self._catalogue.add(min(ADD_AT_ONCE, products - start))
        self._sees = index_sees(grpc_url, bundle.text_dim, bundle.image_dim)
        _wait_until_seen(self._sees, last[-1])

    def start(self, rate: float) -> None:
        """Begin with so many changes a second."""
        self._changes = PacedChanges(self._catalogue, rate, self._sees)

    def stop(self) -> ChangesResult:
        """End the changes; see ``PacedChanges.close``."""
        return self._changes.close()


def _wait_until_seen(sees: Sees, change: Change) -> None:
    deadline = time.monotonic() + INDEX_SECONDS
    while not sees(change.product_id, change.number):
        if time.monotonic() > deadline:
            raise SetupError(f"the index did not take up {change.product_id} in time")
        time.sleep(PROBE_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        0, or 1 if a request failed or index and database differ at the end.
    """
    parser = tool_parser("live_changes", __doc__, "live_changes")
    add = parser.add_argument
    add("--rates", type=float, nargs="+", default=[0, 50, 200], help="changes a second; the first "
        "is what the others are compared with (default: %(default)s)")  # fmt: skip
    add("--rounds", type=int, default=3, help="turns of each rate (default: %(default)s)")
    add("--seconds", type=float, default=8, help="length of a turn (default: %(default)s)")
    add("--clients", type=int, default=8, help="requests under way (default: %(default)s)")
    add("--products", type=int, default=2000, help="products that change, beside the catalogue "
        "(default: %(default)s)")  # fmt: skip
    add_photo_side(parser)
    add_catalog(parser, "products to match")
    options = parser.parse_args(arguments)
    return exit_status("live_changes", lambda: run(options, Console(width=TABLE_WIDTH)))


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, print and write the report; returns 1 if index and database differ, else 0.

    Raises:
        LoadError: a request failed.
        ProductMatchError: something that the benchmark needs is missing.
        ClientError: the server answered with an error while it was filled.
    """
    report = measured(options, console)
    write_report(options.report, report)
    print(f"written to {options.report}")
    return int(bool(report["index_differs_at_the_end"]))


def measured(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure and print; returns the report.

    Raises:
        LoadError: see ``run``.
        ProductMatchError: see ``run``.
        ClientError: see ``run``.
    """
    photos = read_photos(options.catalog / "queries", options.photo_side)
    bundle = Bundle.read(options.repository)
    made_up = SyntheticCatalogue(real_catalogue(options.repository, options.catalog))
    products = next(made_up.products(VECTORS * VIEWS_PER_PRODUCT, VECTORS))
    images = np.concatenate([item.image_vectors[:1] for item in products])
    texts = np.concatenate([item.text_vectors for item in products])
    with contextlib.ExitStack() as running:
        generator = running.enter_context(own_process())
        stack = running.enter_context(local_stack(options.repository, options.catalog))
        console.print(f"writing {options.products} products that will change")
        place = (stack.mongodb_uri, stack.grpc_url, bundle)
        writer = running.enter_context(Worker(Writer, *place, images, texts, options.products))
        matches = product_match(PRODUCT_MATCH.name, stack, photos, generator)
        contestants = [UnderChanges(matches, rate, writer) for rate in options.rates]
        rounds = alternating_rounds(
            contestants, options.clients, options.rounds, options.seconds, WARM_UP_SECONDS
        )
        check = ask_for_check(stack.http_url, repair=False)
    first = contestants[0].name
    rows = [
        _row(item, summary_from_rounds(rounds[item.name], {first: rounds[first]}), first)
        for item in contestants
    ]
    console.print(_table(rows))
    console.print(f"index and database differ at the end in: {check['differences'] or 'nothing'}")
    return {
        "machine": machine(),
        "clients": options.clients,
        "rounds": options.rounds,
        "seconds_a_round": options.seconds,
        "products": check["products_in_database"],
        "rates": rows,
        "index_differs_at_the_end": check["differences"],
    }


def _row(contestant: UnderChanges, summary: Summary, first: str) -> dict[str, Any]:
    cpu = summary.cpu_ms_per_request
    made: Counter[str] = sum((item.made for item in contestant.results), Counter())
    seconds = sum(item.seconds for item in contestant.results)
    visible: dict[str, list[float]] = {}
    for result in contestant.results:
        for kind, values in result.visible_ms.items():
            visible.setdefault(kind, []).extend(values)
    return {
        "changes_per_s_wanted": contestant.rate,
        "changes_per_s": round(made.total() / seconds, 1) if seconds else 0.0,
        "made": dict(made),
        "requests_per_s": round(summary.throughput, 1),
        "throughput_ratio": round(summary.ratio_to[first], 3),
        "p50_ms": round(summary.p50_ms, 1),
        "p95_ms": round(summary.p95_ms, 1),
        "p99_ms": round(summary.p99_ms, 1),
        "serving_cpu_ms_per_request": round(cpu[SERVING], 2),
        # Of one core, while the matches ran.
        "cores": {
            name: round(cpu[name] * summary.throughput / 1e3, 3)
            for name in (SERVING, DATABASE, CHANGES)
        },
        "visible_after_ms": _percentiles(
            [value for values in visible.values() for value in values]
        ),
        "visible_after_ms_by_kind": {
            kind: _percentiles(values) for kind, values in sorted(visible.items())
        },
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    p50, p99 = np.percentile(values, [50, 99])
    return {
        "count": len(values),
        "p50": round(float(p50), 1),
        "p99": round(float(p99), 1),
        "max": round(max(values), 1),
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    matches = ("requests/s", "ratio", "p50 ms", "p99 ms")
    cores = ("CPUs: server", "database", "writer")
    for column in ("changes/s", *matches, *cores, "seen: p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        visible = row["visible_after_ms"]
        table.add_row(
            f"{row['changes_per_s']:.0f}",
            f"{row['requests_per_s']:.1f}",
            f"{row['throughput_ratio']:.2f}",
            f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}",
            *(f"{row['cores'][name]:.2f}" for name in (SERVING, DATABASE, CHANGES)),
            *(f"{visible[name]:.0f}" if visible else "" for name in ("p50", "p99", "max")),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
