"""``python -m loadtest.ingest_bench``: what importing a catalogue costs beside the encoding.

A catalogue of made-up rows with real pictures is imported with the importer of ``make import``.
What Triton's processes spend is compared with decoding and encoding the same rows alone, in one
plain process with the same graphs, in turns of the same run; the database's and the importer's own
CPU time is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from bls_models.bundle import Bundle
from bls_models.cpus import cpu_count
from bls_models.engines.cpu import CpuEngine, CpuEngines
from bls_models.engines.encoders import Encoders
from bls_models.engines.precisions import graph_on_cpu
from bls_models.errors import SetupError
from bls_models.images.decoding import ImageLimits, decode_image
from bls_models.images.preprocessing import prepare_pixels
from bls_models.product import embedding_text
from bls_models.settings import Settings
from bls_models.specs import IMAGE_ENCODER, PRODUCT_INGEST, TEXT_ENCODER
from loadtest.measurements import LOAD_GENERATOR
from loadtest.options import exit_status, tool_parser
from loadtest.processes import ProcessTrees, peak_memory
from local_server.options import PROJECT
from local_server.temporary_stack import DATABASE, SERVING, local_stack
from product_match_client import AsyncProductMatchClient
from reporting.reports import machine, write_report
from seed.importer import import_catalog
from seed.records import CatalogRow
from seed.rows import read_products

QUALITIES = range(80, 96)
ALONE = "alone"
# What importing may cost in Triton's processes, as a multiple of decoding and encoding alone.
GOAL = 1.4


@dataclass
class Turn:
    """What one part of the rows cost.

    Attributes:
        rows: how many.
        seconds: from the first to the last.
        cpu_ms: user and system time, milliseconds, by who used it.
        memory_mb: the largest memory, MB, by whose it is.
    """

    rows: int
    seconds: float
    cpu_ms: Mapping[str, float]
    memory_mb: Mapping[str, float] = field(default_factory=dict)


def write_catalogue(folder: Path, sample: Path, rows: int, side: int, pictures: int) -> Path:
    """Make a catalogue whose rows have the words and pictures of a small one.

    Every picture is a JPEG file of its own: sizes and qualities differ, and no two are the same.

    Args:
        folder: where to.
        sample: the small catalogue.
        rows: how many products.
        side: pixels each way, of the largest.
        pictures: how many of a product.

    Returns:
        Its JSONL file.
    """
    originals = list(read_products(sample))
    (folder / "images").mkdir()

    def write(number: int) -> str:
        original = originals[number % len(originals)]
        names = []
        for place in range(pictures):
            path = original.images[place % len(original.images)]
            changed = side - (number // len(originals)) % (side // 4)
            with Image.open(path) as image:
                square = image.convert("RGB").resize((changed, changed))
            stream = io.BytesIO()
            quality = QUALITIES[(number + place) % len(QUALITIES)]
            square.save(stream, "JPEG", quality=quality, comment=f"{number} {place}")
            name = f"images/{number:07}-{place}.jpg"
            (folder / name).write_bytes(stream.getvalue())
            names.append(name)
        product = original.product | {
            "product_id": f"p{number:07}",
            "name": f"{original.product['name']} {number}",
            "images": names,
        }
        return json.dumps(product)

    path = folder / "products.jsonl"
    with ThreadPoolExecutor(cpu_count()) as pool, path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in pool.map(write, range(rows)))
    return path


class Alone:
    """Decoding and encoding in this process, as ``product_ingest`` has it done, and no more."""

    def __init__(self, repository: Path) -> None:
        bundle, settings = Bundle.read(repository), Settings.from_environment()
        engines = CpuEngines(
            [
                CpuEngine(
                    graph_on_cpu(repository, IMAGE_ENCODER.name), IMAGE_ENCODER, split_rows=True
                ),
                CpuEngine(graph_on_cpu(repository, TEXT_ENCODER.name), TEXT_ENCODER),
            ]
        )
        self._encoders = Encoders.from_repository(engines, bundle, repository)
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._preprocess = bundle.preprocess
        self._pool = ThreadPoolExecutor(cpu_count())

    def run(self, rows: Sequence[CatalogRow]) -> Turn:
        """Decode and encode rows, as many at once as ``product_ingest`` takes."""
        cpu, start = time.process_time(), time.perf_counter()
        for first in range(0, len(rows), PRODUCT_INGEST.max_batch_size):
            batch = rows[first : first + PRODUCT_INGEST.max_batch_size]
            paths = [path for row in batch for path in row.images]
            pixels = list(self._pool.map(self._pixels, paths))
            self._encoders.encode(
                pixels, [embedding_text({"attributes": {}} | row.product) for row in batch]
            )
        seconds = time.perf_counter() - start
        return Turn(len(rows), seconds, {ALONE: (time.process_time() - cpu) * 1e3})

    def _pixels(self, path: Path) -> Any:
        image = decode_image(path.read_bytes(), str(path), self._limits)
        return prepare_pixels(image, self._preprocess)


class Imported:
    """The importer against a served ``product_ingest``."""

    def __init__(
        self, url: str, trees: ProcessTrees, concurrency: int, report: Path | None
    ) -> None:
        self._url = url
        self._trees = trees
        self._concurrency = concurrency
        self._report = report

    def run(self, rows: Sequence[CatalogRow]) -> Turn:
        """Import rows.

        Raises:
            SetupError: not all of them are created.
        """
        before, cpu, start = self._trees.cpu_ms(), time.process_time(), time.perf_counter()
        with peak_memory(self._trees) as memory:
            counts = asyncio.run(self._import(rows))
        seconds = time.perf_counter() - start
        if counts != len(rows):
            raise SetupError(f"{counts} of {len(rows)} products were created")
        after = self._trees.cpu_ms()
        used = {part: after[part] - before[part] for part in after}
        used[LOAD_GENERATOR] = (time.process_time() - cpu) * 1e3
        return Turn(len(rows), seconds, used, memory)

    async def _import(self, rows: Sequence[CatalogRow]) -> int:
        async with AsyncProductMatchClient(self._url, 120.0) as client:
            counts = await import_catalog(
                rows, client, concurrency=self._concurrency, duplicates=self._report
            )
        return counts.statuses["created"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 1 if it could not be run or a product did not get in."""
    options = parse_options(arguments)
    return exit_status("ingest-bench", lambda: run(options, Console()))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser("ingest_bench", __doc__, "ingest")
    add = parser.add_argument
    add("--rows", type=int, default=3000, help="products of each variant (default: %(default)s)")
    add("--rounds", type=int, default=3, help="turns (default: %(default)s)")
    add("--pictures", type=int, default=1, help="of each product (default: %(default)s)")
    add("--side", type=int, default=1000, help="pixels of the largest pictures (default: "
        "%(default)s)")  # fmt: skip
    add("--concurrency", type=int, default=64, help="requests under way at once (default: "
        "%(default)s)")  # fmt: skip
    add("--sample", type=Path, default=PROJECT / "seed" / "sample", help="where words and "
        "pictures come from")  # fmt: skip
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, print and write the report.

    Raises:
        ProductMatchError: something that the benchmark needs is missing.
        ClientError: the server refused a request.
    """
    with tempfile.TemporaryDirectory(prefix="product-match-") as folder:
        report = measured(options, Path(folder), console)
    write_report(options.report, report)


def measured(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Measure and print, with the rows in a folder; returns the report.

    Raises:
        ProductMatchError: see ``run``.
        ClientError: see ``run``.
    """
    variants = ("never", "report")
    console.print(f"making {len(variants) * options.rows} rows; starting the server")
    path = write_catalogue(
        folder, options.sample, len(variants) * options.rows, options.side, options.pictures
    )
    rows = list(read_products(path))
    sizes = [item.stat().st_size for row in rows[:200] for item in row.images]
    alone = Alone(options.repository)
    alone.run(rows[:64])
    turns: dict[str, list[Turn]] = {ALONE: [], **{name: [] for name in variants}}
    with local_stack(options.repository, options.sample) as stack:
        trees = ProcessTrees(stack.roots)
        reports = {"never": None, "report": folder / "duplicates.jsonl"}
        sides = {
            name: Imported(stack.http_url, trees, options.concurrency, reports[name])
            for name in variants
        }
        parts = _parts(rows, len(variants) * options.rounds)
        for _ in range(options.rounds):
            for name in variants:
                part = next(parts)
                console.print(f"{len(part)} rows, duplicates={name}")
                turns[ALONE].append(alone.run(part))
                turns[name].append(sides[name].run(part))
    report = {
        "machine": machine(),
        "rows": options.rows,
        "pictures": options.pictures,
        "mean_kb": round(statistics.fmean(sizes) / 1e3, 1),
        "concurrency": options.concurrency,
        "goal": GOAL,
        **{
            f"duplicates_{name}": summary(turns[name], turns[ALONE][place :: len(variants)])
            for place, name in enumerate(variants)
        },
    }
    console.print(_table(report, variants))
    return report


def _parts(rows: Sequence[CatalogRow], count: int) -> Iterator[Sequence[CatalogRow]]:
    size = len(rows) // count
    return (rows[part * size : (part + 1) * size] for part in range(count))


def summary(imported: Sequence[Turn], alone: Sequence[Turn]) -> dict[str, Any]:
    """Milliseconds of CPU time a row, and the median ratio of the turns, by who used it."""

    def mean(turns: Sequence[Turn], part: str) -> float:
        return round(sum(t.cpu_ms[part] for t in turns) / sum(t.rows for t in turns), 2)

    return {
        "rows_a_second": round(sum(t.rows for t in imported) / sum(t.seconds for t in imported), 1),
        "cpu_ms_a_row": {
            ALONE: mean(alone, ALONE),
            **{part: mean(imported, part) for part in (SERVING, DATABASE, LOAD_GENERATOR)},
        },
        "ratio_to_alone": round(
            statistics.median(
                mine.cpu_ms[SERVING] / mine.rows / (other.cpu_ms[ALONE] / other.rows)
                for mine, other in zip(imported, alone, strict=True)
            ),
            3,
        ),
        "peak_memory_mb": {
            part: round(max(t.memory_mb[part] for t in imported)) for part in (SERVING, DATABASE)
        },
        "peak_memory_mb_by_turn": [round(t.memory_mb[SERVING]) for t in imported],
    }


def _table(report: Mapping[str, Any], variants: Sequence[str]) -> Table:
    table = Table(title="\nCPU milliseconds a row", title_justify="left", box=None)
    for column in (
        "duplicates",
        ALONE,
        SERVING,
        "ratio",
        DATABASE,
        "importer",
        "rows/s",
        "peak MB",
    ):
        table.add_column(column, justify="left" if column == "duplicates" else "right")
    for name in variants:
        item = report[f"duplicates_{name}"]
        cpu = item["cpu_ms_a_row"]
        table.add_row(
            name,
            f"{cpu[ALONE]:.2f}",
            f"{cpu[SERVING]:.2f}",
            f"{item['ratio_to_alone']:.2f}",
            f"{cpu[DATABASE]:.2f}",
            f"{cpu[LOAD_GENERATOR]:.2f}",
            f"{item['rows_a_second']:.1f}",
            f"{item['peak_memory_mb'][SERVING]}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
