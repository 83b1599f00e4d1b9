"""Pictures with what a caption of them should say."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import SetupError
from builders.caption_training.phrases import GARMENTS, phrase, product_words
from builders.catalogue import CatalogueProduct

COLOURS_FILE = Path(__file__).with_name("clothing_colours.csv")


@dataclass(frozen=True)
class Sample:
    """One picture.

    Attributes:
        picture: the file.
        noun: what it shows.
        colours: each is right; the first one is trained on. Empty: not known.
        pattern: as a caption says it; empty: none, or not known.
        palette: whether the colour is one of the renderer's palette, so that its value is known.
    """

    picture: Path
    noun: str
    colours: tuple[str, ...]
    pattern: str = ""
    palette: bool = False

    @property
    def caption(self) -> str:
        """What is trained on."""
        return self.caption_with(self.colours[0] if self.colours else None)

    def caption_with(self, colour: str | None) -> str:
        """What is trained on where the picture has been given another colour."""
        return phrase(colour or "", self.noun, self.pattern)


def product_samples(products: Iterable[CatalogueProduct], queries: bool = True) -> list[Sample]:
    """Pictures of rendered products.

    Args:
        products: of a catalogue that the renderer has written.
        queries: also the photos that are not in the catalogue.

    Raises:
        SetupError: a product's attributes are not those of the renderer.
    """
    samples = []
    for item in products:
        try:
            colour, pattern, noun = product_words(item.product)
        except KeyError as error:
            raise SetupError(
                f"product {item.product.get('product_id')} has no {error} that a caption can "
                "name; give catalogues of `python -m seed.render`"
            ) from error
        pictures = (*item.images, *(item.queries if queries else ()))
        samples += [Sample(picture, noun, (colour,), pattern, True) for picture in pictures]
    return samples


def split_by_product(
    products: Sequence[CatalogueProduct],
) -> tuple[list[CatalogueProduct], list[CatalogueProduct]]:
    """Products to train on, and the last one of each category, held out."""
    last = {item.product["category"]: item.product["product_id"] for item in products}
    held_out = set(last.values())
    train: list[CatalogueProduct] = []
    test: list[CatalogueProduct] = []
    for item in products:
        (test if item.product["product_id"] in held_out else train).append(item)
    return train, test


def clothing_samples(folder: Path, split: str) -> list[Sample]:
    """Photos of the clothing data set, with the colours that people gave them.

    Args:
        folder: holds ``train``, ``validation`` and ``test`` with a folder a class.
        split: one of these.

    Raises:
        SetupError: a class has no photos there.
    """
    labels = _clothing_labels(COLOURS_FILE)
    samples = []
    for name, noun in GARMENTS.items():
        photos = sorted((folder / split / name).glob("*.jpg"))
        if not photos:
            raise SetupError(
                f"{folder / split / name} holds no .jpg photos; give the folder of the clothing "
                "data set, with train, validation and test and a folder for each class in them"
            )
        for photo in photos:
            colours, pattern = labels.get(f"{split}/{name}/{photo.name}", ((), ""))
            samples.append(Sample(photo, noun, colours, pattern))
    return samples


def _clothing_labels(path: Path) -> Mapping[str, tuple[tuple[str, ...], str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return {
            row["photo"]: (tuple(row["colours"].split("|")), row["pattern"])
            for row in csv.DictReader(stream)
        }
