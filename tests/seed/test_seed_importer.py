"""The import: its window, its retries and its reports, against a stand-in for the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from product_match_client import BadRequestError, IngestResult, ServiceUnavailableError
from seed.importer import ImportCounts, import_catalog
from seed.pictures.links import LinkedPictures
from seed.records import BadRowError, CatalogRow, RowError
from seed.retries import RetryPolicy

Answer = Callable[[str, int], str]
"""From a product's id and how often it was sent before: its status, or an exception."""


class FakeServer:
    """Answers upserts after a turn of the loop and watches how many are under way."""

    def __init__(self, answer: Answer = lambda product_id, attempt: "created") -> None:
        self.answer = answer
        self.sent: list[str] = []
        self.finished: list[dict[str, Any]] = []
        self.images: dict[str, Sequence[Path | bytes] | None] = {}
        self.alike: dict[str, list[dict[str, Any]]] = {}
        self.under_way = 0
        self.most_under_way = 0

    async def upsert(
        self,
        product: dict[str, Any],
        images: Sequence[Path | bytes] | None = None,
        *,
        duplicates: str | None = None,
    ) -> IngestResult:
        product_id = product["product_id"]
        attempt = self.sent.count(product_id)
        self.sent.append(product_id)
        self.images[product_id] = images
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            # the first version of a product takes longest, to let later ones overtake it
            for _ in range(20 if product.get("slow") else 2):
                await asyncio.sleep(0)
            status = self.answer(product_id, attempt)
        finally:
            self.under_way -= 1
        self.finished.append(product)
        details = {"duplicates": self.alike.get(product_id, [])} if duplicates == "report" else {}
        return IngestResult(product_id, status, 1, details)


def row(number: int, product_id: str | None = None, **fields: Any) -> CatalogRow:
    return CatalogRow(number, {"product_id": product_id or f"p{number}", **fields}, ())


def run(
    server: FakeServer, rows: Any, waits: list[float] | None = None, **options: Any
) -> ImportCounts:
    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)
        await asyncio.sleep(0)

    return asyncio.run(import_catalog(rows, server, sleep=sleep, **options))


def report_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def unavailable(*_: Any) -> str:
    raise ServiceUnavailableError("away")


def test_every_row_is_sent_with_its_pictures_and_counted() -> None:
    statuses = {"p1": "created", "p2": "updated", "p3": "unchanged", "p4": "unchanged"}
    server = FakeServer(lambda product_id, attempt: statuses[product_id])
    rows = [row(1), row(2), row(3), CatalogRow(4, {"product_id": "p4"}, (Path("a.jpg"),))]
    counts = run(server, rows)
    assert counts.statuses == {"created": 1, "updated": 1, "unchanged": 2}
    assert (counts.accepted, counts.failed, counts.done) == (4, 0, 4)
    assert str(counts) == "1 created, 1 updated, 2 unchanged, 3 without pictures, 0 failed"
    assert [row.row for row in counts.first_without_pictures] == [1, 2, 3]
    assert server.images["p4"] == (Path("a.jpg"),)
    assert counts.stopped_by is None


def test_no_rows_are_no_failure() -> None:
    assert run(FakeServer(), []).done == 0


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_window_bounds_requests_and_reading(concurrency: int) -> None:
    server = FakeServer()
    most_read_ahead = 0

    def rows() -> Iterator[CatalogRow]:
        nonlocal most_read_ahead
        for number in range(1, 101):
            most_read_ahead = max(most_read_ahead, number - len(server.finished))
            yield row(number)

    counts = run(server, rows(), concurrency=concurrency)
    assert counts.accepted == 100
    assert server.most_under_way == concurrency
    assert most_read_ahead <= concurrency


def test_rows_of_one_product_keep_their_order() -> None:
    server = FakeServer()
    versions = [row(n, "same", version=n, slow=n == 1) for n in range(1, 9)]
    run(server, [*versions, row(9)], concurrency=8)
    assert [product["version"] for product in server.finished if "version" in product] == [
        *range(1, 9)
    ]
    assert server.sent[1] == "p9" or server.finished[0] == {"product_id": "p9"}


def test_an_unavailable_service_is_tried_again_with_growing_waits() -> None:
    def answer(product_id: str, attempt: int) -> str:
        return unavailable() if attempt < 3 else "created"

    waits: list[float] = []
    server = FakeServer(answer)
    counts = run(server, [row(1)], waits)
    assert counts.accepted == 1
    assert server.sent == ["p1"] * 4
    assert waits == [0.5, 1.0, 2.0]


def test_waits_end_growing() -> None:
    policy = RetryPolicy(attempts=6, first_delay_s=1.0, longest_delay_s=5.0)
    assert list(policy.delays_s()) == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_bad_row_is_not_tried_again_and_the_import_goes_on(tmp_path: Path) -> None:
    def answer(product_id: str, attempt: int) -> str:
        if product_id == "p1":
            raise BadRequestError("price: got -1; expected 0 or more.")
        return "created"

    errors = tmp_path / "errors.jsonl"
    server = FakeServer(answer)
    rows = [row(1), RowError(2, "", "not JSON: Täßchen"), row(3)]
    counts = run(server, rows, errors=errors, concurrency=1)
    assert (counts.accepted, counts.failed) == (1, 2)
    assert server.sent == ["p1", "p3"]
    assert report_of(errors) == [
        {"row": 1, "product_id": "p1", "error": "price: got -1; expected 0 or more."},
        {"row": 2, "product_id": "", "error": "not JSON: Täßchen"},
        {"row": 3, "product_id": "p3", "warning": "imported without pictures"},
    ]


def test_failures_are_on_disk_as_they_happen(tmp_path: Path) -> None:
    errors = tmp_path / "errors.jsonl"
    lines_before_each_row = []

    def rows() -> Iterator[RowError]:
        for number in range(3):
            lines_before_each_row.append(len(report_of(errors)))
            yield RowError(number, "", "bad")

    run(FakeServer(), rows(), errors=errors, concurrency=1)
    assert lines_before_each_row == [0, 1, 2]


def test_the_report_is_of_this_import_only(tmp_path: Path) -> None:
    errors = tmp_path / "errors.jsonl"
    errors.write_text("old\n")
    run(FakeServer(), [CatalogRow(1, {"product_id": "p1"}, (Path("a.jpg"),))], errors=errors)
    assert errors.read_text() == ""


def test_a_row_that_alone_stays_unavailable_is_a_failure() -> None:
    def answer(product_id: str, attempt: int) -> str:
        return unavailable() if product_id == "p1" else "created"

    server = FakeServer(answer)
    counts = run(server, [row(n) for n in range(1, 51)], concurrency=2, retry=RetryPolicy(3))
    assert (counts.accepted, counts.failed) == (49, 1)
    assert counts.stopped_by is None


def test_a_service_that_stays_away_stops_the_import(tmp_path: Path) -> None:
    errors = tmp_path / "errors.jsonl"
    server = FakeServer(unavailable)
    rows = iter([row(n) for n in range(1, 1001)])
    counts = run(server, rows, errors=errors, concurrency=4, retry=RetryPolicy(3))
    assert str(counts.stopped_by) == "away"
    assert counts.failed == 4
    assert len(report_of(errors)) == 4
    assert len(list(rows)) == 1000 - 4


def test_progress_is_told_after_each_row() -> None:
    done = []
    run(FakeServer(), [row(1), row(2)], on_progress=lambda counts: done.append(counts.done))
    assert done == [1, 2]


def test_duplicates_are_looked_for_and_listed_where_a_file_is_given(tmp_path: Path) -> None:
    server, report = FakeServer(), tmp_path / "duplicates.jsonl"
    server.alike = {"p2": [{"product_id": "p1", "kind": "near", "cosine": 0.97}]}
    counts = run(server, [row(1), row(2)], duplicates=report)
    assert (counts.duplicates, str(counts)) == (
        1,
        "2 created, 0 updated, 0 unchanged, 1 with duplicates, 2 without pictures, 0 failed",
    )
    assert report_of(report) == [{"row": 2, "product_id": "p2", "duplicates": server.alike["p2"]}]
    assert run(server, [row(1), row(2)]).duplicates == 0, "they are not asked for"


def test_the_first_failures_are_kept_to_be_shown() -> None:
    counts = run(FakeServer(), [RowError(number, "", "no name") for number in range(9)])
    assert counts.failed == 9
    assert [failure.row for failure in counts.first_failures] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "error",
    [OSError("no file"), UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "half"), KeyError("x")],
)
def test_whatever_one_row_does_to_the_client_the_others_are_sent(
    tmp_path: Path, error: Exception
) -> None:
    def answer(product_id: str, attempt: int) -> str:
        if product_id == "p1":
            raise error
        return "created"

    errors = tmp_path / "errors.jsonl"
    counts = run(FakeServer(answer), [row(1), row(2)], errors=errors, concurrency=1)
    assert (counts.accepted, counts.failed) == (1, 1)
    assert report_of(errors)[0]["error"].startswith(type(error).__name__)


def test_what_has_no_form_in_utf8_is_reported_all_the_same(tmp_path: Path) -> None:
    errors = tmp_path / "errors.jsonl"
    counts = run(FakeServer(), [RowError(1, "lamp-\ud83d", "half"), row(2)], errors=errors)
    assert (counts.accepted, counts.failed) == (1, 1)
    assert report_of(errors)[0]["product_id"] == "lamp-\ud83d"


def test_pictures_are_sent_from_files_from_the_catalogue_and_from_links(tmp_path: Path) -> None:
    class Fetcher(LinkedPictures):
        async def fetch(self, url: str) -> Path:
            if "gone" in url:
                raise BadRowError(f"the picture {url}: 404 Not Found")
            return tmp_path / url.rpartition("/")[2]

    server = FakeServer()
    rows = [
        CatalogRow(1, {"product_id": "p1"}, (Path("a.jpg"),), (b"inside",), ("http://shop/b.jpg",)),
        CatalogRow(2, {"product_id": "p2"}, (), (), ("http://shop/b.jpg", "http://shop/gone.jpg")),
    ]
    counts = run(server, rows, pictures=Fetcher())
    assert server.images == {"p1": (Path("a.jpg"), b"inside", tmp_path / "b.jpg")}
    assert [str(failure.message) for failure in counts.first_failures] == [
        "the picture http://shop/gone.jpg: 404 Not Found"
    ]
    assert (counts.accepted, counts.without_pictures) == (1, 0)
