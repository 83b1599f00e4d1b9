"""A catalogue on disk with held-out photos: what the builders calibrate with and measure on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bls_models.errors import SetupError

SAMPLE_CATALOGUE = Path(__file__).resolve().parent.parent / "seed" / "sample"


@dataclass(frozen=True)
class CatalogueProduct:
    """One product of a catalogue with held-out photos.

    Attributes:
        product: the document, as a client would send it.
        images: its pictures in the catalogue.
        queries: photos of it that are not in the catalogue.
    """

    product: dict[str, Any]
    images: tuple[Path, ...]
    queries: tuple[Path, ...]


def read_catalogue(folder: Path) -> list[CatalogueProduct]:
    """Read ``products.jsonl`` of a folder, with ``images`` and ``queries`` relative to it.

    Raises:
        SetupError: there is no such file, a line is no product, or a picture is missing.
    """
    path = folder / "products.jsonl"
    if not path.is_file():
        raise SetupError(f"{path} does not exist; give a folder that holds a products.jsonl")
    products = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            product = json.loads(line)
            images, queries = (
                tuple(folder / name for name in product.pop(key)) for key in ("images", "queries")
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SetupError(
                f"{path}, line {number}: {error!r}; expected a JSON object with the lists "
                "images and queries"
            ) from error
        missing = [picture for picture in (*images, *queries) if not picture.is_file()]
        if missing:
            raise SetupError(f"{path}, line {number}: the picture {missing[0]} does not exist")
        products.append(CatalogueProduct(product, images, queries))
    if not products:
        raise SetupError(f"{path} holds no products")
    return products
