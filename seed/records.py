"""What reading a catalogue yields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CatalogRow:
    """One product of a catalogue.

    Its pictures are sent in the order of the attributes.

    Attributes:
        row: the line of the file on which it starts; the first line is 1. What has no lines
            (Excel, Parquet, XML) counts rows or items.
        product: the document to upsert.
        images: the files of its pictures, which exist; may be empty.
        embedded: pictures that the catalogue itself holds, encoded (JPEG, PNG or WebP).
        links: http(s) addresses of pictures, which are fetched when the row is sent.
    """

    row: int
    product: dict[str, Any]
    images: tuple[Path, ...]
    embedded: tuple[bytes, ...] = ()
    links: tuple[str, ...] = ()

    @property
    def has_pictures(self) -> bool:
        """Whether there is a picture of any kind."""
        return bool(self.images or self.embedded or self.links)


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
