"""What a product is: its look, which the generators take, and its shop data."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Look:
    """The parameters of a product's shape and surface."""

    family: str
    colour: str
    accent: str = "white"
    pattern: str = "plain"
    finish: str = "plastic"
    repeats: float = 8
    shape: dict[str, float] = field(default_factory=dict)

    def get(self, name: str, default: float) -> float:
        """One proportion, or the family's usual value."""
        return self.shape.get(name, default)


@dataclass(frozen=True)
class Product:
    """One catalogue entry."""

    product_id: str
    name: str
    description: str
    category: str
    price: float
    material: str
    brand: str
    size: str
    look: Look

    def record(self, images: list[str], queries: list[str]) -> dict[str, object]:
        """The entry's line in products.jsonl."""
        return {
            "product_id": self.product_id,
            "name": self.name,
            "description": self.description,
            "category": self.category,
            "price": self.price,
            "currency": "EUR",
            "attributes": {
                "colour": self.look.colour,
                "material": self.material,
                "brand": self.brand,
                "size": self.size,
                "pattern": self.look.pattern,
            },
            "images": images,
            "queries": queries,
        }


def seeded(*parts: object) -> random.Random:
    """A generator that depends on the names of what it draws for, and on nothing else."""
    return random.Random(zlib.crc32("/".join(map(str, parts)).encode()))
