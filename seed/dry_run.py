"""What an import would send, without sending it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TextIO

from seed.output import write_line
from seed.records import CatalogRow, RowError
from seed.rows import Catalog

SHOWN = 5


def check_catalog(catalog: Catalog, rows: Iterable[CatalogRow | RowError], stream: TextIO) -> int:
    """Read rows as an import does, and show what is missing.

    Args:
        catalog: its pictures are looked for, but those of links are not fetched.
        rows: those of its rows that are to be read.
        stream: for people.

    Returns:
        The exit status: 1 if a row cannot be imported, else 0.
    """
    write_line(stream, _columns(catalog))
    good = failed = without = links = 0
    for row in rows:
        if isinstance(row, CatalogRow):
            good += 1
            if good == 1:
                write_line(
                    stream, f"the first product: {json.dumps(row.product, ensure_ascii=False)}"
                )
                write_line(stream, f"its pictures: {_pictures(row)}")
            links += len(row.links)
            if not row.has_pictures:
                without += 1
                if without <= SHOWN:
                    write_line(stream, f"{catalog.unit} {row.row}: no picture for {_id(row)}")
            continue
        failed += 1
        if failed <= SHOWN:
            product = f" ({row.product_id})" if row.product_id else ""
            write_line(stream, f"{catalog.unit} {row.row}{product}: {row.message}")
    write_line(
        stream,
        f"{good + failed} rows: {good} would be sent, {failed} failed, {without} without "
        f"pictures, {links} links to pictures (not fetched)",
    )
    return 1 if failed else 0


def _columns(catalog: Catalog) -> str:
    targets = catalog.targets
    if not targets:
        return "columns: each record names its own"
    used = [f"{column} -> {target}" for column, target in targets.items() if target]
    used += [
        f"{column} -> {field}"
        for field, column in catalog.said.items()
        if targets.get(column) != field
    ]
    unused = [column for column, target in targets.items() if not target and column]
    return f"columns: {', '.join(used)}; left out: {', '.join(unused) or 'none'}"


def _pictures(row: CatalogRow) -> str:
    held = [f"{len(picture)} bytes within the catalogue" for picture in row.embedded]
    return ", ".join([*map(str, row.images), *held, *row.links]) or "none"


def _id(row: CatalogRow) -> str:
    return str(row.product["product_id"])
