"""The import of a file that a visitor sent, in a thread of its own, by the project's importer."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bls_models.errors import SetupError
from demo.catalogue.import_pictures import RowPictures
from product_match_client import AsyncProductMatchClient
from seed.dry_run import check_catalog
from seed.importer import ImportCounts, import_catalog
from seed.options import ReadOptions
from seed.progress import progress_lines
from seed.readers.source import DAMAGED, ZIP_START, find_source
from seed.records import CatalogRow, RowError
from seed.rows import Catalog, open_catalog

SECONDS_BETWEEN_LINES = 0.25
# What an uploaded file may become: Excel's texts are in memory as a whole.
MOST_UNPACKED = 128 * 2**20
BLOCK_BYTES = 2**20
# A read that needs the key and finds nothing.
NO_PRODUCT = "-"


@dataclass(frozen=True)
class ReportedRow:
    """A row that failed, or that was taken with a warning.

    Attributes:
        row: where it is in the file.
        product_id: empty where it could not be read.
        said: why.
        failed: whether it is not in.
    """

    row: int
    product_id: str
    said: str
    failed: bool


class ImportRun:
    """One import, or a dry run. It may be stopped and asked for how far it is from another thread.

    A visitor's file reaches nothing of this machine: its pictures are links, which lead into no
    private network, and what the file itself holds.

    Args:
        file: what was uploaded.
        options: what its sender says of it.
        client: makes the client that sends the rows, which may write.
        errors: for the report of rows that failed, as JSONL.

    Attributes:
        total: rows in the file; 0 until they are counted, and in a dry run.
        done: rows that came to an end, or in a dry run were read.
        said: how far it is, as a line.
    """

    def __init__(
        self,
        file: Path,
        options: ReadOptions,
        client: Callable[[], AsyncProductMatchClient],
        errors: Path,
    ) -> None:
        self.total = 0
        self.done = 0
        self._file = file
        self._options = replace(options, no_folders=True)
        self._client = client
        self._errors = errors
        self._line = _LastLine()
        self._is_stopped = False

    @property
    def said(self) -> str:
        """See the class."""
        return self._line.text

    def stop(self) -> None:
        """Read no further rows; those under way are finished."""
        self._is_stopped = True

    def work(self) -> ImportCounts:
        """Import the file, in an event loop of its own.

        Raises:
            SetupError: the file has no known layout, or is too large unpacked.
            ClientError: the server does not answer, or the key may not write.
        """
        return asyncio.run(self._import())

    def dry_run(self) -> str:
        """Read the file as an import does, and tell what would be sent.

        Raises:
            SetupError: as `work`.
            ClientError: as `work`.
        """
        asyncio.run(self._ask_for_leave())
        told = io.StringIO()
        catalog = self._catalog()
        told.write(f"reading {self._file.name}: {catalog.description}\n")
        check_catalog(catalog, self._counted(catalog.rows()), told)
        if self._is_stopped:
            told.write("stopped before the end\n")
        return told.getvalue()

    async def _ask_for_leave(self) -> None:
        async with self._client() as client:
            await client.get(NO_PRODUCT)

    def _catalog(self) -> Catalog:
        try:
            check_unpacked(self._file)
            return open_catalog(self._file, self._options)
        except SetupError as error:
            # Where the file lies here is nothing for its sender.
            raise SetupError(str(error).replace(str(self._file), self._file.name)) from error

    async def _import(self) -> ImportCounts:
        # First, so that a fault of key or server is told once and not by each row, and nothing is
        # read for whoever may not write.
        await self._ask_for_leave()
        catalog = self._catalog()
        async with self._client() as client:
            self.total = catalog.count()
            show = progress_lines(self.total, self._line, SECONDS_BETWEEN_LINES)

            def on_progress(counts: ImportCounts) -> None:
                self.done = counts.done
                show(counts)

            with tempfile.TemporaryDirectory(prefix="linked-pictures-") as folder:
                pictures = RowPictures(Path(folder))
                return await import_catalog(
                    pictures.rows_with(self._until_stopped(catalog.rows())),
                    client,
                    errors=self._errors,
                    on_progress=on_progress,
                    pictures=pictures,
                )

    def _counted(self, rows: Iterable[CatalogRow | RowError]) -> Iterator[CatalogRow | RowError]:
        for row in self._until_stopped(rows):
            self.done += 1
            yield row

    def _until_stopped(
        self, rows: Iterable[CatalogRow | RowError]
    ) -> Iterator[CatalogRow | RowError]:
        for row in rows:
            if self._is_stopped:
                return
            yield row


def check_unpacked(file: Path) -> None:
    """Refuse a file that is much larger unpacked.

    Raises:
        SetupError: it is, or holds a packed file itself, or is damaged.
    """
    source = find_source(file)
    try:
        if source.packing and source.head().startswith(ZIP_START):
            raise SetupError(f"{file} holds a packed file; unpack it, and upload what is in it")
        if source.packing == "gzip":
            size = 0
            with source.open() as stream:
                while block := stream.read(BLOCK_BYTES):
                    size += len(block)
                    if size > MOST_UNPACKED:
                        break
        elif zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                size = sum(info.file_size for info in archive.infolist())
        else:
            return
    except DAMAGED as error:
        raise SetupError(f"{file} cannot be unpacked ({error}); copy it anew.") from error
    if size > MOST_UNPACKED:
        raise SetupError(
            f"{file} is over {MOST_UNPACKED} bytes unpacked; expected at most that, so split "
            "it, or import it with python -m seed import"
        )


def reported_rows(report: Path, most: int) -> list[ReportedRow]:
    """The first rows of an import's report, those that failed before those with a warning."""
    rows: list[ReportedRow] = []
    warned: list[ReportedRow] = []
    with report.open(encoding="utf-8") as lines:
        for line in lines:
            entry: dict[str, Any] = json.loads(line)
            failed = "error" in entry
            said = entry["error"] if failed else entry["warning"]
            kept = rows if failed else warned
            if len(kept) < most:
                kept.append(ReportedRow(entry["row"], entry["product_id"], said, failed))
    return (rows + warned)[:most]


class _LastLine(io.StringIO):
    """Keeps the last line that was written."""

    text = ""

    def write(self, text: str) -> int:
        self.text = text.strip()
        return len(text)
