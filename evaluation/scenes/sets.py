"""Photos of several products, with a box around each and the products that are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bls_models.errors import SetupError
from seed.records import CatalogRow

SCENES_FILE = "scenes.jsonl"
LAYOUT = (
    f"a folder with {SCENES_FILE}, one photo a line: "
    '{"file": "1.jpg", "objects": [{"product_id": "m1", "box": [x0, y0, x1, y1]}]}, boxes as '
    'fractions of the upright photo; "label" in place of product_id names a category of the '
    "catalogue"
)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SceneProduct:
    """One product in a photo.

    Attributes:
        name: its product_id or label, for reports.
        box: (x0, y0, x1, y1), fractions of the upright photo.
        product_ids: the products of the catalogue that are right, at least one.
    """

    name: str
    box: Box
    product_ids: frozenset[str]


@dataclass(frozen=True)
class Scene:
    """One photo with all the products in it, which may be none."""

    image: Path
    products: tuple[SceneProduct, ...]


def scenes_of_folder(folder: Path, rows: Sequence[CatalogRow]) -> list[Scene]:
    """Read a folder's scenes.

    Args:
        folder: see ``LAYOUT``.
        rows: the catalogue; a label is right for all products of that category.

    Raises:
        SetupError: the folder has no products to look for, a line is wrong, or the catalogue has
            no such product.
    """
    path = folder / SCENES_FILE
    if not path.is_file():
        raise SetupError(f"{path} does not exist; expected {LAYOUT}")
    products = {str(row.product["product_id"]): str(row.product["category"]) for row in rows}
    by_category: dict[str, set[str]] = {}
    for product_id, category in products.items():
        by_category.setdefault(category.casefold(), set()).add(product_id)
    scenes = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        place = f"{path}, line {number}"
        try:
            found = json.loads(line)
            image = folder / found["file"]
            objects = tuple(
                _product(item, products, by_category, place) for item in found["objects"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SetupError(f"{place}: {error!r}; expected {LAYOUT}") from error
        if not image.is_file():
            raise SetupError(f"{place}: the picture {image} does not exist")
        scenes.append(Scene(image, objects))
    if not any(scene.products for scene in scenes):
        raise SetupError(f"{path} names no products; there is nothing to find")
    return scenes


def _product(
    item: dict[str, Any],
    products: dict[str, str],
    by_category: dict[str, set[str]],
    place: str,
) -> SceneProduct:
    x0, y0, x1, y1 = (float(end) for end in item["box"])
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise SetupError(f"{place}: the box {item['box']} is none; expected {LAYOUT}")
    if "product_id" in item:
        name = str(item["product_id"])
        right = {name} & set(products)
    else:
        name = str(item["label"])
        right = by_category.get(name.casefold(), set())
    if not right:
        raise SetupError(f"{place}: the catalogue has no product or category {name!r}")
    return SceneProduct(name, (x0, y0, x1, y1), frozenset(right))
