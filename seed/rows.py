"""Reading catalogues of any known layout, a row at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bls_models.errors import SetupError
from seed.fashion import is_fashion_header, read_fashion
from seed.generic import read_csv_catalog, read_jsonl_catalog
from seed.lines import csv_header, csv_records, jsonl_records
from seed.records import CatalogRow, RowError

__all__ = ["CatalogRow", "RowError", "count_rows", "read_catalog", "read_products"]

CATALOG_SUFFIXES = (".csv", ".jsonl")
SUPPORTED = (
    "a folder with products.jsonl, a folder with styles.csv (Kaggle Fashion Product Images), "
    "a .csv or .jsonl file, or a folder with exactly one of those"
)


def read_catalog(path: Path) -> Iterator[CatalogRow | RowError]:
    """The products of a catalogue, in the order of its file.

    The layout is found out at once; rows are read as they are asked for and not kept. A row
    that cannot be read is a `RowError`, and reading goes on.

    Args:
        path: a file or folder; see ``docs`` or the error's message for the layouts.

    Raises:
        SetupError: nothing there is a known layout.
    """
    file = catalog_file(path)
    if file.suffix.lower() == ".jsonl":
        return read_jsonl_catalog(file)
    if is_fashion_header(csv_header(file)[0]):
        return read_fashion(file)
    return read_csv_catalog(file)


def read_products(path: Path) -> Iterator[CatalogRow]:
    """The products of a catalogue, without the rows that cannot be read.

    Raises:
        SetupError: as `read_catalog`.
    """
    return (row for row in read_catalog(path) if isinstance(row, CatalogRow))


def count_rows(path: Path) -> int:
    """How many rows `read_catalog` yields; the file is read once, the pictures are not.

    Raises:
        SetupError: as `read_catalog`.
    """
    file = catalog_file(path)
    if file.suffix.lower() == ".jsonl":
        return sum(1 for _ in jsonl_records(file))
    return sum(1 for _ in csv_records(file, csv_header(file)[1]))


def catalog_file(path: Path) -> Path:
    """The file that lists the products.

    Raises:
        SetupError: there is none, or there are several and none has a known name.
    """
    if path.is_file():
        if path.suffix.lower() in CATALOG_SUFFIXES:
            return path
        raise SetupError(f"{path} is no catalogue; expected {SUPPORTED}.")
    if not path.is_dir():
        raise SetupError(f"{path} does not exist; expected {SUPPORTED}.")
    for name in ("products.jsonl", "styles.csv"):
        if (path / name).is_file():
            return path / name
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in CATALOG_SUFFIXES)
    if len(files) == 1:
        return files[0]
    found = ", ".join(file.name for file in files) or "no .csv and no .jsonl file"
    raise SetupError(f"{path} holds {found}; expected {SUPPORTED}.")
