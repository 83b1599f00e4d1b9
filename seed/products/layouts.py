"""The layouts of catalogues: what the records of each shop's export are as products."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from seed.options import ReadOptions
from seed.products.columns import check_columns, check_said_columns, plain_name, targets_of_columns
from seed.products.fashion import FASHION_COLUMNS, fashion_records, fashion_targets
from seed.products.generic import canonical_records
from seed.products.google import GOOGLE_COLUMNS, google_records, google_targets
from seed.products.shopify import (
    is_shopify,
    is_shopify_json,
    shopify_json_records,
    shopify_records,
    shopify_targets,
)
from seed.products.woocommerce import WOOCOMMERCE_COLUMNS, woocommerce_records, woocommerce_targets
from seed.readers.records import Record, Table
from seed.readers.source import DAMAGED

Convert = Callable[[Iterable[Record]], Iterator[Record]]


@dataclass(frozen=True)
class Layout:
    """What the columns of a table mean.

    Attributes:
        name: for people; empty: a table of no known program.
        targets: field or attribute by column, empty text for one that is left out; what a file
            without a header has is not known before it is read.
        convert: from records by column to records by product field, as many as there are
            products; further keys are attributes.
        decimal_mark: of prices, where the program defines it; else empty.
    """

    name: str
    targets: Mapping[str, str]
    convert: Convert
    decimal_mark: str = ""


def layout_of_table(table: Table, path: Path, options: ReadOptions) -> Layout:
    """The layout of a table, by its columns.

    Raises:
        SetupError: no column can be the product's id, name or category.
    """
    columns = table.columns
    if columns:
        check_said_columns(path, columns, options)
    by_plain = {plain_name(column): column for column in reversed(columns)}
    if set(columns) >= FASHION_COLUMNS:
        return Layout("Fashion Product Images", fashion_targets(columns), fashion_records)
    if is_shopify(by_plain):
        return Layout(
            "Shopify export",
            shopify_targets(columns, options),
            lambda records: shopify_records(records, columns, options),
            ".",
        )
    if by_plain.keys() >= WOOCOMMERCE_COLUMNS:
        return Layout(
            "WooCommerce export",
            woocommerce_targets(columns, options),
            lambda records: woocommerce_records(records, columns, options),
        )
    if by_plain.keys() >= GOOGLE_COLUMNS:
        targets = google_targets(columns, options)
        check_columns(path, columns, targets, options)
        return Layout(
            "Google Merchant feed", targets, lambda records: google_records(records, options), "."
        )
    if table.unit == "item":  # the items of XML name their own elements, and feeds are Google's
        return Layout("", {}, lambda records: google_records(records, options), ".")
    if not columns:
        first = None
        with contextlib.closing(table.records()) as records, contextlib.suppress(*DAMAGED):
            first = next(records, None)
        if first is not None and is_shopify_json(first):
            return Layout(
                "Shopify products", {}, lambda records: shopify_json_records(records, options), "."
            )
    targets = targets_of_columns(columns, options)
    if columns:
        check_columns(path, columns, targets, options)
    return Layout(
        "", targets, lambda records: canonical_records(records, options, keep_names=not columns)
    )
