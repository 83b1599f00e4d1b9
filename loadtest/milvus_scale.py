"""``python -m loadtest.milvus_scale``: a catalogue in Milvus, next to the index in memory.

A real Milvus and a database of its own, filled with made-up products by the process that follows
the database, as a server does it. The same queries go to both engines in turns of one run. Then
products change at a fixed rate, and searches tell how soon they see it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bls_models.bundle import Bundle
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.settings import Settings
from loadtest.catalogue_changes import Catalogue, PacedChanges
from loadtest.catalogue_scale import BLOCK, QUERIES, queries_by_kind, recall
from loadtest.measurements import LoadError
from loadtest.milvus_catalogue import MilvusCatalogue, milvus_catalogue
from loadtest.options import add_catalog, exit_status, tool_parser
from loadtest.shared_sight import SharedSight
from loadtest.synthetic_catalogue import (
    VIEWS_PER_PRODUCT,
    RealCatalogue,
    SyntheticCatalogue,
    real_catalogue,
)
from reporting.reports import machine, write_report

SIZES = (100_000,)
# Of ``queries_by_kind``.
KINDS = (
    "image",
    "text",
    "both",
    "3 images of a product",
    "8 images, 8 texts",
    "image, filter keeps 1%",
    "image, another category",
    "image, not its category",
    "image, from the 200th on",
    "image less another",
    "unlike an image",
)
IMAGES = 3
# Of a kind that takes long fewer queries are asked.
KIND_SECONDS = 40.0
BARS = {"unlike an image": 0.98}
BAR = 0.995
OFFSET = 200
CONSISTENCIES = ("Bounded", "Strong")
CHANGES_A_SECOND = 50.0
CHANGE_SECONDS = 60.0
CHANGING_PRODUCTS = 2000
ADDED_AT_ONCE = 200
# Changes that are waited for at a time; one search asks for all of them.
WAITING = 64
SEEN_BAR_MS = 1000.0
TABLE_WIDTH = 140


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        0, or 1 if something that is needed is missing, or Milvus or the database fails.
    """
    parser = tool_parser("milvus_scale", __doc__, "milvus_scale")
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=SIZES, metavar="VIEWS",
        help="catalogue sizes in views (default: %(default)s)")  # fmt: skip
    add("--queries", type=int, default=QUERIES, help="of each kind (default: %(default)s)")
    add("--change-seconds", type=float, default=CHANGE_SECONDS,
        help="how long products change, for each consistency (default: %(default)s)")  # fmt: skip
    add_catalog(parser, "real products")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    return exit_status("milvus_scale", lambda: run(options, console))


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, print and write the report.

    Raises:
        LoadError: a query was refused.
        ProductMatchError: something that is needed is missing or fails.
    """
    real = real_catalogue(options.repository, options.catalog)
    bundle = Bundle.read(options.repository)
    rows = []
    for views in options.sizes:
        with milvus_catalogue(bundle) as catalogue:
            row = measured_size(
                views, real, catalogue, options.queries, options.change_seconds, console
            )
        rows.append(row)
        console.print(_query_table(row))
        console.print(_change_table(row))
    write_report(options.report, {"machine": machine(), "sizes": rows})
    console.print(f"written to {options.report}")


def measured_size(
    views: int,
    real: RealCatalogue,
    catalogue: MilvusCatalogue,
    queries: int,
    change_seconds: float,
    console: Console,
) -> dict[str, Any]:
    """Fill both engines, search them, and change the products of one.

    Args:
        views: views of the catalogue.
        real: what the made-up products look like.
        catalogue: an empty one.
        queries: of each kind.
        change_seconds: how long products change, for each consistency.
        console: is told what is being done.

    Returns:
        ``views``, ``products``, ``seconds`` by step, ``memory`` and ``disk`` of Milvus in bytes, by
        moment and a view, ``queries`` by kind and ``changes`` by consistency.
    """
    bundle = catalogue.bundle
    made_up = SyntheticCatalogue(real)
    seconds: dict[str, float] = {}
    memory = {"empty": catalogue.memory_bytes()}
    disk = {"empty": catalogue.disk_bytes()}

    def step(name: str, began: float) -> None:
        seconds[name] = round(time.perf_counter() - began, 1)
        memory[name], disk[name] = catalogue.memory_bytes(), catalogue.disk_bytes()
        console.print(f"{views:,} views: {name} ({seconds[name]} s)", highlight=False)

    index = ProductIndex(bundle.image_dim, bundle.text_dim, Settings().max_filter_bytes)
    with contextlib.closing(index):
        began = time.perf_counter()
        some: list[IndexedProduct] = []
        stride = max(1, views // VIEWS_PER_PRODUCT // queries)
        for block in made_up.products(views, BLOCK):
            stored = catalogue.insert(block)
            index.upsert(stored)
            some += stored[::stride][: queries - len(some)]
        step("stored in the database", began)
        with catalogue.followed() as wait_loaded:
            began = time.perf_counter()
            wait_loaded()
            step("taken up by Milvus", began)
            began = time.perf_counter()
            catalogue.settle()
            step("come to rest", began)
            while not index.wait_for_lists(1.0):
                pass
            info = index.info()
            row: dict[str, Any] = {"views": info["image_vectors"], "products": info["products"]}
            asked = _queries(made_up, some)
            row["queries"] = {
                kind: _measured_kind(kind, asked[kind], index, catalogue) for kind in KINDS
            }
            row["changes"] = _measured_changes(catalogue, some, change_seconds)
    grown = {
        name: round((of["come to rest"] - of["empty"]) / info["image_vectors"])
        for name, of in (("memory", memory), ("disk", disk))
    }
    return row | {
        "seconds": seconds,
        "memory": memory | {"a view": grown["memory"]},
        "disk": disk | {"a view": grown["disk"]},
    }


def _queries(
    made_up: SyntheticCatalogue, some: Sequence[IndexedProduct]
) -> dict[str, list[IndexQuery]]:
    found = queries_by_kind(made_up.queries_near(some), some)
    images = found["image"]
    photos = made_up.queries_near([item for item in some for _ in range(IMAGES)])
    found["3 images of a product"] = [
        replace(
            query,
            image_vectors=np.concatenate([image for image, _ in photos[at : at + IMAGES]]),
            image_weights=np.ones(IMAGES, np.float32),
        )
        for query, at in zip(images, range(0, len(photos), IMAGES), strict=True)
    ]
    found["image, from the 200th on"] = [replace(query, offset=OFFSET) for query in images]
    found["image, not its category"] = [
        replace(query, filter=json.dumps({"category": {"$ne": item.fields["category"]}}).encode())
        for query, item in zip(images, some, strict=True)
    ]
    return found


def _measured_kind(
    kind: str, queries: Sequence[IndexQuery], index: ProductIndex, catalogue: MilvusCatalogue
) -> dict[str, Any]:
    """What queries of one kind find and take, one after the other, in turns of the engines."""
    times: dict[str, list[float]] = {"memory": [], "cold": [], "warm": []}
    read = []
    found: dict[int, list[IndexMatch]] = {}
    began = time.perf_counter()
    for query in queries:
        if time.perf_counter() - began > KIND_SECONDS:
            break
        vectors = catalogue.vectors()
        search = catalogue.search(vectors, "Bounded")
        for name in times:
            start = time.perf_counter()
            (answer,) = (index if name == "memory" else search).answers([query])
            times[name].append((time.perf_counter() - start) * 1e3)
            if answer.refusal is not None:
                raise LoadError(f"{kind}: {answer.refusal}")
            if name == "cold":
                read.append(vectors.products)
        found[id(query)] = answer.matches
    asked = queries[: len(read)]
    share = recall(lambda batch: [found[id(query)] for query in batch], index, asked)
    figures = {f"{name}_ms": _percentiles(values, 50, 95) for name, values in times.items()}
    ratio = figures["warm_ms"]["p50"] / figures["memory_ms"]["p50"]
    return {
        "asked": len(asked),
        "share_of_best_ten": round(share, 4),
        "bar": BARS.get(kind, BAR),
        **figures,
        "warm_of_memory": round(ratio, 1),
        "products_read": round(float(np.median(read))),
    }


def _measured_changes(
    catalogue: MilvusCatalogue, some: Sequence[IndexedProduct], seconds: float
) -> dict[str, Any]:
    images = np.concatenate([item.image_vectors[:1] for item in some])
    texts = np.concatenate([item.text_vectors for item in some])
    live = Catalogue(catalogue.store, catalogue.bundle.fingerprint, images, texts)
    for _ in range(0, CHANGING_PRODUCTS, ADDED_AT_ONCE):
        live.add(ADDED_AT_ONCE)
    found = {}
    for consistency in CONSISTENCIES:
        search = catalogue.search(catalogue.vectors(), consistency)
        with SharedSight(search, catalogue.bundle) as sight:
            # What was added before is seen first.
            sight.wait_until_seen(live.add(1)[0])
            changes = PacedChanges(live, CHANGES_A_SECOND, sight.sees, WAITING)
            try:
                time.sleep(seconds)
            finally:
                result = changes.close()
        visible = [value for values in result.visible_ms.values() for value in values]
        found[consistency] = {
            "changes_per_s": round(result.made.total() / result.seconds, 1),
            "seen_after_ms": _percentiles(visible, 50, 99, 100),
            "bar_p99_ms": SEEN_BAR_MS,
            "waited_for": len(visible),
            "search_ms": _percentiles(sight.search_ms, 50, 95),
        }
    return found


def _percentiles(values: Sequence[float], *which: int) -> dict[str, float]:
    return {
        f"p{number}": round(float(value), 1)
        for number, value in zip(which, np.percentile(values, which), strict=True)
    }


def _query_table(row: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("query", "best ten", "bar", "memory ms, p50", "p95", "Milvus, cold: p50", "p95",
                   "warm: p50", "p95", "of memory", "products read"):  # fmt: skip
        table.add_column(column, justify="left" if column == "query" else "right")
    for kind, found in row["queries"].items():
        times = [
            f"{found[f'{name}_ms'][key]:.1f}"
            for name in ("memory", "cold", "warm")
            for key in ("p50", "p95")
        ]
        table.add_row(
            kind,
            f"{found['share_of_best_ten']:.4f}",
            f"{found['bar']}",
            *times,
            f"{found['warm_of_memory']}",
            f"{found['products_read']}",
        )
    return table


def _change_table(row: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("consistency", "changes/s", "seen: p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if column == "consistency" else "right")
    for consistency, found in row["changes"].items():
        seen = (f"{value:.0f}" for value in found["seen_after_ms"].values())
        table.add_row(consistency, f"{found['changes_per_s']}", *seen)
    table.add_section()
    table.add_row(*(f"{name} a view: {row[name]['a view']:,} bytes" for name in ("memory", "disk")))
    return table


if __name__ == "__main__":
    sys.exit(main())
