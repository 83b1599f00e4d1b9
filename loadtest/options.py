"""What the command lines of the load tools share: their options, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bls_models.errors import ProductMatchError
from loadtest.measurements import LoadError
from local_server.options import PROJECT
from product_match_client import ClientError


def tool_parser(name: str, doc: str | None, report: str) -> argparse.ArgumentParser:
    """The parser of ``python -m loadtest.<name>``, which writes ``reports/<report>.json``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m loadtest.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--report", type=Path, default=PROJECT / "reports" / f"{report}.json", help="JSON to write")
    return parser


def add_catalog(parser: argparse.ArgumentParser, help: str = "products to search") -> None:
    """The flag for another catalogue than the sample."""
    parser.add_argument("--catalog", type=Path, default=PROJECT / "seed" / "sample", help=help)


def add_photo_side(parser: argparse.ArgumentParser) -> None:
    """The flag for the size in which photos are sent."""
    parser.add_argument("--photo-side", type=int, default=1000, help="photos are sent as JPEGs of "
        "that many pixels each way; 0: the files as they are (default: %(default)s)")  # fmt: skip


def exit_status(name: str, run: Callable[[], int | None]) -> int:
    """Run a tool; returns its exit status, or 1 if it could not do its work, and says why."""
    try:
        return run() or 0
    except (LoadError, ProductMatchError, ClientError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
