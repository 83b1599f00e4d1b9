"""Records by column to products: fields by the table of usual names, the rest as attributes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from bls_models.errors import ProductError
from bls_models.product import check_product
from product_match_client.documents import attribute_from_text
from seed.options import ROW, ReadOptions
from seed.products.columns import FIELDS, targets_of_columns
from seed.products.html_text import text_from_html
from seed.products.prices import price_and_currency
from seed.readers.records import Record
from seed.records import BadRowError

TEXT_FIELDS = ("name", "description", "category")
# Reading HTML takes time with the square of what is never closed in it.
LONGEST_TEXT = 131_072


def canonical_records(
    records: Iterable[Record], options: ReadOptions, *, keep_names: bool = False
) -> Iterator[Record]:
    """The records by product field; what is no field is an attribute under its key.

    Args:
        records: by column.
        options: what a person says about the columns.
        keep_names: see `targets_of_columns`.
    """

    # Records that name their own columns mostly name the same.
    @lru_cache(maxsize=256)
    def targets(columns: tuple[str, ...]) -> dict[str, str]:
        return targets_of_columns(columns, options, keep_names=keep_names)

    for record in records:
        if record.problem:
            yield record
            continue
        if record.surplus:
            columns = len(record.values)
            yield replace(
                record,
                problem=f"{columns + len(record.surplus)} fields, but {columns} columns; is a "
                "text with the delimiter in it missing its quotes?",
            )
            continue
        yield replace(record, values=by_target(record, targets(tuple(record.values)), options))


def by_target(record: Record, targets: Mapping[str, str], options: ReadOptions) -> dict[str, Any]:
    """The values of a record by product field or key of an attribute.

    Those of several columns of pictures are one list; empty values are left out. A column that a
    person names several times is each of those fields.
    """
    found: dict[str, Any] = {}
    for column, value in record.values.items():
        target = targets.get(column, "")
        if not target or is_empty(value):
            continue
        if target == "images" and target in found:
            found[target] = [*_as_list(found[target]), *_as_list(value)]
        else:
            found[target] = value
    for field, column in options.columns.items():
        value = str(record.row) if column == ROW else record.values.get(column)
        if not is_empty(value):
            found.setdefault(field, value)
    return found


def product_from_values(
    values: Mapping[str, Any], options: ReadOptions, *, is_text: bool = False, mark: str = ""
) -> dict[str, Any]:
    """The document of one row, checked as the server does.

    Args:
        values: by product field or key of an attribute; empty ones are left out.
        options: what a person says.
        is_text: whether the text of an attribute may stand for a number, true or false.
        mark: the decimal mark of prices, if the layout defines it.

    Raises:
        BadRowError: a field is missing or has a value of another kind.
    """
    given = {name: value for name, value in values.items() if not is_empty(value)}
    if options.category:
        given.setdefault("category", options.category)
    for field in ("product_id", "name", "category"):
        if field not in given:
            hint = "; --category gives those without one a category" if field == "category" else ""
            raise BadRowError(f"{field} is empty{hint}")
    product: dict[str, Any] = {"product_id": product_id_from_value(given["product_id"])}
    for field in TEXT_FIELDS:
        if field in given:
            if not isinstance(given[field], str):
                raise BadRowError(f"{field} is {given[field]!r:.80}; expected text")
            if len(given[field]) > LONGEST_TEXT:
                raise BadRowError(
                    f"{field} has {len(given[field])} characters; expected at most {LONGEST_TEXT}, "
                    "HTML included"
                )
            product[field] = text_from_html(given[field])
    price, currency = price_and_currency(
        given.get("price"), given.get("currency"), options.decimal_mark or mark, options.currency
    )
    if price is not None:
        product["price"] = price
    if currency:
        product["currency"] = currency
    product["attributes"] = _attributes(given, is_text)
    try:
        check_product(product)
    except ProductError as error:
        raise BadRowError(str(error)) from error
    return product


def product_id_from_value(value: Any) -> str:
    """A product's id as text; JSON may hold it as a whole number.

    Raises:
        BadRowError: it is neither.
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise BadRowError(f"product_id is {value!r:.80}; expected text")


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def _attributes(given: Mapping[str, Any], is_text: bool) -> dict[str, Any]:
    nested = given.get("attributes", {})
    if isinstance(nested, str):
        nested = _json_object(nested)
    if not isinstance(nested, dict):
        raise BadRowError(f"attributes is {nested!r:.80}; expected an object")
    others = {
        name: attribute_from_text(value) if is_text and isinstance(value, str) else value
        for name, value in given.items()
        if name not in FIELDS
    }
    attributes = {**others, **nested}
    for name, value in attributes.items():
        plain = value is None or isinstance(value, str | int | float)
        if not plain or (isinstance(value, float) and not math.isfinite(value)):
            raise BadRowError(
                f"attribute {name} is {value!r:.80}; expected text, a number, true or false "
                f"(--leave-out {name} imports without it)"
            )
    return {name: value for name, value in attributes.items() if value is not None}


def _json_object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"attributes is not JSON: {error}") from error


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
