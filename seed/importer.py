"""Sending a catalogue to the server, many products at a time.

To resume an import, run it again: the server recognises a product that has not changed and
answers ``unchanged`` without encoding its pictures anew, so what was done costs little.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO
from weakref import WeakValueDictionary

from product_match_client import ClientError, IngestResult, ServiceUnavailableError
from seed.pictures.links import LinkedPictures
from seed.records import BadRowError, CatalogRow, RowError
from seed.retries import RepeatedRequests, RetryPolicy, Sleep

DEFAULT_CONCURRENCY = 16
SHOWN_FAILURES = 5


class UpsertClient(Protocol):
    """What the importer needs of `AsyncProductMatchClient`."""

    async def upsert(
        self,
        product: dict[str, Any],
        images: Sequence[Path | bytes] | None = None,
        *,
        duplicates: str | None = None,
    ) -> IngestResult:
        """Create a product or replace it."""


@dataclass
class ImportCounts:
    """How many rows came to what end.

    Attributes:
        statuses: rows by the server's answer: created, updated, unchanged.
        failed: rows that could not be read or were not accepted.
        duplicates: rows with the same or nearly the same pictures as another product.
        without_pictures: rows that the server took and that have no picture; only words find
            their products.
        first_without_pictures: the first few of these, for people.
        first_failures: the first few of the failed rows, for people.
        stopped_by: why the import ended before its last row; None if it did not.
    """

    statuses: dict[str, int] = field(
        default_factory=lambda: {"created": 0, "updated": 0, "unchanged": 0}
    )
    failed: int = 0
    duplicates: int = 0
    without_pictures: int = 0
    first_without_pictures: list[CatalogRow] = field(default_factory=list)
    first_failures: list[RowError] = field(default_factory=list)
    stopped_by: ServiceUnavailableError | None = None

    @property
    def accepted(self) -> int:
        """Rows that the server took."""
        return sum(self.statuses.values())

    @property
    def done(self) -> int:
        """Rows that came to an end, good or bad."""
        return self.accepted + self.failed

    def __str__(self) -> str:
        parts = [f"{count} {status}" for status, count in self.statuses.items()]
        if self.duplicates:
            parts.append(f"{self.duplicates} with duplicates")
        if self.without_pictures:
            parts.append(f"{self.without_pictures} without pictures")
        return ", ".join([*parts, f"{self.failed} failed"])


class RowReport:
    """A JSONL file with a line for some of the rows.

    Each line is on disk as soon as it is written. The file is made anew by every import, so it
    is empty after one without such rows.

    Args:
        path: the file; None keeps no report.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> RowReport:
        if self._path is not None:
            # A row may hold what has no form in UTF-8, and is reported all the same.
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def is_kept(self) -> bool:
        """Whether there is a file."""
        return self._path is not None

    def write(self, row: int, product_id: str, **content: Any) -> None:
        """Add one row."""
        if self._file is None:
            return
        entry = {"row": row, "product_id": product_id, **content}
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._file.flush()


async def import_catalog(
    rows: Iterable[CatalogRow | RowError],
    client: UpsertClient,
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    retry: RetryPolicy | None = None,
    errors: Path | None = None,
    duplicates: Path | None = None,
    on_progress: Callable[[ImportCounts], None] | None = None,
    pictures: LinkedPictures | None = None,
    sleep: Sleep = asyncio.sleep,
) -> ImportCounts:
    """Send every row; those that fail are counted and reported, and the import goes on.

    At most ``concurrency`` rows are read ahead and in memory. Rows of one product are sent in
    their order, so that the last one counts. If a request is still refused after all attempts
    and meanwhile no other got through, the service is away, and the import stops: the rows
    that were under way are failures, the rest is not tried.

    Args:
        rows: from `seed.rows.read_catalog`; read as they are sent.
        client: sends them.
        concurrency: how many requests are under way at once.
        retry: for an unavailable service; None takes the defaults of `RetryPolicy`.
        errors: a report of the rows that failed, with the ``error`` of each, and of those that
            have no pictures, with a ``warning``.
        duplicates: a report of the rows whose pictures another product has, with its
            ``duplicates``; None does not let the server look for them, which costs it a search
            a picture.
        on_progress: called after each row.
        pictures: fetches those that rows link to; None: with the defaults of `LinkedPictures`.
        sleep: waits between attempts.

    Returns:
        The counts; ``stopped_by`` says if the import ended early.
    """
    async with pictures or LinkedPictures() as links:
        with RowReport(errors) as failures, RowReport(duplicates) as alike:
            run = _ImportRun(
                client, retry or RetryPolicy(), failures, alike, on_progress, links, sleep
            )
            source = iter(rows)
            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(run.work(source))
            return run.counts


class _ImportRun:
    """The state that the workers of one import share."""

    def __init__(
        self,
        client: UpsertClient,
        retry: RetryPolicy,
        failures: RowReport,
        alike: RowReport,
        on_progress: Callable[[ImportCounts], None] | None,
        pictures: LinkedPictures,
        sleep: Sleep,
    ) -> None:
        self.counts = ImportCounts()
        self._client = client
        self._failures = failures
        self._alike = alike
        self._on_progress = on_progress
        self._pictures = pictures
        self._requests = RepeatedRequests(retry, sleep)
        # A lock lives as long as a worker holds it or waits for it; asyncio's locks are fair,
        # which keeps the rows of one product in their order.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def work(self, source: Iterator[CatalogRow | RowError]) -> None:
        """Take rows from the source that all workers share, until it is empty."""
        for row in source:
            if isinstance(row, RowError):
                self._fail(row)
            else:
                lock = self._locks.setdefault(row.product["product_id"], asyncio.Lock())
                async with lock:
                    await self._send(row)
            if self._on_progress is not None:
                self._on_progress(self.counts)
            if self.counts.stopped_by is not None:
                return

    async def _send(self, row: CatalogRow) -> None:
        product_id = row.product["product_id"]
        try:
            images = await self._images(row)
            result = await self._requests.send(lambda: self._upsert(row, images))
        except (ClientError, BadRowError) as error:
            self._fail(RowError(row.row, product_id, str(error)))
            self.counts.stopped_by = self._requests.stopped_by
            return
        except Exception as error:  # whatever one row does to the client, the others are sent
            self._fail(RowError(row.row, product_id, f"{type(error).__name__}: {error}"))
            return
        statuses = self.counts.statuses
        statuses[result.status] = statuses.get(result.status, 0) + 1
        if not images:
            self.counts.without_pictures += 1
            if len(self.counts.first_without_pictures) < SHOWN_FAILURES:
                self.counts.first_without_pictures.append(row)
            self._failures.write(row.row, product_id, warning="imported without pictures")
        if result.details.get("duplicates"):
            self.counts.duplicates += 1
            self._alike.write(row.row, product_id, duplicates=result.details["duplicates"])

    async def _images(self, row: CatalogRow) -> tuple[Path | bytes, ...]:
        found = await asyncio.gather(*map(self._pictures.fetch, row.links), return_exceptions=True)
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
        return (*row.images, *row.embedded, *(item for item in found if isinstance(item, Path)))

    async def _upsert(self, row: CatalogRow, images: Sequence[Path | bytes]) -> IngestResult:
        mode = "report" if self._alike.is_kept else "never"
        return await self._client.upsert(row.product, images, duplicates=mode)

    def _fail(self, error: RowError) -> None:
        self.counts.failed += 1
        if len(self.counts.first_failures) < SHOWN_FAILURES:
            self.counts.first_failures.append(error)
        self._failures.write(error.row, error.product_id, error=error.message)
