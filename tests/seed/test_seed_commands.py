"""The command line of ``python -m seed`` and what it prints."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from product_match_client import IngestResult, ServiceUnavailableError
from seed import import_command
from seed.__main__ import main
from seed.importer import ImportCounts
from seed.output import write_line
from seed.progress import duration_text, progress_lines, show_progress


class FakeClient:
    """Stands in for AsyncProductMatchClient; a name of "bad" is refused for good."""

    ready = True
    url = ""

    def __init__(self, url: str, timeout_s: float, headers: dict[str, str]) -> None:
        type(self).url = url

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def is_ready(self) -> bool:
        return self.ready

    async def upsert(
        self, product: dict[str, Any], images: Any = None, *, duplicates: str | None = None
    ) -> IngestResult:
        if product["name"] == "away":
            raise ServiceUnavailableError("away")
        return IngestResult(product["product_id"], "created", 1, {})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeClient]:
    kind = type("FakeClientOfOneTest", (FakeClient,), {})
    monkeypatch.setattr(import_command, "AsyncProductMatchClient", kind)
    monkeypatch.delenv("PRODUCT_MATCH_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return kind


def catalogue(folder: Path, *names: str) -> str:
    path = folder / "shop.csv"
    lines = [f"{number},{name},mugs\n" for number, name in enumerate(names)]
    path.write_text("id,name,category\n" + "".join(lines))
    (folder / "images").mkdir(exist_ok=True)
    for number in range(len(names)):
        (folder / "images" / f"{number}.jpg").write_bytes(b"picture")
    return str(path)


@pytest.mark.usefixtures("fake")
def test_an_import_ends_with_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", catalogue(tmp_path, "Mug", "Plate")]) == 0
    out = capsys.readouterr().out
    first, last = out.splitlines()
    assert first == f"reading {tmp_path}/shop.csv: CSV with commas, UTF-8"
    assert last.startswith("2 rows in ")
    assert last.endswith(": 2 created, 0 updated, 0 unchanged, 0 failed")
    assert (tmp_path / "import-errors.jsonl").read_text() == ""


@pytest.mark.usefixtures("fake")
def test_rows_without_pictures_are_told_and_are_no_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = catalogue(tmp_path, "Mug", "Plate")
    (tmp_path / "images" / "1.jpg").unlink()
    assert main(["import", path]) == 0
    printed = capsys.readouterr()
    assert "1 without pictures, 0 failed; the rows without pictures are in" in printed.out
    assert printed.err.startswith(f"seed: {path}, line 3 (1): no picture")
    entry = json.loads((tmp_path / "import-errors.jsonl").read_text())
    assert entry == {"row": 3, "product_id": "1", "warning": "imported without pictures"}


@pytest.mark.usefixtures("fake")
def test_a_failed_row_is_exit_status_1_and_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = tmp_path / "failures.jsonl"
    argv = ["import", catalogue(tmp_path, "Mug", ""), "--errors", str(errors)]
    assert main(argv) == 1
    printed = capsys.readouterr()
    assert f"1 failed; the failures are in {errors}" in printed.out
    assert printed.err == f"seed: {tmp_path}/shop.csv, line 3 (1): name is empty\n"
    entry = json.loads(errors.read_text())
    assert entry == {"row": 3, "product_id": "1", "error": "name is empty"}


@pytest.mark.usefixtures("fake")
def test_a_service_that_goes_away_stops_the_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seed.importer.RetryPolicy.attempts", 1)
    monkeypatch.setattr("seed.importer.RetryPolicy.delays_s", lambda self: iter(()))
    argv = ["import", catalogue(tmp_path, "away", "Mug"), "--concurrency", "1"]
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("seed: stopped, run it again to go on: away\n")
    assert "shop.csv, line 2 (0): away\n" in captured.err
    assert "0 created" in captured.out
    assert "1 failed, 1 not tried; the failures are in" in captured.out


@pytest.mark.usefixtures("fake")
def test_a_limit_sends_the_first_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", catalogue(tmp_path, *["Mug"] * 9), "--limit", "4"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("4 rows in ")


def test_the_url_comes_from_the_flag_or_the_environment(
    fake: type[FakeClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = catalogue(tmp_path, "Mug")
    main(["import", path])
    assert fake.url == "http://127.0.0.1:8000"
    monkeypatch.setenv("PRODUCT_MATCH_URL", "grpc://shop:8001")
    main(["import", path])
    assert fake.url == "grpc://shop:8001"
    main(["import", path, "--url", "shop:8000"])
    assert fake.url == "shop:8000"


def test_a_server_that_is_not_there_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    errors = str(tmp_path / "errors.jsonl")
    argv = ["import", catalogue(tmp_path, "Mug"), "--url", url, "--errors", errors]
    assert main(argv) == 1
    assert capsys.readouterr().err == f"seed: no server is ready at {url}; is it started?\n"


def test_an_unknown_layout_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(tmp_path / "nothing")]) == 1
    assert capsys.readouterr().err.startswith(f"seed: {tmp_path / 'nothing'} does not exist")


def test_a_dry_run_shows_what_would_be_sent_and_needs_no_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_command, "AsyncProductMatchClient", None)
    path = tmp_path / "shop.csv"
    path.write_text(
        "sku,Title,Group,Note\nm,Mug,mugs,\np,,plates,\nq,\udcff,x,\nb,Bowl,bowls,http://x/b.jpg\n",
        errors="surrogateescape",
    )
    (tmp_path / "M.Jpg").write_bytes(b"picture")
    argv = ["import", str(path), "--dry-run", "--leave-out", "Note", "--map", "category=Group"]
    assert main(argv) == 1
    first, columns, product, pictures, *rows, summary = capsys.readouterr().out.splitlines()
    assert first == f"reading {path}: CSV with commas, UTF-8 but for 1 lines"
    assert columns == (
        "columns: sku -> product_id, Title -> name, Group -> category; left out: Note"
    )
    assert '"product_id": "m", "name": "Mug", "category": "mugs"' in product
    assert pictures == f"its pictures: {tmp_path}/M.Jpg"
    assert rows[0] == "line 3 (p): name is empty"
    assert rows[1].startswith("line 4: not UTF-8; save the file as UTF-8, or add what it is: ")
    assert rows[2:] == ["line 5: no picture for b"]
    assert summary == (
        "4 rows: 2 would be sent, 2 failed, 1 without pictures, 0 links to pictures (not fetched)"
    )


@pytest.mark.usefixtures("fake")
def test_a_mapped_column_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", catalogue(tmp_path, "Mug"), "--map", "price=Preis"]) == 1
    assert capsys.readouterr().err.endswith(
        "shop.csv has no column 'Preis'; it has: id, name, category.\n"
    )


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["import"],
        ["import", "x", "--limit", "0"],
        ["import", "x", "--map", "id"],
        ["import", "x", "--map", "größe=x"],
        ["import", "x", "--decimal-mark", "'"],
        ["import", "x", "--concurrency", "a"],
    ],
)
def test_bad_arguments_are_exit_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def counts_of(created: int) -> ImportCounts:
    return ImportCounts({"created": created}, failed=0)


def test_progress_lines_come_every_few_seconds() -> None:
    times = iter([0.0, 1.0, 5.0, 6.0, 10.0])
    stream = io.StringIO()
    on_progress = progress_lines(1000, stream, seconds=5.0, clock=lambda: next(times))
    for created in (10, 50, 60, 100):
        on_progress(counts_of(created))
    assert stream.getvalue().splitlines() == [
        "50 of 1000 rows, 10.0 rows/s, 1 min 35 s left: 50 created, 0 failed",
        "100 of 1000 rows, 10.0 rows/s, 1 min 30 s left: 100 created, 0 failed",
    ]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with show_progress(10, stream) as on_progress:
        on_progress(counts_of(10))
    assert "10/10" in stream.getvalue()
    assert "10 created, 0 failed" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (42, "42 s"), (500, "8 min 20 s"), (3900, "1 h 05 min")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.usefixtures("fake")
def test_what_a_terminal_cannot_show_is_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "\\u001b[2J", "name": "Mug", "category": "mugs"}\n')
    assert main(["import", str(path)]) == 1
    assert capsys.readouterr().err.startswith(
        f"seed: {path}, line 1 (\\x1b[2J): product.product_id"
    )


def test_a_stream_of_another_encoding_gets_escapes() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write_line(stream, "Täßchen \ud83d \N{ELECTRIC LIGHT BULB}")
    stream.seek(0)
    assert stream.read() == "T\\xe4\\xdfchen \\ud83d \\U0001f4a1\n"
