"""``python -m loadtest.catalogue_scale``: what a search costs as the catalogue grows.

The product index in this process, filled with made-up vectors that lie around those of the
sample catalogue; no server, so that nothing but the search is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bls_models.bundle import Bundle
from bls_models.errors import ProductMatchError
from bls_models.index import IndexedProduct, IndexQuery, ProductIndex
from bls_models.settings import Settings
from bls_models.vectors import FloatArray
from loadtest.report import machine
from loadtest.synthetic_catalogue import (
    VIEWS_PER_PRODUCT,
    queries_near,
    real_vectors,
    synthetic_products,
)

PROJECT = Path(__file__).resolve().parent.parent
SIZES = (1_000, 10_000, 100_000)
BLOCK = 2_000
TOP_K = 10
FILTER = b'{"category": "c7"}'
BATCHES = (1, 8)
# A kind of query is measured until both are reached, or the longest time.
MIN_SEARCHES, MIN_SECONDS, MAX_SECONDS = 10, 0.5, 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report.

    Returns:
        0, or 1 if something that is needed is missing.
    """
    parser = argparse.ArgumentParser(prog="python -m loadtest.catalogue_scale", description=__doc__)
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=SIZES, metavar="VIEWS", help="catalogue sizes in "
        "views; a million takes 8 GB of memory (default: %(default)s)")  # fmt: skip
    add("--catalog", type=Path, default=PROJECT / "seed" / "sample", help="real products")
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--report", type=Path, default=PROJECT / "reports" / "catalogue_scale.json",
        help="JSON to write")  # fmt: skip
    options = parser.parse_args(arguments)
    console = Console()
    try:
        images, texts = real_vectors(options.repository, options.catalog)
        rows = []
        for views in options.sizes:
            console.print(f"{views:,} views: filling the index")
            rows.append(measured_size(views, images, texts, options.repository))
    except ProductMatchError as error:
        sys.stderr.write(f"catalogue_scale: {error}\n")
        return 1
    console.print(_table(rows))
    options.report.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "sizes": rows}
    options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {options.report}")
    return 0


def measured_size(
    views: int, images: FloatArray, texts: FloatArray, repository: Path
) -> dict[str, Any]:
    """Fill an index and search it.

    Args:
        views: views of the catalogue.
        images: real image vectors (n, image_dim).
        texts: real text vectors (m, text_dim).
        repository: the built model repository, for the bundle's sizes.

    Returns:
        ``views``, ``products``, ``type`` (the index type), ``build_seconds``,
        ``bytes_per_view``, and ``ms_per_query`` by kind of query and batch size.
    """
    bundle = Bundle.read(repository)
    index = ProductIndex(bundle.image_dim, bundle.text_dim, Settings().max_filter_bytes)
    process = psutil.Process()
    memory, build_seconds = process.memory_info().rss, 0.0
    some: list[IndexedProduct] = []
    for block in synthetic_products(views, images, texts, BLOCK):
        start = time.perf_counter()
        index.upsert(block)
        build_seconds += time.perf_counter() - start
        some += block[:: max(1, views // VIEWS_PER_PRODUCT // 64)][: 64 - len(some)]
    memory = process.memory_info().rss - memory
    vectors = queries_near(some)
    info = index.info()
    return {
        "views": info["image_vectors"],
        "products": info["products"],
        "type": info["type"],
        "build_seconds": round(build_seconds, 2),
        "bytes_per_view": round(memory / info["image_vectors"]),
        "ms_per_query": {
            kind: {
                f"batch_{batch}": round(_milliseconds(index, queries, batch), 3)
                for batch in BATCHES
            }
            for kind, queries in {
                "image": [_query(image, text[:0]) for image, text in vectors],
                "text": [_query(image[:0], text) for image, text in vectors],
                "both": [_query(image, text) for image, text in vectors],
                "image, filter keeps 1%": [
                    _query(image, text[:0], FILTER) for image, text in vectors
                ],
            }.items()
        },
    }


def _query(image: FloatArray, text: FloatArray, filter_json: bytes = b"") -> IndexQuery:
    return IndexQuery(
        image,
        np.ones(len(image), np.float32),
        text,
        np.ones(len(text), np.float32),
        TOP_K,
        filter=filter_json,
    )


def _milliseconds(index: ProductIndex, queries: Sequence[IndexQuery], batch: int) -> float:
    """Median milliseconds a query."""
    times: list[float] = []
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < MAX_SECONDS:
        if len(times) >= MIN_SEARCHES and spent >= MIN_SECONDS:
            break
        at = len(times) * batch % len(queries)
        chosen = [queries[(at + offset) % len(queries)] for offset in range(batch)]
        start = time.perf_counter()
        index.search(chosen)
        times.append((time.perf_counter() - start) * 1e3 / batch)
    return statistics.median(times)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a size and kind of query."""
    table = Table(box=None, pad_edge=False)
    for column in ("views", "index", "build s", "bytes/view"):
        table.add_column(column, justify="right")
    table.add_column("query")
    for batch in BATCHES:
        table.add_column(f"ms, batch {batch}", justify="right")
    for row in rows:
        size: tuple[str, ...] = (
            f"{row['views']:,}",
            row["type"],
            f"{row['build_seconds']:.1f}",
            f"{row['bytes_per_view']:,}",
        )
        for kind, milliseconds in row["ms_per_query"].items():
            table.add_row(*size, kind, *(f"{milliseconds[f'batch_{n}']:.2f}" for n in BATCHES))
            size = ("",) * len(size)
    return table


if __name__ == "__main__":
    sys.exit(main())
