"""``python -m builders caption-weight``: whether captions should join the query, and how much.

The bundle's captions of held-out photos join the query as a text, at several weights, and first
matches are counted, apart for products whose pictures the captioner was trained on. ``+`` are
queries that captions put right, ``-`` those that they put wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bls_models.errors import ProductMatchError
from builders.catalogue import SAMPLE_CATALOGUE, CatalogueProduct, read_catalogue
from builders.quality.caption_weight import CaptionedSearch, WeightReport
from builders.quality.sets import products_from_grocery
from reporting.reports import write_report

PROJECT = Path(__file__).resolve().parents[2]
WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.4)
CARD = Path(__file__).parent.with_name("demo_captioner") / "metrics.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m builders caption-weight", description=__doc__)
    add = parser.add_argument
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--dataset", type=Path, help="folder in the Grocery Store layout: train pictures are the "
        "catalogue, val pictures the queries")  # fmt: skip
    add("--weights", type=float, nargs="+", default=WEIGHTS, help="default: %(default)s")
    add("--report", type=Path, default=PROJECT / "reports" / "caption_weight.json",
        help="JSON to write")  # fmt: skip
    options = parser.parse_args(arguments)
    console = Console()
    try:
        reports = measured(options, console)
    except ProductMatchError as error:
        sys.stderr.write(f"caption-weight: {error}\n")
        return 1
    console.print(_table(reports))
    write_report(options.report, [asdict(report) for report in reports])
    console.print(f"written to {options.report}")
    return 0


def measured(options: argparse.Namespace, console: Console) -> list[WeightReport]:
    """The sample catalogue, and the data set if one is given."""

    def note(line: str) -> None:
        console.print(line, highlight=False)

    products = read_catalogue(SAMPLE_CATALOGUE)
    search = CaptionedSearch(options.repository, products, note)
    seen = set(json.loads(CARD.read_text(encoding="utf-8"))["training"]["sample_products"])
    parts: dict[str, list[CatalogueProduct]] = {"sample, new": []}
    parts["sample, seen"] = []
    for product in products:
        known = product.product["product_id"] in seen
        parts["sample, seen" if known else "sample, new"].append(product)
    reports = [search.measure(name, part, options.weights) for name, part in parts.items()]
    if options.dataset:
        groceries = products_from_grocery(options.dataset)
        search = CaptionedSearch(options.repository, groceries, note)
        name = f"{options.dataset.name}, new"
        reports.append(search.measure(name, groceries, options.weights))
    return reports


def _table(reports: Sequence[WeightReport]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("products", no_wrap=True)
    for column in ("queries", "captions\nused"):
        table.add_column(column, justify="right")
    for result in reports[0].results:
        table.add_column(f"top-1\nat {result.weight:g}", justify="right")
    for report in reports:
        table.add_row(
            report.name,
            str(report.queries),
            f"{report.used:.0%}",
            *(
                f"{result.top1:.1%}"
                + (f"\n+{result.gained} -{result.lost}" if result.weight else "")
                for result in report.results
            ),
        )
    return table
