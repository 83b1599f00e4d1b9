"""Shopify's product export: a product over several rows, one for each variant and picture.

Its ``products.json`` has the same as one object a product.

A product is what shoppers see as one page, so its id is the handle; its variants are attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bls_models.product import MAX_ATTRIBUTE_CHARACTERS
from seed.options import ReadOptions
from seed.products.columns import attribute_key, plain_name
from seed.products.generic import is_empty
from seed.readers.records import Record

# Beside handle and title; people take out what they do not need.
TELLING = frozenset({"body_html", "variant_sku", "variant_price", "image_src", "option1_value"})
FIELDS = {
    "handle": "product_id",
    "title": "name",
    "body_html": "description",
    "description": "description",
    "variant_price": "price",
    "price": "price",
    "currency": "currency",
    "image_src": "images",
    "variant_image": "images",
    "images": "images",
    "vendor": "vendor",
    "tags": "tags",
    "status": "status",
    "variant_sku": "skus",
    "sku": "skus",
}
# The shop's own type says more than Shopify's taxonomy, and is shorter.
CATEGORIES = ("type", "category", "product_type", "product_category", "standard_product_type")
OPTIONS = ("option1", "option2", "option3")
# Shopify has at most 2,048 variants and 250 pictures a product; so many rows are in memory.
MOST_ROWS = 4096


def is_shopify(columns: Mapping[str, str]) -> bool:
    """Whether the columns, by plain name, are those of a Shopify export."""
    return columns.keys() >= {"handle", "title"} and bool(columns.keys() & TELLING)


def shopify_targets(columns: Sequence[str], options: ReadOptions) -> dict[str, str]:
    """Field or attribute by column, empty text for what is left out."""
    targets = {}
    for column in columns:
        name = plain_name(column)
        known = FIELDS.get(name, "category" if name in CATEGORIES else "")
        if name.endswith("_value") and name.removesuffix("_value") in OPTIONS:
            known = "options"
        targets[column] = options.target(column, known)
    return targets


def shopify_records(
    records: Iterable[Record], columns: Sequence[str], options: ReadOptions
) -> Iterator[Record]:
    """The products, each from the rows of its handle, which follow each other."""
    targets = shopify_targets(columns, options)
    group: list[Record] = []
    for record in records:
        if record.problem or record.surplus:
            # It may be a row of the product before it or of the next one; neither can be told.
            if group:
                yield _product(group, targets)
                group = []
            yield Record(record.row, problem=record.problem or "more fields than columns")
            continue
        if group and _handle(record, targets) != _handle(group[0], targets):
            yield _product(group, targets)
            group = []
        if len(group) == MOST_ROWS:
            yield Record(record.row, problem=f"over {MOST_ROWS} rows of one handle")
            continue
        group.append(record)
    if group:
        yield _product(group, targets)


def is_shopify_json(record: Record) -> bool:
    """Whether a record is one of Shopify's ``products.json``."""
    return record.values.keys() >= {"handle", "title", "variants"}


def shopify_json_records(records: Iterable[Record], options: ReadOptions) -> Iterator[Record]:
    """The products of ``products.json`` by product field."""
    for record in records:
        if record.problem:
            yield record
            continue
        try:
            values = _values_of_json(record.values)
        except (TypeError, AttributeError, KeyError) as error:
            yield Record(record.row, problem=f"not as Shopify writes products: {error}")
            continue
        said = {field: record.values.get(column) for field, column in options.columns.items()}
        yield Record(record.row, values | {name: said[name] for name in said if said[name]})


def _values_of_json(product: Mapping[str, Any]) -> dict[str, Any]:
    variants, tags = product["variants"] or [], product.get("tags") or []
    options = product.get("options") or []
    several = {
        attribute_key(plain_name(item["name"]), place): item["values"]
        for place, item in enumerate(options, start=1)
        if "values" in item
    }
    several.pop("title", None)  # of products without variants
    several |= {
        "tags": [tags] if isinstance(tags, str) else tags,
        "skus": [variant["sku"] for variant in variants if variant.get("sku")],
    }
    return {
        **{key: _joined(items) for key, items in several.items()},
        "product_id": product["handle"],
        "name": product["title"],
        "description": product.get("body_html"),
        "category": product.get("product_type"),
        "price": next((variant.get("price") for variant in variants), None),
        "images": [image["src"] for image in product.get("images") or [] if "src" in image],
        "vendor": product.get("vendor"),
    }


def _handle(record: Record, targets: Mapping[str, str]) -> str:
    return next(
        (str(value) for column, value in record.values.items()
         if targets[column] == "product_id" and not is_empty(value)),
        "",
    )  # fmt: skip


def _product(rows: list[Record], targets: Mapping[str, str]) -> Record:
    values: dict[str, Any] = {}
    several: dict[str, list[Any]] = {"images": [], "skus": []}
    # The options' names stand in the product's first row alone.
    names = {
        plain_name(column).removesuffix("_name"): str(value)
        for column, value in rows[0].values.items()
        if not is_empty(value) and plain_name(column).endswith("_name")
    }
    categories: dict[str, Any] = {}
    for row in rows:
        for column, value in row.values.items():
            target, name = targets[column], plain_name(column)
            if is_empty(value) or not target:
                continue
            if target == "options":
                option = name.removesuffix("_value")
                key = attribute_key(plain_name(names.get(option, option)), int(option[-1]))
                if value != "Default Title":
                    several.setdefault(key, []).append(value)
            elif target in several:
                several[target].append(value)
            elif target == "category":
                categories.setdefault(name, value)
            else:
                values.setdefault(target, value)
    for name in (*CATEGORIES, *categories):
        if name in categories:
            values["category"] = categories[name]
            break
    images: list[Any] = []
    for image in several.pop("images"):
        if image not in images:
            images.append(image)
    if images:
        values["images"] = images
    for key, items in several.items():
        values.setdefault(key, _joined(items))
    return Record(rows[0].row, values)


def _joined(items: Iterable[Any]) -> str:
    """The different ones, separated by commas, as many as an attribute holds."""
    joined = ""
    for item in dict.fromkeys(map(str, items)):
        longer = f"{joined}, {item}" if joined else item
        if len(longer) > MAX_ATTRIBUTE_CHARACTERS:
            break
        joined = longer
    return joined
