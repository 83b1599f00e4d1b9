"""Reading catalogues of every layout."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from catalogue_support import only_product, pictures_of, read, touch, write

from bls_models.errors import SetupError
from seed.rows import CatalogRow, RowError, read_catalog

STYLES_HEADER = (
    "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,"
    "productDisplayName"
)


def message_of(row: CatalogRow | RowError) -> str:
    assert isinstance(row, RowError), row
    return row.message


class TestSampleCatalogue:
    def test_products_are_read_with_their_pictures(self, tmp_path: Path) -> None:
        product = {
            "product_id": "mug-1",
            "name": "Täßchen",
            "description": "A mug.",
            "category": "mugs",
            "price": 9.9,
            "currency": "EUR",
            "attributes": {"colour": "blue", "litres": 0.3, "lid": False},
        }
        extra = {"images": ["images/a.jpg", "images/b.jpg"], "queries": ["blue mug"]}
        write(tmp_path / "products.jsonl", json.dumps({**product, **extra}, ensure_ascii=False))
        write(tmp_path / "other.csv", "id,name,category")
        touch(tmp_path, "images/a.jpg", "images/b.jpg")
        (row,) = read(tmp_path)
        assert isinstance(row, CatalogRow)
        assert row.product == product
        assert pictures_of(row, tmp_path) == ["images/a.jpg", "images/b.jpg"]
        assert row.row == 1


class TestFashionSet:
    def test_a_row_becomes_a_product(self, tmp_path: Path) -> None:
        write(
            tmp_path / "styles.csv",
            STYLES_HEADER,
            "15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Shirt",
        )
        touch(tmp_path, "images/15970.jpg")
        (row,) = read(tmp_path)
        assert isinstance(row, CatalogRow)
        assert row.product == {
            "product_id": "15970",
            "name": "Turtle Check Shirt",
            "description": "Navy blue shirts for men, casual wear, fall 2011.",
            "category": "Shirts",
            "attributes": {
                "gender": "Men",
                "master_category": "Apparel",
                "sub_category": "Topwear",
                "colour": "Navy Blue",
                "season": "Fall",
                "year": 2011,
                "usage": "Casual",
            },
        }
        assert pictures_of(row, tmp_path) == ["images/15970.jpg"]
        assert row.row == 2

    def test_commas_without_quotes_belong_to_the_name(self, tmp_path: Path) -> None:
        write(
            tmp_path / "styles.csv",
            STYLES_HEADER,
            "1,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,Shirt, blue, large",
            '2,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,"Shirt, red"',
        )
        names = [row.product["name"] for row in read(tmp_path) if isinstance(row, CatalogRow)]
        assert names == ["Shirt, blue, large", "Shirt, red"]

    def test_unknown_values_are_left_out(self, tmp_path: Path) -> None:
        write(tmp_path / "styles.csv", STYLES_HEADER, "1,,Home,,Vases,NA,,,NA,Vase")
        product = only_product(tmp_path)
        assert product["attributes"] == {"master_category": "Home"}
        assert product["description"] == "Vases."

    def test_a_missing_picture_leaves_a_product_without_one(self, tmp_path: Path) -> None:
        row = "12347,Unisex,Accessories,Bags,Backpacks,Black,Summer,2012,Travel,Backpack"
        path = write(tmp_path / "styles.csv", STYLES_HEADER, row)
        (result,) = read(path)
        assert pictures_of(result, tmp_path) == []

    def test_a_row_without_name_or_id_is_an_error(self, tmp_path: Path) -> None:
        write(
            tmp_path / "styles.csv",
            STYLES_HEADER,
            "1,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,",
            ",Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,Shirt",
            "3,Men,Apparel",
        )
        assert read(tmp_path) == [
            RowError(2, "1", "name is empty"),
            RowError(3, "", "product_id is empty"),
            RowError(4, "3", "name is empty"),
        ]


class TestCsvFiles:
    def test_columns_are_fields_or_attributes(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "shop.csv",
            "SKU,Title,Description,Category,Price,Currency,Main Colour,Size (EU),new,code,note",
            '007,Mug,"A mug,\nblue",mugs,9.90,EUR,blue,42,TRUE,0012,',
        )
        assert only_product(path) == {
            "product_id": "007",
            "name": "Mug",
            "description": "A mug,\nblue",
            "category": "mugs",
            "price": 9.9,
            "currency": "EUR",
            "attributes": {"main_colour": "blue", "size_eu": 42, "new": True, "code": "0012"},
        }

    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "id,name,category", "1,Täßchen,mugs", encoding="utf-8-sig")
        assert only_product(path)["name"] == "Täßchen"

    @pytest.mark.parametrize("delimiter", [";", "\t"])
    def test_other_delimiters_are_seen(self, tmp_path: Path, delimiter: str) -> None:
        lines = [
            line.replace("|", delimiter)
            for line in ("id|name|price|category", "1|Mug, blue|9.5|mugs")
        ]
        product = only_product(write(tmp_path / "a.csv", *lines))
        assert (product["name"], product["price"]) == ("Mug, blue", 9.5)

    def test_of_two_ids_the_other_is_an_attribute(self, tmp_path: Path) -> None:
        product = only_product(write(tmp_path / "a.csv", "sku,id,name,category", "S-1,1,Mug,mugs"))
        assert product["product_id"] == "1"
        assert product["attributes"] == {"sku": "S-1"}

    def test_a_column_without_header_is_left_out(self, tmp_path: Path) -> None:
        product = only_product(write(tmp_path / "a.csv", ",id,name,category", "0,1,Mug,mugs"))
        assert product["attributes"] == {}

    @pytest.mark.parametrize(
        ("cell", "names"),
        [
            ("a.jpg", ["a.jpg"]),
            ("a.jpg | b.png", ["a.jpg", "b.png"]),
            ('"[""a.jpg"", ""b.png""]"', ["a.jpg", "b.png"]),
        ],
    )
    def test_pictures_are_named_in_several_ways(
        self, tmp_path: Path, cell: str, names: list[str]
    ) -> None:
        touch(tmp_path, "a.jpg", "b.png")
        write(tmp_path / "a.csv", "id,name,image,category", f"1,Mug,{cell},mugs")
        (row,) = read(tmp_path)
        assert pictures_of(row, tmp_path) == names

    @pytest.mark.parametrize("name", ["images/x.png", "x.JPG", "images/x.webp"])
    def test_pictures_are_found_by_the_id(self, tmp_path: Path, name: str) -> None:
        touch(tmp_path, name)
        write(tmp_path / "a.csv", "id,name,images,category", "x,Mug,,mugs")
        (row,) = read(tmp_path)
        assert pictures_of(row, tmp_path) == [name]

    def test_an_id_that_is_a_path_finds_no_picture(self, tmp_path: Path) -> None:
        touch(tmp_path, "secret.jpg", "shop/images/y.jpg", "shop/other/secret.jpg")
        path = write(tmp_path / "shop" / "a.csv", "id,name,category", "secret,Mug,m", "..,Mug,m")
        assert [pictures_of(row, tmp_path) for row in read(path)] == [[], []]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (",Mug,,,c", "product_id is empty"),
            ("1,,,,c", "name is empty"),
            ("1,Mug", "category is empty; --category gives"),
            ("1,Mug,cheap,,c", "price is 'cheap'; expected a number"),
            ("1,Mug,1,no.jpg,c", "the picture 'no.jpg' is not in"),
            ("1,Mug,1,[no,c", "images is not JSON"),
            ("1,Mug,1,[1],c", "images holds 1; expected paths"),
            ("1 2,Mug,1,,c", "product.product_id: '1 2'; expected a string of 1 to 128"),
            ("1,Mug, blue,1,,", "6 fields, but 5 columns"),
        ],
    )
    def test_a_bad_row_is_an_error_and_the_next_is_read(
        self, tmp_path: Path, line: str, message: str
    ) -> None:
        path = write(tmp_path / "a.csv", "id,name,price,images,category", line, "", "2,Plate,3,,c")
        bad, good = read(path)
        assert message in message_of(bad)
        assert isinstance(good, CatalogRow)
        assert (bad.row, good.row) == (2, 4)


class TestJsonlFiles:
    def test_other_keys_are_attributes(self, tmp_path: Path) -> None:
        line = {
            "id": 17,
            "Title": "Mug",
            "price": "9.90",
            "category": "mugs",
            "maxLoad": 3,
            "code": "12",
            "attributes": {"lid": True, "note": None},
        }
        assert only_product(write(tmp_path / "a.jsonl", json.dumps(line))) == {
            "product_id": "17",
            "name": "Mug",
            "price": 9.9,
            "category": "mugs",
            "attributes": {"maxLoad": 3, "code": "12", "lid": True},
        }

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "not JSON"),
            ("[1]", "a JSON list; expected an object"),
            ('{"id": 1.5, "name": "Mug", "category": "c"}', "product_id is 1.5; expected text"),
            ('{"id": "1", "name": 5, "category": "c"}', "name is 5; expected text"),
            (
                '{"id": "1", "name": "Mug", "price": true, "category": "c"}',
                "price is True; expected a number",
            ),
            (
                '{"id": "1", "name": "Mug", "tags": ["a"], "category": "c"}',
                "attribute tags is ['a']; expected",
            ),
            (
                '{"id": "1", "name": "Mug", "size": NaN, "category": "c"}',
                "attribute size is nan; expected",
            ),
            (
                '{"id": "1", "name": "Mug", "attributes": [1], "category": "c"}',
                "attributes is [1]; expected",
            ),
            (
                '{"id": "1", "name": "Mug", "images": 3, "category": "c"}',
                "images is 3; expected paths, links, or pictures",
            ),
        ],
    )
    def test_a_bad_line_is_an_error_and_the_next_is_read(
        self, tmp_path: Path, line: str, message: str
    ) -> None:
        path = write(
            tmp_path / "a.jsonl", line, "", '{"id": "2", "name": "Plate", "category": "c"}'
        )
        bad, good = read(path)
        assert message in message_of(bad)
        assert isinstance(good, CatalogRow)
        assert (bad.row, good.row) == (1, 3)

    def test_a_byte_order_mark_is_skipped(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.jsonl",
            '{"id": "1", "name": "Mug", "category": "c"}',
            encoding="utf-8-sig",
        )
        assert only_product(path)["product_id"] == "1"


class TestLayouts:
    def test_a_folder_with_one_file_is_a_catalogue(self, tmp_path: Path) -> None:
        write(tmp_path / "any.CSV", "id,name,category", "1,Mug,c")
        write(tmp_path / "README.txt", "notes")
        assert only_product(tmp_path)["product_id"] == "1"

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ([], "holds no catalogue; expected a folder with products.jsonl"),
            (["a.csv", "b.jsonl"], "holds a.csv, b.jsonl; expected"),
        ],
    )
    def test_an_unknown_folder_is_a_setup_error(
        self, tmp_path: Path, names: Sequence[str], message: str
    ) -> None:
        touch(tmp_path, *names)
        with pytest.raises(SetupError) as caught:
            read_catalog(tmp_path)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.xlsx", "", "is empty, so it has no header line; expected CSV, JSON Lines"),
            ("a.csv", "", "has no header line"),
            (
                "a.csv",
                "number,price\n",
                r"it also needs: product_id \(id, sku, .* or --map product_id=COLUMN\); name \(",
            ),
            ("a.csv", "id,name,category,size,Size\n", "more than one column for size; leave one"),
        ],
    )
    def test_an_unknown_file_is_a_setup_error_at_once(
        self, tmp_path: Path, name: str, text: str, message: str
    ) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(SetupError, match=message):
            read_catalog(tmp_path / name)

    def test_a_missing_path_is_a_setup_error(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="does not exist"):
            read_catalog(tmp_path / "nothing")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "xml"])
def test_reading_does_not_hold_the_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"big.{suffix}"
    rows, text = 50_000, "x" * 100
    line = f'{{{{"id": "{{}}", "name": "Mug", "category": "c", "description": "{text}"}}}}'
    item = f"<item><id>{{}}</id><title>Mug</title><product_type>{text}</product_type></item>"
    start, one, between, end = {
        "csv": ("id,name,description,category\n", f"{{}},Mug,{text},c", "\n", "\n"),
        "jsonl": ("", line, "\n", "\n"),
        "json": ("[", line, ",", "]"),
        "xml": ("<rss>", item, "", "</rss>"),
    }[suffix]
    with path.open("w") as file:
        file.write(start)
        for number in range(rows):
            file.write((between if number else "") + one.format(number))
        file.write(end)
    next(read_catalog(path))  # loads the modules of the format
    # The rows together would take well over 20 MB.
    tracemalloc.start()
    try:
        count = sum(isinstance(row, CatalogRow) for row in read_catalog(path))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == rows
    assert peak_bytes < 2_000_000
