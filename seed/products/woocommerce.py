"""WooCommerce's product export: each product and each of its variations is a row.

A variation has its own price and picture, and takes what it leaves out from its parent.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from seed.options import ReadOptions
from seed.products.columns import attribute_key, plain_name
from seed.products.generic import is_empty
from seed.readers.records import Record

WOOCOMMERCE_COLUMNS = frozenset({"id", "type", "sku", "name", "published", "regular_price"})
FIELDS = {
    "name": "name",
    "description": "description",
    "regular_price": "price",
    "categories": "category",
    "images": "images",
    "tags": "tags",
    "brands": "brand",
    "id": "woocommerce_id",
    "sku": "product_id",
    "sale_price": "sale_price",
    "parent": "parent",
}
INHERITED = ("category", "description", "brand", "tags", "images")
ATTRIBUTE_NAME = re.compile(r"attribute_(\d+)_name")
ATTRIBUTE_VALUE = re.compile(r"attribute_(\d+)_value_s")
# The export lists variations after their parent; so many parents are remembered.
REMEMBERED_PARENTS = 10_000


def woocommerce_targets(columns: Sequence[str], options: ReadOptions) -> dict[str, str]:
    """Field or attribute by column, empty text for what is left out."""
    targets = {}
    for column in columns:
        name = plain_name(column)
        known = FIELDS.get(name, "attributes" if ATTRIBUTE_VALUE.fullmatch(name) else "")
        if name == "short_description":
            known = "description"  # where there is no other
        targets[column] = options.target(column, known)
    return targets


def woocommerce_records(
    records: Iterable[Record], columns: Sequence[str], options: ReadOptions
) -> Iterator[Record]:
    """The products and variations by product field."""
    targets = woocommerce_targets(columns, options)
    plain = {column: plain_name(column) for column in columns}
    parents: OrderedDict[str, dict[str, Any]] = OrderedDict()
    for record in records:
        if record.problem or record.surplus:
            yield Record(record.row, problem=record.problem or "more fields than columns")
            continue
        values = _values(record.values, targets, plain)
        kind = next((v for c, v in record.values.items() if plain[c] == "type"), "")
        parent = values.pop("parent", "")
        if parent:
            values["parent"] = parent
            for field, value in parents.get(str(parent), {}).items():
                values.setdefault(field, value)
        elif "variable" in str(kind):
            kept = {field: values[field] for field in INHERITED if field in values}
            # A parent without SKU is named by its id.
            for name in (values.get("product_id"), f"id:{values.get('woocommerce_id')}"):
                if name:
                    parents[str(name)] = kept
            while len(parents) > REMEMBERED_PARENTS:
                parents.popitem(last=False)
        # Many shops keep no SKUs.
        values.setdefault("product_id", values.get("woocommerce_id"))
        yield Record(record.row, values)


def _values(
    row: Mapping[str, Any], targets: Mapping[str, str], plain: Mapping[str, str]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    names = {
        found[1]: str(value)
        for column, value in row.items()
        if (found := ATTRIBUTE_NAME.fullmatch(plain[column])) and not is_empty(value)
    }
    short = None
    for column, value in row.items():
        target = targets[column]
        if not target or is_empty(value):
            continue
        number = ATTRIBUTE_VALUE.fullmatch(plain[column])
        if target == "attributes" and number:
            place = int(number[1])
            name = plain_name(names.get(number[1], ""))
            attributes[attribute_key(name, place)] = value
        elif plain[column] == "short_description" and target == "description":
            short = value
        else:
            values[target] = value
    if short is not None:
        values.setdefault("description", short)
    return {**attributes, **values}
