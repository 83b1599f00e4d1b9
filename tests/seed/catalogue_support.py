"""Writing catalogues for tests, and what reading them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seed.options import NO_OPTIONS, ReadOptions
from seed.records import CatalogRow, RowError
from seed.rows import open_catalog


def write(path: Path, *lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"picture")


def read(path: Path, options: ReadOptions = NO_OPTIONS) -> list[CatalogRow | RowError]:
    catalog = open_catalog(path, options)
    rows = list(catalog.rows())
    assert catalog.count() == len(rows)
    return rows


def products(path: Path, options: ReadOptions = NO_OPTIONS) -> list[dict[str, Any]]:
    """The products, of which every one can be read."""
    rows = read(path, options)
    assert [row for row in rows if isinstance(row, RowError)] == []
    return [row.product for row in rows if isinstance(row, CatalogRow)]


def only_product(path: Path, options: ReadOptions = NO_OPTIONS) -> dict[str, Any]:
    (product,) = products(path, options)
    return product


def ids(rows: list[CatalogRow | RowError]) -> list[str]:
    return [row.product["product_id"] for row in rows if isinstance(row, CatalogRow)]


def errors(rows: list[CatalogRow | RowError]) -> list[tuple[int, str]]:
    """Line and message of each row that is no product."""
    return [(row.row, row.message) for row in rows if isinstance(row, RowError)]


def pictures_of(row: CatalogRow | RowError, folder: Path) -> list[str]:
    assert isinstance(row, CatalogRow), row
    return [str(image.relative_to(folder)) for image in row.images]
