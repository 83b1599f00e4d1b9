"""Formats beside CSV, told by their content and not by their names."""

from __future__ import annotations

import datetime
import gzip
import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogue_support import errors, ids, only_product, products, read, touch, write

from bls_models.errors import SetupError
from seed.options import ReadOptions
from seed.readers import encodings
from seed.records import CatalogRow
from seed.rows import open_catalog

PRODUCTS: list[dict[str, Any]] = [
    {"sku": f"m{number}", "title": f"Mug {number}", "category": "mugs", "price": number + 0.5}
    for number in range(1, 4)
]


def json_text(count: int) -> list[str]:
    return [json.dumps({"id": str(n), "title": "Mug", "category": "mugs"}) for n in range(count)]


class TestJson:
    @pytest.mark.parametrize("indent", [None, 2])
    @pytest.mark.parametrize("key", ["", "products"])
    def test_an_array_is_read_in_any_form(
        self, tmp_path: Path, indent: int | None, key: str
    ) -> None:
        content = {"shop": "Tarro", key: PRODUCTS} if key else PRODUCTS
        path = write(tmp_path / "export", json.dumps(content, indent=indent))
        assert ids(read(path)) == ["m1", "m2", "m3"]
        assert open_catalog(path).description.startswith("JSON array")

    def test_rows_are_the_lines_on_which_they_start(self, tmp_path: Path) -> None:
        first, second = ['{"id": "1",', '"title": "Mug", "category": "c"},'], json_text(1)
        path = write(tmp_path / "a.json", "[", *first, '{"id": 5},', '7, "x",', *second, "]")
        rows = read(path)
        assert [row.row for row in rows] == [2, 4, 5, 5, 6]
        assert errors(rows)[1:] == [
            (5, "a JSON int; expected an object"),
            (5, "a JSON str; expected an object"),
        ]

    def test_an_array_longer_than_a_block_is_not_held(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.json", "[" + ", ".join(json_text(20_000)) + "]")
        assert len(ids(read(path))) == 20_000

    def test_many_elements_behind_a_long_one_are_read(self, tmp_path: Path) -> None:
        long = json.dumps({"id": "long", "title": "x" * 3_000_000, "category": "c"})
        rows = read(write(tmp_path / "a.json", "[" + ", ".join([long, *json_text(50_000)]) + "]"))
        assert len(ids(rows)) == 50_000
        assert errors(rows) == [
            (1, "name has 3000000 characters; expected at most 131072, HTML included")
        ]

    @pytest.mark.parametrize(
        ("rest", "message"),
        [
            (", {", "not JSON: .*nothing behind it can be read"),
            (", nul]", "not JSON"),
            ("", "the file ends within the array"),
            (', {"a": ' + "[" * 100_000, "nested too deeply"),
        ],
    )
    def test_damage_is_told_and_what_is_before_it_is_read(
        self, tmp_path: Path, rest: str, message: str
    ) -> None:
        rows = read(write(tmp_path / "a.json", "[" + ", ".join(json_text(3)) + rest))
        assert ids(rows) == ["0", "1", "2"]
        ((_, told),) = errors(rows)
        assert re.search(message, told)

    def test_a_line_nested_deeply_is_one_bad_row(self, tmp_path: Path) -> None:
        deep = '{"id": "d", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
        rows = read(write(tmp_path / "a.jsonl", *json_text(1), deep, *json_text(2)))
        assert ids(rows) == ["0", "0", "1"]
        assert errors(rows) == [(2, "JSON nested too deeply; expected an object of fields")]

    @pytest.mark.parametrize("place", ['"id": "lamp-\\ud83d"', '"id": "1", "a\\uD83D": 5'])
    def test_half_a_surrogate_pair_is_one_bad_row(self, tmp_path: Path, place: str) -> None:
        bad = f'{{{place}, "title": "Lamp", "category": "lamps"}}'
        rows = read(write(tmp_path / "a.jsonl", bad, *json_text(2)))
        assert ids(rows) == ["0", "1"]
        assert "half of a surrogate pair" in errors(rows)[0][1]

    def test_whole_surrogate_pairs_are_characters(self, tmp_path: Path) -> None:
        line = '{"id": "1", "title": "\\ud83d\\udca1", "category": "lamps"}'
        assert only_product(write(tmp_path / "a.jsonl", line))["name"] == "\N{ELECTRIC LIGHT BULB}"

    def test_a_number_without_end_is_one_bad_row(self, tmp_path: Path) -> None:
        bad = f'{{"id": "x", "title": "Lamp", "category": "c", "price": {"9" * 5000}}}'
        rows = read(write(tmp_path / "a.jsonl", bad, *json_text(1)))
        assert (ids(rows), errors(rows)[0][0]) == (["0"], 1)

    def test_a_line_without_end_is_not_held(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(encodings, "LONGEST_LINE", 200)
        rows = read(write(tmp_path / "a.jsonl", '{"id": "' + "x" * 500, *json_text(2)))
        assert ids(rows) == ["0", "1"]
        assert errors(rows) == [(1, "a line of over 200 characters; expected one product a line")]


class TestPacked:
    def test_gzip_is_seen_whatever_the_name(self, tmp_path: Path) -> None:
        for name, text in [("a.csv.gz", "id,title,category\n1,Mug,mugs\n"), ("b", json_text(1)[0])]:
            (tmp_path / name).write_bytes(gzip.compress(text.encode()))
            assert len(ids(read(tmp_path / name))) == 1
        assert open_catalog(tmp_path / "a.csv.gz").description == "CSV with commas, UTF-8, gzip"

    def test_a_cut_gzip_file_is_read_up_to_there_and_told(self, tmp_path: Path) -> None:
        text = "\n".join(json_text(50_000)).encode()
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text)[:-2000])
        rows = read(tmp_path / "a.jsonl.gz")
        assert len(ids(rows)) > 1000
        *_, last = rows
        assert "cannot be read, nor anything behind it: EOFError" in errors([last])[0][1]

    def test_a_zip_holds_a_catalogue_and_its_pictures(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("shop/README.txt", "notes")
            archive.writestr("shop/list.csv", "id,title,category,image\n1,Mug,c,A.JPG\n2,Cup,c,\n")
            archive.writestr("shop/Photos/a.jpg", b"first")
            archive.writestr("shop/Photos/2_2.PNG", b"third")
            archive.writestr("shop/Photos/2.png", b"second")
            archive.writestr("__MACOSX/shop/._list.csv", b"\0")
        rows = read(path)
        assert [row.embedded for row in rows if isinstance(row, CatalogRow)] == [
            (b"first",),
            (b"second", b"third"),
        ]
        assert open_catalog(path).description == "CSV with commas, UTF-8, zip shop/list.csv"

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["a.csv", "b.csv"], "holds a.csv, b.csv; expected exactly one"),
            (["a.jpg"], "holds no catalogue"),
            (["content.xml", "mimetype"], "is an OpenDocument file; save it as .xlsx"),
        ],
    )
    def test_other_archives_are_told(self, tmp_path: Path, names: list[str], message: str) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        with pytest.raises(SetupError, match=message):
            open_catalog(tmp_path / "a.zip")


def workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


class TestExcel:
    def test_a_sheet_is_read_with_its_rows_numbers(self, tmp_path: Path) -> None:
        rows = [
            [None],
            ["Art.-Nr.", "Titel", "Kategorie", "Preis", "seit", "neu"],
            [1163.0, "Tasse", "Tassen", 9.5, datetime.date(2024, 5, 1), True],
            [None, " ", None],
            ["x-1", "Teller", "Teller", "12,50 €", None, None],
            [7, "#N/A", "Teller", 5, None, None],
        ]
        path = workbook(tmp_path / "list.bin", {"empty": [], "Artikel": rows})
        first, second, bad = read(path)
        assert isinstance(first, CatalogRow)
        assert isinstance(second, CatalogRow)
        assert first.product == {
            "product_id": "1163",
            "name": "Tasse",
            "category": "Tassen",
            "price": 9.5,
            "attributes": {"seit": "2024-05-01T00:00:00", "neu": True},
        }
        assert (second.product["price"], second.product["currency"]) == (12.5, "EUR")
        assert errors([bad]) == [(6, "a cell holds the error #N/A; expected a value")]
        assert (first.row, second.row) == (3, 5)
        catalog = open_catalog(path)
        assert (catalog.description, catalog.unit) == ("Excel, sheet 'Artikel'", "row")

    def test_a_person_names_the_sheet(self, tmp_path: Path) -> None:
        head = ["id", "title", "category"]
        path = workbook(
            tmp_path / "a.xlsx", {"old": [head, ["1", "A", "c"]], "new": [head, ["2", "B", "c"]]}
        )
        assert ids(read(path)) == ["1"]
        assert ids(read(path, ReadOptions(sheet="new"))) == ["2"]
        with pytest.raises(SetupError, match="has no sheet 'x'; it has: old, new"):
            open_catalog(path, ReadOptions(sheet="x"))

    @pytest.mark.parametrize("sheets", [{"a": []}, {"a": [["id", "title"], ["1", "A"]]}])
    def test_a_sheet_without_what_is_needed_is_told(
        self, tmp_path: Path, sheets: dict[str, list[list[Any]]]
    ) -> None:
        path = workbook(tmp_path / "a.xlsx", sheets)
        with pytest.raises(SetupError, match=r"no sheet with rows|it also needs: category"):
            open_catalog(path)

    def test_a_damaged_one_is_told(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
            archive.writestr("xl/workbook.xml", "no")
        with pytest.raises(SetupError, match="cannot be read as an Excel workbook"):
            open_catalog(tmp_path / "a.xlsx")


class TestParquet:
    def test_a_data_set_has_pictures_and_names_of_classes(self, tmp_path: Path) -> None:
        labels = {
            "info": {"features": {"label": {"names": ["cups", "mugs"], "_type": "ClassLabel"}}}
        }
        table = pa.table(
            {
                "id": [1, 2],
                "title": ["Mug", "Cup"],
                "label": [1, 0],
                "image": [{"bytes": b"one", "path": "1.jpg"}, {"bytes": b"two", "path": None}],
                "embedding": [[0.5, 1.0], [1.0, 0.5]],
                "price": pa.array(["5.25", None], pa.string()),
            }
        ).replace_schema_metadata({"huggingface": json.dumps(labels)})
        pq.write_table(table, tmp_path / "train")
        rows = read(tmp_path / "train")
        assert [row.product for row in rows if isinstance(row, CatalogRow)] == [
            {"product_id": "1", "name": "Mug", "category": "mugs", "price": 5.25, "attributes": {}},
            {"product_id": "2", "name": "Cup", "category": "cups", "attributes": {}},
        ]
        assert [row.embedded for row in rows if isinstance(row, CatalogRow)] == [
            (b"one",),
            (b"two",),
        ]
        assert open_catalog(tmp_path / "train").description == "Parquet"

    def test_several_pictures_and_other_kinds_of_values(self, tmp_path: Path) -> None:
        pictures = [[{"bytes": b"a", "path": "a"}, {"bytes": b"b", "path": "b"}]]
        table = pa.table(
            {
                "sku": ["1"],
                "name": ["Mug"],
                "category": ["mugs"],
                "images": pictures,
                "seen": [datetime.datetime(2024, 5, 1)],
                "stock": [float("nan")],
            }
        )
        pq.write_table(table, tmp_path / "a.parquet")
        assert "attribute stock is nan" in errors(read(tmp_path / "a.parquet"))[0][1]
        (row,) = read(tmp_path / "a.parquet", ReadOptions(left_out=frozenset({"stock"})))
        assert isinstance(row, CatalogRow)
        assert row.embedded == (b"a", b"b")
        assert row.product["attributes"] == {"seen": "2024-05-01 00:00:00"}

    def test_the_files_of_a_data_set_are_read_together(self, tmp_path: Path) -> None:
        for part in range(2):
            rows = [{"id": f"{part}-{n}", "title": "Mug", "category": "c"} for n in range(20)]
            pq.write_table(
                pa.Table.from_pylist(rows), tmp_path / f"train-{part:05}-of-00002.parquet"
            )
        rows_read = read(tmp_path)
        assert ids(rows_read) == [f"{part}-{n}" for part in range(2) for n in range(20)]
        assert [row.row for row in rows_read] == list(range(1, 41))
        assert open_catalog(tmp_path).description == "Parquet, 2 files"
        (tmp_path / "train-00001-of-00002.parquet").unlink()
        with pytest.raises(SetupError, match=r"train-00001-of-00002\.parquet is missing"):
            open_catalog(tmp_path)

    def test_a_damaged_one_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"\0" * 100)
        with pytest.raises(SetupError, match="cannot be read as Parquet"):
            open_catalog(tmp_path / "a.parquet")

    def test_without_pyarrow_it_is_told_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pq.write_table(pa.table({"id": ["1"]}), tmp_path / "a.parquet")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(SetupError, match=r"pip install -e '\.\[parquet\]'"):
            open_catalog(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7", "is a PDF; export the table itself"),
        (b"\xff\xd8\xff\xe0", "is a picture; expected CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old or protected Excel file; save it as .xlsx"),
        (b"<!DOCTYPE html><html></html>", "is a web page; was it saved in place of the file"),
        (b"<?xml version='1.0'?><a><b/></a>", "XML without products"),
        (b'{"a": \n1}', "JSON without an array of products"),
        (b"\x1f\x8b\x08\x00nonsense", "cannot be unpacked"),
        (b"PK\x03\x04nonsense", "is a damaged zip archive"),
        (b" \n\n", "is empty"),
    ],
)
def test_what_is_no_catalogue_is_told_with_what_to_do(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(SetupError, match=message):
        open_catalog(tmp_path / "a.csv")


def parquet_of(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(PRODUCTS), path)


def excel_of(path: Path) -> None:
    workbook(path, {"a": [list(PRODUCTS[0]), *(list(item.values()) for item in PRODUCTS)]})


@pytest.mark.parametrize("make", [parquet_of, excel_of])
@pytest.mark.parametrize("packing", ["gzip", "zip"])
def test_what_is_read_from_its_end_may_be_packed_too(
    tmp_path: Path, make: Callable[[Path], None], packing: str
) -> None:
    suffix = {parquet_of: ".parquet", excel_of: ".xlsx"}[make]
    plain, packed = tmp_path / f"list{suffix}", tmp_path / "packed"
    make(plain)
    if packing == "gzip":
        packed.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(plain, plain.name)
    assert [(item["product_id"], item["price"]) for item in products(packed)] == [
        ("m1", 1.5),
        ("m2", 2.5),
        ("m3", 3.5),
    ]


def test_a_folder_with_one_of_them_is_a_catalogue(tmp_path: Path) -> None:
    parquet_of(tmp_path / "list.parquet")
    touch(tmp_path, "notes.txt", "~$list.xlsx")
    assert len(ids(read(tmp_path))) == 3
