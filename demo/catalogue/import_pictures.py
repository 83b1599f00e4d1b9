"""Linked pictures of an import, of which so many stay on the disk as fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path

from cachetools import LRUCache

from seed.pictures.links import LinkedPictures
from seed.records import CatalogRow, RowError

# Rows often share pictures, as variants of a product do.
MOST_BYTES = 128 * 2**20

# Links of the row that a worker of the import has under way. Each worker is a task of its own.
_links_of_row: ContextVar[list[str]] = ContextVar("links_of_row")


class RowPictures(LinkedPictures):
    """Fetches pictures for rows of `rows_with`, and deletes them some time after their rows.

    Those of rows under way always stay.

    Args:
        folder: for the pictures, empty at first.
        most_bytes: of pictures whose rows are over, together.
        allow_private: whether links may lead into private networks.
    """

    def __init__(
        self, folder: Path, most_bytes: int = MOST_BYTES, *, allow_private: bool = False
    ) -> None:
        super().__init__(folder, allow_private=allow_private)
        # By their links: how many rows under way want a picture, and the files of the others.
        self._wanted: Counter[str] = Counter()
        self._idle = _Idle(most_bytes)
        self._files: dict[str, Path] = {}

    def rows_with(self, rows: Iterable[CatalogRow | RowError]) -> Iterator[CatalogRow | RowError]:
        """The rows. The worker that takes one is through with the one that it took before."""
        for row in rows:
            self._let_go(_links_of_row.get([]))
            _links_of_row.set([])
            yield row

    async def fetch(self, url: str) -> Path:
        """As `LinkedPictures.fetch`."""
        link = url.strip()
        _links_of_row.get().append(link)
        self._wanted[link] += 1
        # It may be there still, and is kept if it is the same.
        file = self._idle.pop(link, None)
        if file is not None:
            self._files[link] = file
        self._files[link] = await super().fetch(link)
        return self._files[link]

    def _let_go(self, links: Iterable[str]) -> None:
        for link in links:
            self._wanted[link] -= 1
            if not self._wanted[link]:
                del self._wanted[link]
                # None where it could not be fetched.
                file = self._files.pop(link, None)
                if file is not None:
                    self._idle[link] = file


class _Idle(LRUCache[str, Path]):
    """Files by their links; those that make room are deleted, with what is known about them."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(most_bytes, getsizeof=lambda file: file.stat().st_size)

    def popitem(self) -> tuple[str, Path]:
        """Delete the one that came first."""
        link, file = super().popitem()
        for path in file, file.with_name(f"{file.name}.json"):
            path.unlink(missing_ok=True)
        return link, file
