"""What the catalogue tab makes of documents, forms and files, without a page or a server."""

from __future__ import annotations

import gzip
import json
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from serving_support import picture

from bls_models.errors import SetupError
from demo.__main__ import UPLOADS_VARIABLE
from demo.catalogue import import_run, import_words, words
from demo.catalogue.attributes import attribute_table, attributes_from_rows
from demo.catalogue.faults import FormError
from demo.catalogue.form import Form, document_from_form, price_text
from demo.catalogue.import_run import ReportedRow, check_unpacked, reported_rows
from demo.catalogue.import_section import read_options
from demo.catalogue.new_pictures import MOST_SHOWN, new_pictures
from demo.pictures import Picture
from product_match_client import IngestResult
from seed.importer import ImportCounts, RowReport

HOSTILE = "<img src=x onerror=alert(1)>\"' ${1+1} {{x}}"
STORED = {"product_id": "cup", "name": "Cup", "category": "mug", "revision": 3, "attributes": {}}


def form(**changed: Any) -> Form:
    filled = {
        "product_id": " cup ",
        "name": "Cup",
        "category": "mug",
        "description": "",
        "price": "",
        "currency": "",
        "attributes": "[]",
        "describe": False,
    }
    return Form(**(filled | changed))


class Text(HTMLParser):
    """The tags and the text of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.values: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


class TestForm:
    def test_what_is_empty_is_left_out(self) -> None:
        assert document_from_form(form(), None) == {
            "product_id": "cup",
            "name": "Cup",
            "category": "mug",
            "attributes": {},
        }

    def test_values_have_their_kinds(self) -> None:
        rows = [
            ["size", "number", "12"],
            ["weight", "number", "0.25"],
            ["code", "text", "007"],
            ["washable", "boolean", "true"],
            ["", "text", ""],
        ]
        document = document_from_form(
            form(price="59.90", currency="eur", attributes=json.dumps(rows)), None
        )
        assert document["price"] == 59.9
        assert document["currency"] == "EUR"
        assert document["attributes"] == {
            "size": 12,
            "weight": 0.25,
            "code": "007",
            "washable": True,
        }
        assert isinstance(document["attributes"]["size"], int)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([["size", "number", "big"]], "'size' is 'big'; expected a number"),
            ([["size", "number", "inf"]], "expected a number"),
            ([["", "text", "red"]], "no name"),
            ([["a", "text", "1"], ["a", "text", "2"]], "twice"),
        ],
    )
    def test_attributes_that_cannot_be_meant_are_refused(
        self, rows: list[list[str]], message: str
    ) -> None:
        with pytest.raises(FormError, match=message):
            attributes_from_rows(json.dumps(rows))

    @pytest.mark.parametrize(
        "text",
        ["{", "5", '[["a", "text"]]', '[["a", "text", 1]]', '[["a", "colour", "red"]]', "[" * 9999],
    )
    def test_what_is_no_table_of_attributes_is_refused(self, text: str) -> None:
        with pytest.raises(FormError, match="the attributes cannot be read"):
            attributes_from_rows(text)

    def test_a_price_that_is_none_is_refused(self) -> None:
        with pytest.raises(FormError, match="'12,5'; expected a number"):
            document_from_form(form(price="12,5"), None)

    @pytest.mark.parametrize(
        ("price", "text"), [(None, ""), (12.0, "12"), (59.9, "59.9"), (999999999999.0, "9" * 12)]
    )
    def test_a_price_is_shown_as_it_is_typed(self, price: float | None, text: str) -> None:
        assert price_text({"price": price}) == text

    @pytest.mark.parametrize(
        ("description", "describe", "sent"),
        [
            ("red cup", False, {"description": "red cup", "description_generated": True}),
            ("my cup", False, {"description": "my cup"}),
            ("", False, {"description": ""}),
            ("", True, {}),
        ],
    )
    def test_a_generated_description_stays_one_until_it_is_touched(
        self, description: str, describe: bool, sent: dict[str, Any]
    ) -> None:
        opened = {**STORED, "description": "red cup", "description_generated": True}
        document = document_from_form(form(description=description, describe=describe), opened)
        said = {name: document[name] for name in document if name.startswith("description")}
        assert said == sent


class TestHtml:
    def test_what_products_say_is_text(self) -> None:
        other = {**STORED, "product_id": "<b>", "name": HOSTILE, "images": [{"sha256": "a"}]}
        shown = {"a": Picture("data:,"), "b": Picture(reason=HOSTILE)}
        own = {**STORED, "name": HOSTILE, "images": [{"sha256": "b"}]}
        html = "".join(
            [
                words.notice(HOSTILE),
                words.heading({**STORED, "product_id": HOSTILE}),
                words.stored_pictures(own, shown),
                words.deletion(own),
                words.suggestion({"status": "busy", "text": HOSTILE, "reason": HOSTILE}),
                words.duplicates(
                    own,
                    [{"product_id": "<b>", "kind": "near", "cosine": 0.9812}],
                    {"<b>": other},
                    shown,
                ),
                attribute_table({HOSTILE: HOSTILE}),
                import_words.row_table([ReportedRow(2, HOSTILE, HOSTILE, True)], ImportCounts()),
                import_words.dry_run(HOSTILE),
            ]
        )
        page = Text(html)
        # One picture for each that is stored and can be shown, and none of the names'.
        assert page.tags.count("img") == 1
        assert "b" not in page.tags
        assert not {"onerror", "script"} & set(page.tags)
        assert page.text.count(HOSTILE) == 9
        assert page.values.count(HOSTILE) == 4

    def test_duplicates_stand_side_by_side(self) -> None:
        own = {**STORED, "images": [{"sha256": "a"}, {"sha256": "b"}]}
        html = words.duplicates(
            own,
            [
                {"product_id": "other", "kind": "exact", "cosine": 1.0},
                {"product_id": "gone", "kind": "near", "cosine": 0.9812},
            ],
            {"other": {**STORED, "product_id": "other", "images": [{"sha256": "a"}]}, "gone": None},
            {"a": Picture("data:,a"), "b": Picture("data:,b")},
        )
        page = Text(html)
        assert page.tags.count("figure") == 4
        assert page.tags.count("img") == 2 + 1 + 2
        assert "The same file (exact, cosine 1.000)" in page.text
        assert "(near, cosine 0.981): no longer there" in page.text
        assert {"other", "gone"} <= set(page.values)

    @pytest.mark.parametrize(
        ("result", "given", "said"),
        [
            (IngestResult("cup", "created", 1, {}), True, "Created cup, revision 1."),
            (IngestResult("cup", "updated", 4, {}), False, "Its picture stayed as it was."),
            (IngestResult("cup", "updated", 4, {}), True, "Its picture is what you sent."),
            (IngestResult("cup", "unchanged", 4, {}), False, "Nothing has changed"),
            (
                IngestResult("cup", "created", 1, {"degraded": ["duplicates"]}),
                True,
                "Nobody could look for duplicates",
            ),
            (
                IngestResult("cup", "created", 1, {"caption": {"status": "busy"}}),
                True,
                "The captioner is busy",
            ),
            (
                IngestResult("cup", "created", 1, {"caption": {"status": "ok"}}),
                True,
                "The server described its first picture.",
            ),
        ],
    )
    def test_an_outcome_says_what_became_of_everything(
        self, result: IngestResult, given: bool, said: str
    ) -> None:
        assert said in words.outcome(result, {**STORED, "images": [{"sha256": "a"}]}, given)

    @pytest.mark.parametrize(
        ("caption", "said"),
        [
            ({"status": "ok", "confidence": 0.951}, "confidence 0.95"),
            ({"status": "low_confidence", "confidence": 0.2, "text": "cup"}, "not sure"),
            ({"status": "low_confidence", "text": ""}, "no words"),
            ({"status": "unavailable", "reason": "not loaded"}, "(not loaded)"),
            ({"status": "new_status"}, "new_status"),
        ],
    )
    def test_what_became_of_a_caption_is_said_in_words(
        self, caption: dict[str, Any], said: str
    ) -> None:
        assert said in words.caption_words(caption)


class TestFiles:
    def test_options_are_those_of_the_importer(self) -> None:
        options = read_options("product_id=Article no\n\ncolour=Farbe", " cp1252 ", ",", "eur", "")
        assert options.columns == {"product_id": "Article no", "colour": "Farbe"}
        assert (options.encoding, options.decimal_mark, options.currency) == ("cp1252", ",", "EUR")
        with pytest.raises(FormError, match="is not NAME=COLUMN"):
            read_options("product_id", "", "", "", "")

    def test_a_file_that_is_too_large_unpacked_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(import_run, "MOST_UNPACKED", 1000)
        monkeypatch.setattr(import_run, "BLOCK_BYTES", 100)
        for size, is_fine in (1000, True), (1001, False):
            plain, packed, archive = (tmp_path / f"{size}{end}" for end in (".csv", ".gz", ".zip"))
            plain.write_bytes(b"x" * size)
            packed.write_bytes(gzip.compress(b"x" * size))
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packing:
                packing.writestr("list.csv", b"x" * size)
            check_unpacked(plain)
            for file in packed, archive:
                if is_fine:
                    check_unpacked(file)
                else:
                    with pytest.raises(SetupError, match="over 1000 bytes unpacked"):
                        check_unpacked(file)

    def test_a_packed_file_in_a_packed_file_is_refused(self, tmp_path: Path) -> None:
        inner = tmp_path / "inner.zip"
        with zipfile.ZipFile(inner, "w") as packing:
            packing.writestr("xl/workbook.xml", b"<x/>")
        outer = tmp_path / "outer.gz"
        outer.write_bytes(gzip.compress(inner.read_bytes()))
        with pytest.raises(SetupError, match="holds a packed file"):
            check_unpacked(outer)

    def test_rows_that_failed_come_first(self, tmp_path: Path) -> None:
        report = tmp_path / "report.jsonl"
        with RowReport(report) as rows:
            rows.write(2, "a", warning="imported without pictures")
            rows.write(3, "b", error="name is empty")
            rows.write(4, "", error="not UTF-8")
        assert reported_rows(report, 2) == [
            ReportedRow(3, "b", "name is empty", True),
            ReportedRow(4, "", "not UTF-8", True),
        ]
        assert reported_rows(report, 9)[2] == ReportedRow(
            2, "a", "imported without pictures", False
        )

    def test_a_stopped_import_says_how_to_go_on(self) -> None:
        said = import_words.summary(ImportCounts(failed=2), total=10, seconds=1.0)
        assert "2 rows in 1 s (2.0 rows/s)" in said
        assert "8 rows were not tried" in said


def test_new_pictures_are_shown_before_they_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(UPLOADS_VARIABLE, str(tmp_path))
    damaged = tmp_path / '<b>"cut off.png'
    damaged.write_bytes(picture(1)[:100])
    sound = tmp_path / "sound.png"
    sound.write_bytes(picture(1))
    html = new_pictures([str(damaged), *[str(sound)] * MOST_SHOWN])
    shown = html.split("<li>")[1:]
    assert len(shown) == MOST_SHOWN
    assert "&lt;b&gt;&quot;cut off.png: " in shown[0]
    assert "does not decode" in shown[0]
    assert all('<img class="pm-picture" src="data:image/webp;' in item for item in shown[1:])
    assert "and 1 more" in html
    assert new_pictures([]) == ""
