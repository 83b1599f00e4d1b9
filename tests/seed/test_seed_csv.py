"""CSV as programs and people write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalogue_support import errors, ids, only_product, products, read, write

from bls_models.errors import SetupError
from seed.options import ReadOptions
from seed.rows import open_catalog

HEADER = "id,title,category,note"


def plain_rows(first: int, last: int) -> list[str]:
    return [f"{number},Mug {number},mugs,blue" for number in range(first, last + 1)]


class TestQuotes:
    def test_a_text_over_several_lines_is_one_field(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.csv",
            "id,title,category,description",
            '1,Mug,mugs,"<p>soft, warm, and',
            'blue</p>"',
            "2,Plate,plates,round",
        )
        rows = read(path)
        assert ids(rows) == ["1", "2"]
        assert [row.row for row in rows] == [2, 4]

    @pytest.mark.parametrize("opens", ['2,"Mug,mugs,blue', '"2,Mug,mugs,blue', '2,Mug,mugs,"blue'])
    @pytest.mark.parametrize(
        "closes", [None, '40,"Mug",mugs,blue', '40,Mug",mugs,blue', '40,Mug,mugs,"red, blue"']
    )
    def test_one_that_does_not_close_swallows_no_rows(
        self, tmp_path: Path, opens: str, closes: str | None
    ) -> None:
        later = [closes] if closes else ["40,Mug,mugs,blue"]
        lines = [HEADER, *plain_rows(1, 1), opens, *plain_rows(3, 39), *later, *plain_rows(41, 50)]
        rows = read(write(tmp_path / "a.csv", *lines))
        assert ids(rows) == [str(number) for number in range(1, 51) if number != 2]
        ((line, message),) = errors(rows)
        assert line == 3
        assert "a quote opens" in message
        assert "Expected quotes in pairs" in message

    def test_where_the_quote_opens_is_told(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", HEADER, '1,"Mug,mugs,blue', *plain_rows(2, 5))
        ((_, message),) = errors(read(path))
        assert (
            "in the column 'title' and does not close in a line like the others before" in message
        )

    def test_one_that_does_not_close_in_a_large_file_is_met_within_bounds(
        self, tmp_path: Path
    ) -> None:
        # Python's own reader gives up after 131,072 characters of one field.
        path = write(tmp_path / "a.csv", HEADER, '1,"Mug,mugs,blue', *plain_rows(2, 9000))
        rows = read(path)
        assert [line for line, _ in errors(rows)] == [2]
        assert len(ids(rows)) == 8999

    def test_a_field_that_is_too_long_is_an_error(self, tmp_path: Path) -> None:
        rows = read(write(tmp_path / "a.csv", HEADER, "1," + "x" * 200_000, *plain_rows(2, 2)))
        assert "not readable as CSV: field larger" in errors(rows)[0][1]
        assert ids(rows) == ["2"]


class TestVariants:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    @pytest.mark.parametrize("announced", [[], ["sep=;"], ['"sep=;"']])
    def test_excel_writes_it_in_several_ways(
        self, tmp_path: Path, end: str, mark: str, announced: list[str]
    ) -> None:
        lines = [*announced, "id;Name;Kategorie;Preis", "1;Täßchen;Tassen;9,50", '2;"A;B";x;7']
        lines[0] = mark + lines[0]
        path = write(tmp_path / "a.csv", *lines, end=end)
        assert open_catalog(path).description == "CSV with semicolons, UTF-8"
        assert [(item["name"], item["price"]) for item in products(path)] == [
            ("Täßchen", 9.5),
            ("A;B", 7.0),
        ]
        assert [row.row for row in read(path)] == [2 + len(announced), 3 + len(announced)]

    def test_the_header_may_come_again(self, tmp_path: Path) -> None:
        rows = read(write(tmp_path / "a.csv", HEADER, *plain_rows(1, 1), HEADER, *plain_rows(2, 2)))
        assert ids(rows) == ["1", "2"]
        assert errors(rows) == [(3, "repeats the header line; were files put together?")]

    def test_attributes_have_keys_that_the_server_takes(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "id,name,category,Größe (EU),色", "1,Mug,mugs,42,blue")
        assert only_product(path)["attributes"] == {"grosse_eu": 42, "column_2": "blue"}

    @pytest.mark.parametrize(
        "header",
        [
            "sku,product title,product type",
            "Artikelnummer,Bezeichnung,Warengruppe",
            "asin,nom,catégorie",
        ],
    )
    def test_columns_have_the_usual_names(self, tmp_path: Path, header: str) -> None:
        assert only_product(write(tmp_path / "a.csv", header, "1,Mug,mugs")) == {
            "product_id": "1",
            "name": "Mug",
            "category": "mugs",
            "attributes": {},
        }

    def test_a_person_says_what_other_names_mean(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "nr,what,name,secret", "1,Mug,Tarro,x")
        said = {"product_id": "nr", "name": "what", "maker": "name"}
        options = ReadOptions(said, left_out=frozenset({"secret"}), category="mugs")
        assert only_product(path, options) == {
            "product_id": "1",
            "name": "Mug",
            "category": "mugs",
            "attributes": {"maker": "Tarro"},
        }

    def test_a_column_may_be_several_fields_and_rows_may_be_numbered(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "label,image", "mug,http://x.example/a.jpg")
        said = {"product_id": "@row", "name": "label", "category": "label", "kind": "label"}
        assert only_product(path, ReadOptions(said)) == {
            "product_id": "2",
            "name": "mug",
            "category": "mug",
            "attributes": {"kind": "mug"},
        }


class TestEncodings:
    def test_a_row_of_another_encoding_fails_with_what_it_may_be(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.csv", HEADER, "1,Schüssel,x,y", *plain_rows(2, 3), encoding="cp1252"
        )
        rows = read(path)
        assert ids(rows) == ["2", "3"]
        ((line, message),) = errors(rows)
        assert line == 2
        assert "--encoding cp1252 ('1,Schüssel,x,y')" in message
        assert open_catalog(path).description == "CSV with commas, UTF-8 but for 1 lines"

    @pytest.mark.parametrize(
        ("name", "encoding"), [("Schüssel", "cp1252"), ("Чашка", "cp1251"), ("茶碗", "shift_jis")]
    )
    def test_the_option_reads_it(self, tmp_path: Path, name: str, encoding: str) -> None:
        path = write(tmp_path / "a.csv", HEADER, f"1,{name},x,y", encoding=encoding)
        assert only_product(path, ReadOptions(encoding=encoding))["name"] == name

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
    def test_a_byte_order_mark_says_it(self, tmp_path: Path, encoding: str) -> None:
        path = write(tmp_path / "a.csv", HEADER, "1,Schüssel,x,y", encoding=encoding)
        assert only_product(path)["name"] == "Schüssel"

    def test_a_wrong_option_is_seen_in_the_rows(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", HEADER, "1,Schüssel,x,y", *plain_rows(2, 2))
        rows = read(path, ReadOptions(encoding="ascii"))
        assert ids(rows) == ["2"]
        assert errors(rows) == [(2, "not ascii; is another --encoding right?")]

    @pytest.mark.parametrize(
        ("content", "encoding", "message"),
        [
            (b"id,title,category\n", "no-such", "'no-such' is no encoding; expected one such as"),
            (b"id,title,category\n", "hex", "'hex' is no encoding"),
            (b"id,title,category\n", "undefined", "'undefined' is no encoding"),
            (b"id,title,category\n", "a\0b", "is no encoding"),
            (b"id,title,category\n", "utf-16", "cannot be read as utf-16 .*another --encoding"),
            (b"id,title,category\n", "idna", "cannot be read as idna"),
            ("id,name,category\n".encode("utf-16-le"), "", "add --encoding utf-16-le, or save it"),
            ("id,Größe,category\n".encode("cp1252"), "", "the header is not UTF-8; .*cp1252"),
        ],
    )
    def test_what_must_be_said_is_said_at_once(
        self, tmp_path: Path, content: bytes, encoding: str, message: str
    ) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(content)
        with pytest.raises(SetupError, match=message):
            open_catalog(path, ReadOptions(encoding=encoding))
