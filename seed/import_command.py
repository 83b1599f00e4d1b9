"""``python -m seed import``: a catalogue into the server."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from itertools import islice
from pathlib import Path

from product_match_client import AsyncProductMatchClient, ClientError
from product_match_client.client import DEFAULT_URL
from product_match_client.credentials import headers_from_environment
from seed.importer import DEFAULT_CONCURRENCY, ImportCounts, import_catalog
from seed.progress import duration_text, show_progress
from seed.rows import catalog_file, count_rows, read_catalog

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
    add("path", type=Path, help="a .csv or .jsonl file, or a catalogue's folder")
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


def run(arguments: argparse.Namespace) -> int:
    """Run the import.

    Returns:
        0 if every row was accepted, 1 if not.

    Raises:
        SetupError: the catalogue has no known layout.
        ClientError: the server's address is wrong or it is not ready.
    """
    start = time.monotonic()
    counts = asyncio.run(_import(arguments))
    elapsed_s = max(time.monotonic() - start, 1e-9)
    if counts.stopped_by is not None:
        sys.stderr.write(f"seed: stopped, run it again to go on: {counts.stopped_by}\n")
    for failure in counts.first_failures:
        product = f" ({failure.product_id})" if failure.product_id else ""
        file = catalog_file(arguments.path)
        sys.stderr.write(f"seed: {file}, line {failure.row}{product}: {failure.message}\n")
    summary = (
        f"{counts.done} rows in {duration_text(elapsed_s)} "
        f"({counts.done / elapsed_s:.1f} rows/s): {counts}"
    )
    if counts.failed:
        summary += f"; the failures are in {arguments.errors}"
    if counts.duplicates:
        summary += f"; the duplicates are in {arguments.duplicates}"
    sys.stdout.write(summary + "\n")
    return 1 if counts.failed else 0


def positive_int(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is not.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


async def _import(arguments: argparse.Namespace) -> ImportCounts:
    rows = read_catalog(arguments.path)
    total = count_rows(arguments.path)
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
            )
