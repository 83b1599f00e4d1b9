"""``python -m loadtest.full_reads``: how long reads of a whole catalogue take, and what memory.

Products with short vectors are put into a database of their own, without its indexes, as after a
restore. An index is loaded from it, by the follower of `product_index`, reads everything again, as
after a lost change stream, and is compared with the database product by product. Each step has the
time limits that a server has by default.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymongo
from rich.console import Console

from bls_models.bundle import Bundle
from bls_models.database.connection import connect
from bls_models.database.store import PAGE_SECONDS, Document, Store
from bls_models.errors import ServiceError
from bls_models.index.product_index import ProductIndex
from bls_models.metric.catalogue import NONE
from bls_models.replication.follower import IndexFollower
from bls_models.replication.snapshot_schedule import SnapshotSchedule
from bls_models.replication.sync_check import SyncCheck
from bls_models.settings import Settings
from bls_models.vectors import binary_from_vector
from loadtest.options import exit_status, tool_parser
from loadtest.processes import ProcessTrees, peak_memory
from local_server.database import local_database
from local_server.temporary_stack import started
from reporting.reports import machine, write_report

DIM = 16
INSERTED_AT_ONCE = 2000
LOAD_SECONDS = 4 * 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = tool_parser("full_reads", __doc__, "full_reads")
    parser.add_argument("--products", type=int, default=1_000_000, metavar="N",
        help="products, each with a view and a text (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    return exit_status("full_reads", lambda: run(options, Console()))


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, print and write the report; returns 0 if index and database are equal, else 1.

    Raises:
        ProductMatchError: the database does not start, or the index is not loaded in hours.
    """
    bundle = replace(Bundle.read(options.repository), image_dim=DIM, text_dim=DIM)
    steps: dict[str, dict[str, float]] = {}
    with contextlib.ExitStack() as parts:
        # Before the database is this process's child.
        own = ProcessTrees({"index": os.getpid()})
        state = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="product-match-")))
        uri, database_pid = started(lambda: parts.enter_context(local_database(state, 0)))
        others = ProcessTrees({"database": database_pid})

        @contextlib.contextmanager
        def step(name: str) -> Iterator[None]:
            began = time.perf_counter()
            with peak_memory(own) as index_peak, peak_memory(others) as database_peak:
                yield
            seconds = round(time.perf_counter() - began, 1)
            steps[name] = {"seconds": seconds} | {
                f"{part}_mb": round(value) for part, value in (index_peak | database_peak).items()
            }
            console.print(f"{name}: {steps[name]}", highlight=False)

        settings = Settings(mongodb_uri=uri, database="full_reads")
        database = connect(settings)
        parts.callback(database.client.close)
        store = Store(database, settings.log_days)
        with step("insert"):
            _insert(store, options.products, bundle.fingerprint)
        index = ProductIndex(DIM, DIM, settings.max_filter_bytes)
        parts.callback(index.close)
        with step("index build"):
            store.ensure_indexes()
        with _following(index, store, bundle, settings) as (follower, load):
            with step("load"):
                load()
            check = SyncCheck(index, store, follower)
            parts.callback(check.close)
            with step("sync check"):
                report = check.run(repair=False)
        with _following(index, store, bundle, settings) as (_, load), step("second load"):
            load()
    differs = sum(report["differences"].values())
    whole = not differs and report["products_in_index"] == options.products
    write_report(
        options.report,
        {"machine": machine(), "products": options.products, "steps": steps, "differ": differs},
    )
    console.print(f"{report['products_in_index']} products in the index, {differs} differ")
    return int(not whole)


@contextlib.contextmanager
def _following(
    index: ProductIndex, store: Store, bundle: Bundle, settings: Settings
) -> Iterator[tuple[IndexFollower, Callable[[], None]]]:
    """A follower, and what starts it and waits until it has read everything."""
    snapshots = SnapshotSchedule(index, settings, bundle.fingerprint, NONE, store.identity)
    follower = IndexFollower(index, store, bundle, snapshots)

    def load() -> None:
        follower.start(LOAD_SECONDS)
        if not follower.loaded:
            raise ServiceError(f"the index is not loaded after {LOAD_SECONDS:.0f} s")

    try:
        yield follower, load
    finally:
        follower.stop()


def _insert(store: Store, products: int, fingerprint: str) -> None:
    rng = np.random.default_rng(1)
    for start in range(0, products, INSERTED_AT_ONCE):
        documents: list[Document] = []
        embeddings: list[Document] = []
        count = min(INSERTED_AT_ONCE, products - start)
        vectors = rng.normal(size=(count, 2, DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        for number in range(count):
            write_id = uuid.uuid4().hex
            # In no order, as a shop's ids.
            product_id = uuid.UUID(int=rng.integers(2**63)).hex[16:] + f"{start + number:08}"
            common = {"write_id": write_id, "fingerprint": fingerprint, "revision": 1}
            documents.append(
                common
                | {"_id": product_id, "name": f"Product {start + number}", "category": "thing"}
                | {"price": 9.5, "attributes": {"size": number % 50}}
            )
            for kind, vector in zip(("image", "text"), vectors[number], strict=True):
                embeddings.append(
                    common
                    | {"_id": f"{write_id}:{kind}", "product_id": product_id, "kind": kind}
                    | {"vector": binary_from_vector(vector)}
                )
        # A database that writes its files may stand still for longer than a request may wait.
        with pymongo.timeout(PAGE_SECONDS):
            store.insert_embeddings(embeddings)
            store.products.insert_many(documents, ordered=False)


if __name__ == "__main__":
    sys.exit(main())
