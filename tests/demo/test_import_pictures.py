"""Linked pictures of an import, from a server of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from demo.catalogue.import_pictures import RowPictures
from product_match_client import IngestResult
from seed.importer import import_catalog
from seed.records import CatalogRow

SIZE = 1000
KEPT = 5
WORKERS = 4


class Shop(BaseHTTPRequestHandler):
    """Has a picture at each address but those of what is gone."""

    def do_GET(self) -> None:
        self.send_response(404 if "gone" in self.path else 200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        self.wfile.write(bytes(SIZE))

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def shop() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Reader:
    """Reads what a row sends, a while after it was fetched, and notes how many files there are."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self._folder = folder

    async def upsert(
        self,
        product: dict[str, Any],
        images: Sequence[Path | bytes] | None = None,
        *,
        duplicates: str | None = None,
    ) -> IngestResult:
        await asyncio.sleep(0.01)
        self.most = max(self.most, len([*self._folder.iterdir()]))
        for image in images or ():
            assert isinstance(image, Path)
            assert image.stat().st_size == SIZE
        return IngestResult(product["product_id"], "created", 1, {})


def test_pictures_go_while_an_import_runs_but_none_that_is_still_to_be_read(
    shop: str, tmp_path: Path
) -> None:
    def links(row: int) -> tuple[str, ...]:
        own = (f"{shop}/{row}.jpg", f"{shop}/all.jpg", f"{shop}/{row // 10}-of-ten.jpg")
        return (*own, f"{shop}/gone-{row}.jpg") if row % 7 == 0 else own

    rows = (CatalogRow(row, {"product_id": f"p{row}"}, (), (), links(row)) for row in range(60))
    pictures = RowPictures(tmp_path, KEPT * SIZE, allow_private=True)
    reader = Reader(tmp_path)
    counts = asyncio.run(
        import_catalog(
            pictures.rows_with(rows),
            reader,
            errors=tmp_path.with_suffix(".jsonl"),
            pictures=pictures,
            concurrency=WORKERS,
        )
    )
    assert (counts.accepted, counts.failed) == (51, 9)
    assert all("404" in failure.message for failure in counts.first_failures)
    # A picture is a file and what is known about it; four of a row may be on their way.
    assert reader.most <= 2 * (KEPT + 4 * WORKERS)
