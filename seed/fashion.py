"""The Kaggle set Fashion Product Images: ``styles.csv`` and ``images/<id>.jpg``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from product_match_client.documents import attribute_from_text
from seed.lines import Record, csv_header, csv_records
from seed.records import BadRowError, CatalogRecords, CatalogRow, RowError, default_pictures

NAME_COLUMN = "productDisplayName"
COLUMNS = frozenset({"id", "articleType", NAME_COLUMN})

# Column to attribute; the article type is the category.
ATTRIBUTES = {
    "gender": "gender",
    "masterCategory": "master_category",
    "subCategory": "sub_category",
    "baseColour": "colour",
    "season": "season",
    "year": "year",
    "usage": "usage",
}

WEARERS = {
    "men": "for men",
    "women": "for women",
    "boys": "for boys",
    "girls": "for girls",
    "unisex": "for women and men",
}


def is_fashion_header(columns: list[str]) -> bool:
    """Whether the columns are those of ``styles.csv``."""
    return set(columns) >= COLUMNS


def read_fashion(path: Path) -> CatalogRecords:
    """The products of a ``styles.csv``.

    The set has no prices. The pictures of a few products are missing; these are products
    without pictures, which text still finds.

    Args:
        path: the file; the pictures lie in the folder ``images`` beside it.
    """
    columns, delimiter = csv_header(path)
    for record in csv_records(path, delimiter):
        try:
            fields = _fields(record, columns)
        except BadRowError as error:
            yield RowError(record.row, "", str(error))
            continue
        product_id = fields.get("id", "")
        try:
            product = product_from_fields(fields)
        except BadRowError as error:
            yield RowError(record.row, product_id, str(error))
            continue
        yield CatalogRow(record.row, product, default_pictures(path.parent, product_id))


def product_from_fields(fields: Mapping[str, str]) -> dict[str, Any]:
    """The document of one row.

    Args:
        fields: the row by column, empty values left out.

    Raises:
        BadRowError: there is no id or no name.
    """
    for column in ("id", NAME_COLUMN):
        if column not in fields:
            raise BadRowError(f"{column} is empty")
    product: dict[str, Any] = {
        "product_id": fields["id"],
        "name": fields[NAME_COLUMN],
        "description": description_from_fields(fields),
    }
    if "articleType" in fields:
        product["category"] = fields["articleType"]
    attributes: dict[str, Any] = {
        attribute: fields[column] for column, attribute in ATTRIBUTES.items() if column in fields
    }
    if "year" in attributes:
        attributes["year"] = attribute_from_text(fields["year"])
    product["attributes"] = attributes
    return product


def description_from_fields(fields: Mapping[str, str]) -> str:
    """A sentence such as ``Navy blue shirts for men, casual wear, fall 2011.`` on the product."""
    kind = " ".join(fields[column] for column in ("baseColour", "articleType") if column in fields)
    wearer = WEARERS.get(fields.get("gender", "").lower(), "")
    parts = [f"{kind or 'An article'} {wearer}".strip()]
    if "usage" in fields:
        parts.append(f"{fields['usage']} wear")
    season = " ".join(fields[column] for column in ("season", "year") if column in fields)
    if season:
        parts.append(season)
    sentence = ", ".join(parts)
    return f"{sentence.capitalize()}."


def _fields(record: Record, columns: list[str]) -> dict[str, str]:
    """The values of a row by column, empty ones left out."""
    if record.problem:
        raise BadRowError(record.problem)
    values: list[str] = record.content
    surplus = len(values) - len(columns)
    if surplus > 0:
        # Some names hold a comma and no quotes, so they fall into several fields.
        place = columns.index(NAME_COLUMN)
        name = ",".join(values[place : place + surplus + 1])
        values = [*values[:place], name, *values[place + surplus + 1 :]]
    stripped = {name: value.strip() for name, value in zip(columns, values, strict=False)}
    # NA is how this set writes a value that is not known.
    return {name: value for name, value in stripped.items() if value not in ("", "NA")}
