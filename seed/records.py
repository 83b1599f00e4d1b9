"""What reading a catalogue yields, and how its pictures are found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".JPG", ".JPEG", ".PNG", ".WEBP")


@dataclass(frozen=True)
class CatalogRow:
    """One product of a catalogue.

    Attributes:
        row: the line of the file on which it starts; the first line is 1.
        product: the document to upsert.
        images: the files of its pictures, which exist; may be empty.
    """

    row: int
    product: dict[str, Any]
    images: tuple[Path, ...]


@dataclass(frozen=True)
class RowError:
    """One row that is no product.

    Attributes:
        row: the line of the file on which it starts.
        product_id: empty where it could not be read.
        message: what is wrong, as a sentence.
    """

    row: int
    product_id: str
    message: str


CatalogRecords = Iterator[CatalogRow | RowError]


class BadRowError(Exception):
    """A row cannot be read; the readers turn it into a `RowError` and go on."""


def named_pictures(folder: Path, names: Sequence[Any]) -> tuple[Path, ...]:
    """The pictures that a row names.

    Args:
        folder: what the names are relative to.
        names: relative paths.

    Raises:
        BadRowError: one is no text or there is no such file.
    """
    pictures = []
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise BadRowError(f"images holds {name!r}; expected relative paths")
        picture = folder / name.strip()
        if not picture.is_file():
            raise BadRowError(f"the picture {name.strip()!r} is not in {folder}")
        pictures.append(picture)
    return tuple(pictures)


def default_pictures(folder: Path, product_id: str) -> tuple[Path, ...]:
    """The picture named after a product: ``images/<id>.*``, else ``<id>.*``; () without one.

    The names are tried one by one, since listing a folder of tens of thousands of pictures for
    each row would take hours; as plain text, since making a `Path` costs more than looking.
    """
    if os.path.basename(product_id) != product_id:
        return ()  # an id such as ../x is no file name
    for place in (folder / "images", folder):
        if not os.path.isdir(place):
            continue
        stem = os.path.join(place, product_id)
        for suffix in PICTURE_SUFFIXES:
            if os.path.isfile(stem + suffix):
                return (Path(stem + suffix),)
    return ()
