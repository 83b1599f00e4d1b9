"""The sample catalogue's products: their shop data is its listing, their looks ``looks.toml``."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from .look import Look, Product

LISTING = Path(__file__).parents[1] / "sample" / "products.jsonl"
LOOKS = Path(__file__).with_name("looks.toml")
# What a product has of its record's own fields; it also has all attributes but those of its look.
RECORDED = ("product_id", "name", "description", "category", "price")


def sample_products() -> list[Product]:
    """The products in the order of the listing.

    Raises:
        KeyError: a product has no look.
    """
    looks = tomllib.loads(LOOKS.read_text(encoding="utf-8"))
    products = []
    for line in LISTING.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        attributes = record["attributes"]
        colour, pattern = attributes.pop("colour"), attributes.pop("pattern")
        look = Look(colour=colour, pattern=pattern, **looks[record["product_id"]])
        texts = {name: record[name] for name in RECORDED}
        products.append(Product(**texts, **attributes, look=look))
    return products
