"""Catalogues as one CSV or JSONL file with pictures beside it; the sample catalogue is one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bls_models.errors import SetupError
from product_match_client.documents import attribute_from_text, price_from_text
from seed.lines import Record, csv_header, csv_records, jsonl_records
from seed.records import (
    BadRowError,
    CatalogRecords,
    CatalogRow,
    RowError,
    default_pictures,
    named_pictures,
)

# The names a column or key may have; of several in one file the first counts, and the others
# are attributes.
ALIASES = {
    "product_id": ("product_id", "id", "sku"),
    "name": ("name", "title"),
    "images": ("images", "image"),
}
# Checked before anything is sent: without one of these columns the server takes no row.
REQUIRED_COLUMNS = ("product_id", "name", "category")
TEXT_FIELDS = ("name", "description", "category", "currency")
NO_ATTRIBUTES = frozenset({*TEXT_FIELDS, "product_id", "price", "images", "attributes", "queries"})


def read_csv_catalog(path: Path) -> CatalogRecords:
    """The products of a CSV file with a header line.

    Args:
        path: the file; pictures are relative to its folder.

    Raises:
        SetupError: at once, if no column can be the product's id, name or category.
    """
    columns, delimiter = csv_header(path)
    # Headers are written for people: "Main Colour" becomes the attribute main_colour.
    plain = [_plain_name(column) for column in columns]
    names = canonical_names(plain)
    twice = sorted({name for name in plain if name and plain.count(name) > 1})
    if twice:
        raise SetupError(f"{path} has more than one column for {', '.join(twice)}.")
    missing = [field for field in REQUIRED_COLUMNS if field not in names]
    if missing:
        wanted = "; ".join(" or ".join(ALIASES.get(field, (field,))) for field in missing)
        raise SetupError(f"{path} has the columns {', '.join(columns)}; it also needs: {wanted}.")
    return _rows_of_csv(path, names, delimiter)


def read_jsonl_catalog(path: Path) -> CatalogRecords:
    """The products of a JSONL file: one JSON object a line.

    An object under ``attributes`` is taken over; any other key that is not a field of products
    is an attribute, except ``queries``, which the sample catalogue keeps for its tests.

    Args:
        path: the file; pictures are relative to its folder.
    """
    for record in jsonl_records(path):
        if record.problem:
            yield RowError(record.row, "", record.problem)
            continue
        keys = list(record.content)
        values = dict(zip(canonical_names(keys), record.content.values(), strict=True))
        yield _row(record.row, values, path.parent)


def canonical_names(names: list[str]) -> list[str]:
    """The names of columns or keys, in their order, those of product fields replaced.

    ``Product ID`` and ``sku`` become ``product_id``; where there are both, the first of
    `ALIASES` does and the other is an attribute. Names of attributes stay as they are.
    """
    plain = [_plain_name(name) for name in names]
    for field, aliases in ALIASES.items():
        used = next((alias for alias in aliases if alias in plain), None)
        if used is not None:
            plain[plain.index(used)] = field
    return [
        known if known in NO_ATTRIBUTES else name.strip()
        for known, name in zip(plain, names, strict=True)
    ]


def product_from_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The document of one row.

    Args:
        values: text (CSV) or JSON values by canonical name; empty text and None are left out.

    Raises:
        BadRowError: a field is missing or has a value of another kind.
    """
    given = {name: value for name, value in values.items() if not _is_empty(value)}
    for field in ("product_id", "name"):
        if field not in given:
            raise BadRowError(f"{field} is empty")
    product: dict[str, Any] = {"product_id": product_id_from_value(given["product_id"])}
    for field in TEXT_FIELDS:
        if field in given:
            if not isinstance(given[field], str):
                raise BadRowError(f"{field} is {given[field]!r}; expected text")
            product[field] = given[field].strip()
    if "price" in given:
        product["price"] = _price(given["price"])
    attributes = given.get("attributes", {})
    if isinstance(attributes, str):
        attributes = _json_value(attributes, "attributes")
    if not isinstance(attributes, dict):
        raise BadRowError(f"attributes is {attributes!r}; expected an object")
    others = {name: value for name, value in given.items() if name not in NO_ATTRIBUTES}
    product["attributes"] = {
        name: _attribute(name, value)
        for name, value in {**others, **attributes}.items()
        if value is not None
    }
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
    raise BadRowError(f"product_id is {value!r}; expected text")


def _rows_of_csv(path: Path, names: list[str], delimiter: str) -> CatalogRecords:
    for record in csv_records(path, delimiter):
        try:
            values = _values_of_csv(record, names)
        except BadRowError as error:
            yield RowError(record.row, "", str(error))
            continue
        yield _row(record.row, values, path.parent)


def _values_of_csv(record: Record, names: list[str]) -> dict[str, Any]:
    if record.problem:
        raise BadRowError(record.problem)
    if len(record.content) > len(names):
        raise BadRowError(
            f"{len(record.content)} fields, but {len(names)} columns; is a text with the "
            "delimiter in it missing its quotes?"
        )
    values: dict[str, Any] = {}
    for name, text in zip(names, record.content, strict=False):
        if not name:
            continue  # a column without a header, as of a spreadsheet's row numbers
        is_attribute = name not in NO_ATTRIBUTES
        values[name] = attribute_from_text(text) if is_attribute else text
    return values


def _row(row: int, values: Mapping[str, Any], folder: Path) -> CatalogRow | RowError:
    try:
        product = product_from_values(values)
        named = _image_names(values.get("images"))
        if named:
            images = named_pictures(folder, named)
        else:
            images = default_pictures(folder, product["product_id"])
    except BadRowError as error:
        return RowError(row, str(values.get("product_id") or ""), str(error))
    return CatalogRow(row, product, images)


def _image_names(value: Any) -> list[Any]:
    """The pictures a row names: a list, a JSON list as text, or paths separated by ``|``."""
    if _is_empty(value):
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _json_value(value, "images")
    if isinstance(value, str):
        return [name for name in value.split("|") if name.strip()]
    if isinstance(value, list):
        return value
    raise BadRowError(f"images is {value!r}; expected paths")


def _attribute(name: str, value: Any) -> str | int | float | bool:
    if isinstance(value, str | int | float) and not (
        isinstance(value, float) and not math.isfinite(value)
    ):
        return value
    raise BadRowError(f"attribute {name} is {value!r}; expected text, a number, true or false")


def _price(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRowError(f"price is {value!r}; expected a number")
    try:
        return price_from_text(value) if isinstance(value, str) else value
    except ValueError as error:
        raise BadRowError(str(error)) from error


def _json_value(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRowError(f"{name} is not JSON: {error}") from error


def _plain_name(name: str) -> str:
    """``Product ID`` as ``product_id``, ``Size (EU)`` as ``size_eu``."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
