"""``python -m seed import``: a catalogue into the server."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from product_match_client import AsyncProductMatchClient, ClientError
from product_match_client.client import DEFAULT_URL
from product_match_client.credentials import headers_from_environment
from product_match_client.links import default_cache
from seed.dry_run import check_catalog
from seed.importer import DEFAULT_CONCURRENCY, ImportCounts, import_catalog
from seed.options import ReadOptions
from seed.output import write_line
from seed.pictures.links import LinkedPictures
from seed.products.columns import FIELD_NAMES, attribute_key
from seed.progress import duration_text, show_progress
from seed.records import CatalogRow, RowError
from seed.rows import Catalog, open_catalog

TIMEOUT_S = 120.0  # many requests under way at once wait for each other in the server
DEFAULT_ERRORS = Path("import-errors.jsonl")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand; what runs is in ``run``."""
    parser = commands.add_parser(
        "import",
        help="send a catalogue to the server",
        description="Send a catalogue to the server. To resume, run it again: products that "
        "have not changed are recognised and cost little.",
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("path", type=Path, help="a file of CSV, JSON, XML, Excel or Parquet, also in gzip or "
        "zip, or a folder with one")  # fmt: skip
    add("--dry-run", action="store_true", help="show what would be imported and what is missing; "
        "needs no server and fetches no pictures")  # fmt: skip
    add("--url", default=os.environ.get("PRODUCT_MATCH_URL") or DEFAULT_URL, help="the server "
        f"(default: $PRODUCT_MATCH_URL, else {DEFAULT_URL})")  # fmt: skip
    add("--concurrency", type=positive_int, default=DEFAULT_CONCURRENCY, metavar="N",
        help="requests under way at once (default: %(default)s)")  # fmt: skip
    add("--limit", type=positive_int, metavar="N", help="send only the first N rows")
    add("--errors", type=Path, default=DEFAULT_ERRORS, metavar="FILE", help="rows that failed, as "
        "JSONL; made anew each time (default: %(default)s)")  # fmt: skip
    add("--duplicates", type=Path, metavar="FILE", help="let the server look for products with "
        "the same or nearly the same pictures, and list them as JSONL (default: it does "
        "not)")  # fmt: skip
    _add_reading(parser.add_argument_group("what the catalogue does not say itself"))
    _add_pictures(parser.add_argument_group("pictures"))


def _add_reading(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--map", type=column_mapping, action="append", default=[], metavar="NAME=COLUMN",
        help="read a product field or an attribute from a column; @row stands for the row's "
        "number")  # fmt: skip
    add("--leave-out", action="append", default=[], metavar="COLUMN", help="do not read a column")
    add("--encoding", default="", help="of text that is not UTF-8, such as cp1252")
    add("--decimal-mark", choices=[".", ","], default="", help="what begins the decimals of a "
        "price; without it 1.299 and 1,299 are refused")  # fmt: skip
    add("--currency", type=str.upper, default="", metavar="CODE", help="of prices that name none, "
        "or a sign such as $ that several have")  # fmt: skip
    add("--category", default="", help="of products that have none")
    add("--sheet", default="", help="of an Excel workbook (default: the first that is not empty)")


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--pictures", type=Path, metavar="FOLDER", help="where they are (default: beside the "
        "catalogue, and there in folders such as images)")  # fmt: skip
    add("--picture-cache", type=Path, default=default_cache(), metavar="FOLDER", help="keeps those "
        "that links lead to (default: %(default)s)")  # fmt: skip
    add("--allow-private-links", action="store_true", help="also fetch from addresses within "
        "private networks and this machine")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the import.

    Returns:
        0 if every row was accepted, or with ``--dry-run`` would be sent; 1 if not.

    Raises:
        SetupError: the catalogue has no known layout.
        ClientError: the server's address is wrong or it is not ready.
    """
    catalog = open_catalog(arguments.path, _options(arguments))
    write_line(sys.stdout, f"reading {catalog.path}: {catalog.description}")
    if arguments.dry_run:
        return check_catalog(catalog, islice(catalog.rows(), arguments.limit), sys.stdout)
    start = time.monotonic()
    counts = asyncio.run(_import(arguments, catalog))
    elapsed_s = max(time.monotonic() - start, 1e-9)
    if counts.stopped_by is not None:
        sys.stderr.write(f"seed: stopped, run it again to go on: {counts.stopped_by}\n")
    _show_rows(catalog, counts)
    summary = (
        f"{counts.done} rows in {duration_text(elapsed_s)} "
        f"({counts.done / elapsed_s:.1f} rows/s): {counts}"
    )
    if counts.stopped_by is not None:
        total = min(catalog.count(), arguments.limit or sys.maxsize)
        summary += f", {total - counts.done} not tried"
    if counts.failed or counts.without_pictures:
        what = "failures" if counts.failed else "rows without pictures"
        summary += f"; the {what} are in {arguments.errors}"
    if counts.duplicates:
        summary += f"; the duplicates are in {arguments.duplicates}"
    write_line(sys.stdout, summary)
    return 1 if counts.failed else 0


def _show_rows(catalog: Catalog, counts: ImportCounts) -> None:
    """The first of the rows that failed and of those without pictures."""
    lines = [
        (failure.row, failure.product_id, failure.message) for failure in counts.first_failures
    ]
    lines += [
        (row.row, row.product["product_id"], "no picture names it, nor does it name one")
        for row in counts.first_without_pictures
    ]
    for number, product_id, message in lines:
        product = f" ({product_id})" if product_id else ""
        write_line(sys.stderr, f"seed: {catalog.path}, {catalog.unit} {number}{product}: {message}")


def _options(arguments: argparse.Namespace) -> ReadOptions:
    return ReadOptions(
        columns=dict(arguments.map),
        left_out=frozenset(arguments.leave_out),
        encoding=arguments.encoding,
        decimal_mark=arguments.decimal_mark,
        currency=arguments.currency,
        category=arguments.category,
        sheet=arguments.sheet,
        pictures=arguments.pictures,
    )


def column_mapping(text: str) -> tuple[str, str]:
    """A product field or attribute, and the column that it is read from.

    Raises:
        argparse.ArgumentTypeError: it is not ``NAME=COLUMN``, or no attribute may have the name.
    """
    name, sign, column = text.partition("=")
    if not sign or not name or not column:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COLUMN")
    if name != attribute_key(name, 0):
        raise argparse.ArgumentTypeError(
            f"{name!r} is neither one of {', '.join(FIELD_NAMES)} nor a name that attributes may "
            "have: letters, digits and underscores"
        )
    return name, column


def positive_int(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is not.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


async def _import(arguments: argparse.Namespace, catalog: Catalog) -> ImportCounts:
    rows: Iterator[CatalogRow | RowError] = catalog.rows()
    total = catalog.count()
    if arguments.limit is not None:
        rows = islice(rows, arguments.limit)
        total = min(total, arguments.limit)
    headers = headers_from_environment()
    async with AsyncProductMatchClient(arguments.url, TIMEOUT_S, headers) as client:
        # Asked first, so that a wrong address is told at once and not after every retry.
        if not await client.is_ready():
            raise ClientError(f"no server is ready at {arguments.url}; is it started?")
        with show_progress(total) as on_progress:
            return await import_catalog(
                rows,
                client,
                concurrency=arguments.concurrency,
                errors=arguments.errors,
                duplicates=arguments.duplicates,
                on_progress=on_progress,
                pictures=LinkedPictures(
                    arguments.picture_cache, allow_private=arguments.allow_private_links
                ),
            )
