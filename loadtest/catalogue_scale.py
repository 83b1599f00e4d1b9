"""``python -m loadtest.catalogue_scale``: what a search costs as the catalogue grows.

The product index in this process, filled with made-up vectors that lie around those of the
sample catalogue; no server, so that nothing but the search is measured. Each size is measured with
raw image vectors, and with those of a metric that was fitted to the real products.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bls_models.background import repeated
from bls_models.errors import SetupError
from bls_models.index.engine import IndexedProduct
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.metric.fitting import Scatter, fit
from bls_models.metric.metric import Metric
from bls_models.product import json_bytes
from bls_models.settings import Settings
from bls_models.vectors import FloatArray
from loadtest.options import add_catalog, exit_status, tool_parser
from loadtest.search_stalls import hostile_filter, stalls
from loadtest.synthetic_catalogue import (
    VIEWS_PER_PRODUCT,
    RealCatalogue,
    SyntheticCatalogue,
    real_catalogue,
)
from reporting.reports import machine, write_report

SIZES = (1_000, 10_000, 100_000)
BLOCK = 2_000
TOP_K = 10
FILTER = b'{"attributes.section": 7}'
BATCHES = (1, 8)
QUERIES = 96
RECALL_BATCH = 32
RAW, METRIC = "raw", "metric"
# Scores nearer than this are equal but for rounding.
EQUAL = 1e-6
# A kind of query is measured until both are reached, or the longest time.
MIN_SEARCHES, MIN_SECONDS, MAX_SECONDS = 10, 0.5, 20.0

# The matches of each query.
Search = Callable[[Sequence[IndexQuery]], Sequence[Sequence[IndexMatch]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        0, or 1 if something that is needed is missing.
    """
    parser = tool_parser("catalogue_scale", __doc__, "catalogue_scale")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="VIEWS",
        help="catalogue sizes in views; a million takes 9 GB and some minutes (default: "
        "%(default)s)")  # fmt: skip
    parser.add_argument("--vectors", choices=(RAW, METRIC), nargs="+", default=(RAW, METRIC),
        help="what image vectors the index holds (default: both)")  # fmt: skip
    add_catalog(parser, "real products")
    options = parser.parse_args(arguments)
    # What the index tells of its progress.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # Wide enough for the table where the output goes to a file.
    console = Console(width=None if sys.stdout.isatty() else 140)
    return exit_status("catalogue_scale", lambda: run(options, console))


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, print and write the report.

    Raises:
        ProductMatchError: something that is needed is missing.
    """
    real = real_catalogue(options.repository, options.catalog)
    metrics = {name: fitted_metric(real) if name == METRIC else None for name in options.vectors}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in metrics}
    for views in options.sizes:
        for name, metric in metrics.items():
            console.print(f"{views:,} views, {name}: filling the index")
            rows[name].append(measured_size(views, real, metric=metric))
    for name, measured in rows.items():
        console.print(f"\nimage vectors: {name}")
        console.print(_table(measured))
        console.print(_stall_table(measured))
    report = {"machine": machine(), "sizes": rows.get(RAW, []), METRIC: rows.get(METRIC, [])}
    write_report(options.report, report)
    console.print(f"written to {options.report}")


def fitted_metric(real: RealCatalogue) -> Metric:
    """The metric of a catalogue.

    Raises:
        SetupError: it gets none.
    """
    views = [real.images[real.owners == owner] for owner in range(len(real.texts))]
    scatter = Scatter(real.images.shape[1])
    scatter.add(views)
    found = fit(scatter, views, METRIC)
    if found.metric is None:
        raise SetupError(f"the catalogue has no metric ({found.reason}); try --vectors {RAW}")
    return found.metric


def measured_size(
    views: int, real: RealCatalogue, flat_rows: int | None = None, metric: Metric | None = None
) -> dict[str, Any]:
    """Fill an index and search it.

    Args:
        views: views of the catalogue.
        real: what the made-up products look like.
        flat_rows: vectors up to which all are scored; None: as the settings have it.
        metric: what image vectors go through; None: they stay as they are.

    Returns:
        ``views``, ``products``, ``type`` (the index type), ``fill_seconds``, ``lists_seconds``
        (after filling, in the background), ``bytes_per_view`` and ``peak_bytes_per_view``, and by
        kind of query ``ms_per_query``, the same without lists ``flat_ms_per_query`` (both by batch
        size), and ``recall_at_10``; ``beside``: see ``loadtest.search_stalls.stalls``.
    """
    options = IndexOptions() if flat_rows is None else IndexOptions(flat_rows=flat_rows)
    image_dim = real.images.shape[1] if metric is None else metric.dim
    index = ProductIndex(image_dim, real.texts.shape[1], Settings().max_filter_bytes, options)
    catalogue = SyntheticCatalogue(real)
    some: list[IndexedProduct] = []
    fill_seconds = 0.0
    stride = max(1, views // VIEWS_PER_PRODUCT // QUERIES)
    memory = MemoryWatch()
    with repeated("samples", memory.sample, 0.1):
        for block in catalogue.products(views, BLOCK):
            held = block if metric is None else _projected(block, metric)
            start = time.perf_counter()
            index.upsert(held)
            fill_seconds += time.perf_counter() - start
            some += [_copied(item) for item in block[::stride][: QUERIES - len(some)]]
        del block, held
        start = time.perf_counter()
        while not index.wait_for_lists(1.0):
            pass
        lists_seconds = time.perf_counter() - start
        gc.collect()
        grown = memory.grown()
    info = index.info()
    row: dict[str, Any] = {
        "views": info["image_vectors"],
        "products": info["products"],
        "type": info["type"],
        "fill_seconds": round(fill_seconds, 2),
        "lists_seconds": round(lists_seconds, 2),
        "bytes_per_view": round(grown / info["image_vectors"]),
        "peak_bytes_per_view": round(memory.peak / info["image_vectors"]),
        "ms_per_query": {},
        "flat_ms_per_query": {},
        "recall_at_10": {},
    }
    vectors = catalogue.queries_near(some)
    if metric is not None:
        vectors = [(metric.queries(photo), words) for photo, words in vectors]
        some = _projected(some, metric)
    for kind, queries in queries_by_kind(vectors, some).items():
        for key, exact in (("ms_per_query", False), ("flat_ms_per_query", True)):
            row[key][kind] = {
                f"batch_{batch}": round(_milliseconds(index, queries, batch, exact), 3)
                for batch in BATCHES
            }
        row["recall_at_10"][kind] = round(recall(index.search, index, queries), 4)
    plain = [_query(image, text[:0]) for image, text in vectors]
    row["beside"] = stalls(index, plain, some)
    index.close()
    return row


def queries_by_kind(
    vectors: Sequence[tuple[FloatArray, FloatArray]], products: Sequence[IndexedProduct]
) -> dict[str, list[IndexQuery]]:
    """The queries to measure.

    Args:
        vectors: a photo's and a text's vector for each product.
        products: the products.
    """
    vectors = list(vectors)
    kinds = {"image": (1, 0), "text": (0, 1), "both": (1, 1)}
    found = {
        f"{kind}{name}": [
            _query(image[:images], text[:texts], filter_json) for image, text in vectors
        ]
        for name, filter_json in (("", b""), (", filter keeps 1%", FILTER))
        for kind, (images, texts) in kinds.items()
    }
    # One photo less another, nothing but a photo to be unlike, and as many as a request may have.
    found["image less another"] = [
        _weighed(np.concatenate([image, other]), text[:0], [1.0, -1.0])
        for (image, text), (other, _) in zip(vectors, vectors[1:] + vectors[:1], strict=True)
    ]
    found["unlike an image"] = [_weighed(image, text[:0], [-1.0]) for image, text in vectors]
    found["8 images, 8 texts"] = [
        _query(
            np.concatenate([vectors[(at + step) % len(vectors)][0] for step in range(8)]),
            np.concatenate([vectors[(at + step) % len(vectors)][1] for step in range(8)]),
        )
        for at in range(len(vectors))
    ]
    hostile = json_bytes(hostile_filter(VIEWS_PER_PRODUCT * len(products)))
    found["image, 250 conditions"] = [_query(image, text[:0], hostile) for image, text in vectors]
    # Another category than the photo's: what it keeps lies far from the query.
    categories = [str(product.fields["category"]) for product in products]
    found["image, another category"] = [
        _query(image, text[:0], json.dumps({"category": other}).encode())
        for (image, text), other in zip(vectors, categories[1:] + categories[:1], strict=True)
    ]
    return found


def recall(search: Search, index: ProductIndex, queries: Sequence[IndexQuery]) -> float:
    """The share of the best ten by exact search that is found, over all queries.

    Any product counts that scores as those of the exact page do: of equal ones a search may take
    any.

    Args:
        search: what is to find them.
        index: the same products.
        queries: with ten matches each, the first ones or later ones.
    """
    found = expected = 0
    for at in range(0, len(queries), RECALL_BATCH):
        batch = queries[at : at + RECALL_BATCH]
        for got, best in zip(search(batch), index.search(batch, exact=True), strict=True):
            scores = [match.score for match in best]
            expected += len(best)
            if best:
                least, most = min(scores) - EQUAL, max(scores) + EQUAL
                found += sum(least <= match.score <= most for match in got)
    return found / max(1, expected)


class MemoryWatch:
    """How far this process's memory grows."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        # What was measured before must not be memory that this finds.
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self._begin = self._process.memory_info().rss
        self.peak = 0

    def grown(self) -> int:
        """Bytes more than at the start."""
        return int(self._process.memory_info().rss - self._begin)

    def sample(self) -> None:
        """Look at the memory now, for the peak."""
        self.peak = max(self.peak, self.grown())


def _projected(products: Sequence[IndexedProduct], metric: Metric) -> list[IndexedProduct]:
    """The products as an index under the metric holds them."""
    counts = np.cumsum([len(product.image_vectors) for product in products])
    rows = metric.rows(np.concatenate([product.image_vectors for product in products]))
    return [
        replace(product, image_vectors=part)
        for product, part in zip(products, np.split(rows, counts[:-1]), strict=True)
    ]


def _copied(product: IndexedProduct) -> IndexedProduct:
    """The product with vectors of its own, so that it does not keep those of its whole block."""
    return replace(
        product,
        image_vectors=product.image_vectors.copy(),
        text_vectors=product.text_vectors.copy(),
    )


def _query(image: FloatArray, text: FloatArray, filter_json: bytes = b"") -> IndexQuery:
    return IndexQuery(
        image,
        np.ones(len(image), np.float32),
        text,
        np.ones(len(text), np.float32),
        TOP_K,
        filter=filter_json,
    )


def _weighed(images: FloatArray, texts: FloatArray, weights: Sequence[float]) -> IndexQuery:
    return replace(_query(images, texts), image_weights=np.array(weights, np.float32))


def _milliseconds(
    index: ProductIndex, queries: Sequence[IndexQuery], batch: int, exact: bool
) -> float:
    """Median milliseconds a query."""
    times: list[float] = []
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < MAX_SECONDS:
        if len(times) >= MIN_SEARCHES and spent >= MIN_SECONDS:
            break
        at = len(times) * batch % len(queries)
        chosen = [queries[(at + offset) % len(queries)] for offset in range(batch)]
        start = time.perf_counter()
        index.search(chosen, exact)
        times.append((time.perf_counter() - start) * 1e3 / batch)
    return statistics.median(times)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a size and kind of query."""
    table = Table(box=None, pad_edge=False)
    for column in ("views", "index", "fill s", "lists s", "bytes/view"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("query", no_wrap=True)
    for batch in BATCHES:
        table.add_column(f"ms, batch {batch}", justify="right")
    for batch in BATCHES:
        table.add_column(f"Flat, batch {batch}", justify="right")
    table.add_column("recall@10", justify="right")
    for row in rows:
        kinds = row["type"]
        size: tuple[str, ...] = (
            f"{row['views']:,}",
            kinds if isinstance(kinds, str) else " / ".join(kinds.values()),
            f"{row['fill_seconds']:.1f}",
            f"{row['lists_seconds']:.1f}",
            f"{row['bytes_per_view']:,}",
        )
        for kind in row["ms_per_query"]:
            times = [
                f"{row[key][kind][f'batch_{batch}']:.2f}"
                for key in ("ms_per_query", "flat_ms_per_query")
                for batch in BATCHES
            ]
            table.add_row(*size, kind, *times, f"{row['recall_at_10'][kind]:.4f}")
            size = ("",) * len(size)
    return table


def _stall_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a size and what runs beside."""
    table = Table(box=None, pad_edge=False)
    for column in ("views", "p50 ms", "p99 ms", "times/s"):
        table.add_column(column, justify="right")
    table.add_column("a search beside")
    for row in rows:
        for name, found in row["beside"].items():
            figures = (f"{found[key]:.2f}" for key in ("p50_ms", "p99_ms", "times_a_second"))
            table.add_row(f"{row['views']:,}", *figures, name)
    return table


if __name__ == "__main__":
    sys.exit(main())
