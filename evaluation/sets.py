"""What is evaluated: a catalogue, and queries with the products that are right."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import SetupError
from builders.catalogue import SAMPLE_CATALOGUE, CatalogueProduct, read_catalogue
from builders.quality.sets import products_from_grocery
from seed.records import CatalogRow
from seed.rows import read_catalog

LAYOUTS = (
    "a folder in the layout of the sample catalogue (products.jsonl whose lines have images and "
    "queries), a folder in the Grocery Store layout (train.txt, val.txt, classes.csv), or a .csv "
    "file with the columns product_id and image, text or both"
)

# What tells a folder's layout.
GROCERY_FILE, SAMPLE_FILE = "train.txt", "products.jsonl"


@dataclass(frozen=True)
class EvaluationQuery:
    """One query.

    Attributes:
        name: for reports.
        image: a photo; None: it has none.
        text: words; empty: it has none.
        product_ids: the right products, at least one.
        category: that of the first of them.
    """

    name: str
    image: Path | None
    text: str
    product_ids: frozenset[str]
    category: str


@dataclass(frozen=True)
class EvaluationSet:
    """A catalogue and queries; neither is empty.

    Attributes:
        name: for reports.
        rows: the products as the importer takes them.
        queries: in the order of their files.
        words: what the queries' texts are, for reports.
    """

    name: str
    rows: tuple[CatalogRow, ...]
    queries: tuple[EvaluationQuery, ...]
    words: str

    @property
    def most_images(self) -> int:
        """The largest number of pictures of one product."""
        return max(len(row.images) for row in self.rows)


def is_evaluation_set(path: Path) -> bool:
    """Whether a path has one of the ``LAYOUTS``, as far as names tell."""
    return path.suffix.lower() == ".csv" or any(
        (path / name).is_file() for name in (GROCERY_FILE, SAMPLE_FILE)
    )


def evaluation_set(
    dataset: Path | None, catalog: Path | None = None, iconic: bool = False
) -> EvaluationSet:
    """Read a set of any known layout.

    Args:
        dataset: see ``LAYOUTS``; None: the sample catalogue.
        catalog: the products of a .csv file of queries, in any layout that ``seed`` reads.
        iconic: of the Grocery Store layout, take the studio pictures as the only views.

    Raises:
        SetupError: nothing there is a known layout, or a line is wrong.
    """
    folder = SAMPLE_CATALOGUE if dataset is None else dataset
    grocery = (folder / GROCERY_FILE).is_file()
    if iconic and not grocery:
        raise SetupError(f"{folder} has no studio pictures; --iconic is for the Grocery layout")
    if folder.suffix.lower() == ".csv":
        if catalog is None:
            raise SetupError(f"{folder} lists queries; name their products' catalogue (CATALOG)")
        return _csv_set(folder, catalog)
    if grocery:
        return _set(
            folder.name + (", studio pictures" if iconic else ""),
            products_from_grocery(folder, iconic),
            {},
            "the category",
        )
    if (folder / SAMPLE_FILE).is_file():
        products = read_catalogue(folder)
        words = {_id(item): _attribute_words(item) for item in products}
        return _set(folder.name, products, words, "the attributes' values and the category")
    raise SetupError(f"{folder} cannot be evaluated; expected {LAYOUTS}")


def _set(
    name: str, products: Sequence[CatalogueProduct], words: dict[str, str], meaning: str
) -> EvaluationSet:
    """Products with held-out photos; words of a query are by product, else the category."""
    rows = tuple(
        CatalogRow(number, item.product, item.images) for number, item in enumerate(products, 1)
    )
    queries = tuple(
        EvaluationQuery(
            f"{path.parent.name}/{path.name}",
            path,
            words.get(_id(item), item.product["category"]),
            frozenset({_id(item)}),
            item.product["category"],
        )
        for item in products
        for path in item.queries
    )
    if not queries:
        raise SetupError(f"{name}: no product has a held-out photo; there is nothing to ask")
    return EvaluationSet(name, rows, queries, meaning)


def _id(item: CatalogueProduct) -> str:
    return str(item.product["product_id"])


def _attribute_words(item: CatalogueProduct) -> str:
    values = [word for word in item.product.get("attributes", {}).values() if isinstance(word, str)]
    return " ".join([*values, item.product["category"]])


def _csv_set(path: Path, catalog: Path) -> EvaluationSet:
    rows = []
    for row in read_catalog(catalog):
        if not isinstance(row, CatalogRow):
            raise SetupError(f"{catalog}, row {row.row}: {row.message}")
        rows.append(row)
    categories = {row.product["product_id"]: row.product["category"] for row in rows}
    queries = tuple(_csv_queries(path, categories))
    if not rows or not queries:
        raise SetupError(f"{path} and {catalog}: {len(queries)} queries on {len(rows)} products")
    return EvaluationSet(path.stem, tuple(rows), queries, "the column text")


def _csv_queries(path: Path, categories: dict[str, str]) -> Iterator[EvaluationQuery]:
    if not path.is_file():
        raise SetupError(f"{path} does not exist; expected {LAYOUTS}")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        columns = set(reader.fieldnames or ())
        if "product_id" not in columns or not columns & {"image", "text"}:
            raise SetupError(
                f"{path} has the columns {', '.join(sorted(columns)) or 'none'}; expected "
                "product_id and image, text or both"
            )
        for values in reader:
            place = f"{path}, line {reader.line_num}"
            wanted = (values["product_id"] or "").split()
            if not wanted:
                raise SetupError(f"{place}: no product_id")
            unknown = [word for word in wanted if word not in categories]
            if unknown:
                raise SetupError(f"{place}: product {unknown[0]!r} is not in the catalogue")
            picture = (values.get("image") or "").strip()
            image = path.parent / picture if picture else None
            if image is not None and not image.is_file():
                raise SetupError(f"{place}: the picture {image} does not exist")
            text = (values.get("text") or "").strip()
            if image is None and not text:
                raise SetupError(f"{place}: neither an image nor a text")
            yield EvaluationQuery(
                picture or text, image, text, frozenset(wanted), categories[wanted[0]]
            )
