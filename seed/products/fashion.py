"""The Kaggle set Fashion Product Images: ``styles.csv`` and ``images/<id>.jpg``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from seed.readers.records import Record

NAME_COLUMN = "productDisplayName"
FASHION_COLUMNS = frozenset({"id", "articleType", NAME_COLUMN})

# The article type is the category; the set has no prices.
TARGETS = {
    "id": "product_id",
    NAME_COLUMN: "name",
    "articleType": "category",
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


def fashion_targets(columns: Iterable[str]) -> dict[str, str]:
    """Field or attribute by column."""
    return {column: TARGETS.get(column, "") for column in columns}


def fashion_records(records: Iterable[Record]) -> Iterator[Record]:
    """The rows of ``styles.csv`` by product field, with a description made of the attributes."""
    for record in records:
        if record.problem:
            yield record
            continue
        fields = _fields(record)
        values: dict[str, Any] = {
            TARGETS[column]: value for column, value in fields.items() if column in TARGETS
        }
        yield replace(
            record, values={**values, "description": description_from_fields(fields)}, surplus=()
        )


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


def _fields(record: Record) -> dict[str, str]:
    """The values of a row by column, empty ones left out."""
    columns, values = list(record.values), [*record.values.values(), *record.surplus]
    if record.surplus:
        # Some names hold a comma and no quotes, so they fall into several fields.
        place = columns.index(NAME_COLUMN)
        behind = place + len(record.surplus) + 1
        values = [*values[:place], ",".join(values[place:behind]), *values[behind:]]
    stripped = {name: str(value).strip() for name, value in zip(columns, values, strict=False)}
    # NA is how this set writes a value that is not known.
    return {name: value for name, value in stripped.items() if value not in ("", "NA")}
