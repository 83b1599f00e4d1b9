"""Retrieval sets: a catalogue, queries, and which product each query shows."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from bls_models.errors import SetupError
from bls_models.images.preprocessing import Preprocess
from bls_models.product import embedding_text
from builders.catalogue import CatalogueProduct
from builders.graphs.calibration import Feed, image_feeds, text_feeds


@dataclass(frozen=True)
class RetrievalSet:
    """One retrieval task for one encoder.

    Attributes:
        name: for the report.
        catalogue: gives the batches of the catalogue's views, anew on each call.
        catalogue_ids: the product of each view.
        queries: gives the batches of the queries, anew on each call.
        query_ids: the product that each query shows.
    """

    name: str
    catalogue: Callable[[], Iterable[Feed]]
    catalogue_ids: Sequence[str]
    queries: Callable[[], Iterable[Feed]]
    query_ids: Sequence[str]


def photo_set_from_catalogue(
    products: Sequence[CatalogueProduct], preprocess: Preprocess
) -> RetrievalSet:
    """Held-out photos against the catalogue's pictures.

    Args:
        products: at least one with a held-out photo.
        preprocess: how pictures become pixels.
    """
    views = [(path, _id(item)) for item in products for path in item.images]
    photos = [(path, _id(item)) for item in products for path in item.queries]
    return _photo_set("sample photos", views, photos, preprocess)


def photo_set_from_dataset(folder: Path, preprocess: Preprocess) -> RetrievalSet:
    """Real photos of a data set in the Grocery Store layout.

    Args:
        folder: holds ``train.txt`` (the catalogue) and ``val.txt`` (the queries) with lines
            ``path, fine class, coarse class``; the fine class counts as the product.
        preprocess: how pictures become pixels.

    Raises:
        SetupError: a list is missing or empty, or a line or picture is wrong.
    """
    views, photos = (listed_pictures(folder, name) for name in ("train.txt", "val.txt"))
    return _photo_set(folder.name, views, photos, preprocess)


def text_set_from_catalogue(
    products: Sequence[CatalogueProduct], tokenizer_json: str
) -> RetrievalSet:
    """Words against the texts that stand for products: each one's name, and its attributes.

    Args:
        products: with names, categories and attributes.
        tokenizer_json: the text encoder's tokenizer.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    texts = [embedding_text({"attributes": {}} | item.product) for item in products]
    queries, ids = [], []
    for item in products:
        words = [
            word for word in item.product.get("attributes", {}).values() if isinstance(word, str)
        ]
        queries += [item.product["name"], " ".join([*words, item.product["category"]])]
        ids += [_id(item)] * 2
    return RetrievalSet(
        "sample texts",
        lambda: text_feeds(texts, tokenizer),
        [_id(item) for item in products],
        lambda: text_feeds(queries, tokenizer),
        ids,
    )


def _photo_set(
    name: str,
    views: Sequence[tuple[Path, str]],
    photos: Sequence[tuple[Path, str]],
    preprocess: Preprocess,
) -> RetrievalSet:
    return RetrievalSet(
        name,
        lambda: image_feeds([path for path, _ in views], preprocess),
        [product for _, product in views],
        lambda: image_feeds([path for path, _ in photos], preprocess),
        [product for _, product in photos],
    )


def _id(item: CatalogueProduct) -> str:
    return str(item.product["product_id"])


def listed_pictures(folder: Path, name: str) -> list[tuple[Path, str]]:
    """Pictures and fine classes that a list of the Grocery Store layout names.

    Raises:
        SetupError: the list is missing or empty, or a line names no picture with a class.
    """
    path = folder / name
    if not path.is_file():
        raise SetupError(
            f"{path} does not exist; give a folder with train.txt and val.txt, whose lines are "
            "`path, fine class, coarse class`"
        )
    listed = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 2 or not (folder / parts[0]).is_file():
            raise SetupError(f"{path}, line {number}: {line[:100]!r} names no picture with a class")
        listed.append((folder / parts[0], parts[1]))
    if not listed:
        raise SetupError(f"{path} names no pictures")
    return listed


def products_from_grocery(folder: Path, iconic: bool = False) -> list[CatalogueProduct]:
    """The Grocery Store data set: train pictures as views, val pictures as queries.

    A product's name is its fine class, its category the coarse one, and its description that of
    ``classes.csv``.

    Args:
        folder: the data set.
        iconic: take each class's studio picture as its only view.

    Raises:
        SetupError: a list is missing.
    """
    classes = folder / "classes.csv"
    if not classes.is_file():
        raise SetupError(f"{classes} does not exist; give a folder in the Grocery Store layout")
    pictures: dict[str, tuple[list[Path], list[Path]]] = {}
    for number, name in enumerate(("train.txt", "val.txt")):
        for path, fine in listed_pictures(folder, name):
            pictures.setdefault(fine, ([], []))[number].append(path)
    with classes.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = []
    for row in rows:
        views, queries = pictures.get(row["Class ID (int)"], ([], []))
        name, category = (row[f"{kind} Name (str)"] for kind in ("Class", "Coarse Class"))
        text = folder / row["Product Description Path (str)"].lstrip("/")
        studio = folder / row["Iconic Image Path (str)"].lstrip("/") if iconic else None
        if studio is not None:
            if not studio.is_file():
                raise SetupError(f"{classes}: the picture {studio} does not exist")
            views = [studio]
        product = {
            "product_id": name,
            "name": name.replace("-", " "),
            "category": category.replace("-", " "),
            "description": text.read_text(encoding="utf-8") if text.is_file() else "",
        }
        found.append(CatalogueProduct(product, tuple(views), tuple(queries)))
    return found
