"""What the programs of shops export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from catalogue_support import errors, ids, only_product, products, read, touch, write

from bls_models.errors import SetupError
from seed.options import ReadOptions
from seed.products import shopify
from seed.products.html_text import text_from_html
from seed.records import CatalogRow
from seed.rows import open_catalog

SHOPIFY = (
    "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,"
    "Option1 Value,Variant SKU,Variant Price,Image Src,Image Position,Status"
)
WOOCOMMERCE = (
    "ID,Type,SKU,Name,Published,Short description,Description,Regular price,Categories,Images,"
    "Parent,Attribute 1 name,Attribute 1 value(s)"
)
GOOGLE = "id\ttitle\tlink\timage_link\tadditional_image_link\tprice\tproduct_type\tbrand\tgtin"


class TestShopify:
    def test_the_rows_of_a_handle_are_one_product(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "export.csv",
            SHOPIFY,
            'cup,Cup,"<p>A <b>blue</b> cup.</p>',
            '<ul><li>Holds 200&nbsp;ml</li></ul>",Tarro,Home > Cups,Cups,"tea, blue",TRUE,Size,S,'
            "C-S,1.299,https://cdn.example/a.jpg?v=1,1,active",
            "cup,,,,,,,,,M,C-M,14.50,,,",
            "cup,,,,,,,,,,,,https://cdn.example/b.jpg,2,",
            "dish,Dish,,Tarro,,Dishes,,TRUE,Title,Default Title,D,5,,,active",
        )
        catalog = open_catalog(path)
        assert catalog.description == "Shopify export (CSV with commas, UTF-8)"
        cup, dish = rows = read(path)
        assert [row.row for row in rows] == [2, 6]
        assert isinstance(cup, CatalogRow)
        assert isinstance(dish, CatalogRow)
        assert cup.product == {
            "product_id": "cup",
            "name": "Cup",
            "description": "A blue cup.\nHolds 200 ml",
            "category": "Cups",
            "price": 1.299,
            "attributes": {
                "vendor": "Tarro",
                "tags": "tea, blue",
                "status": "active",
                "size": "S, M",
                "skus": "C-S, C-M",
            },
        }
        assert cup.links == ("https://cdn.example/a.jpg?v=1", "https://cdn.example/b.jpg")
        assert dish.product["attributes"] == {"vendor": "Tarro", "status": "active", "skus": "D"}

    def test_what_variants_have_in_plenty_is_kept_as_far_as_an_attribute_holds_it(
        self, tmp_path: Path
    ) -> None:
        first = "cup,Cup,,Tarro,,Cups,,TRUE,サイズ,0,S-000,5,,,"
        more = [f"cup,,,,,,,,,{number},S-{number:03},,,," for number in range(1, 150)]
        product = only_product(write(tmp_path / "a.csv", SHOPIFY, first, *more))
        skus = product["attributes"]["skus"]
        assert skus.split(", ") == [f"S-{number:03}" for number in range(73)]
        assert len(f"{skus}, S-073") > 512
        assert product["attributes"]["column_1"].startswith("0, 1, 2")

    def test_a_handle_without_end_is_not_held(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shopify, "MOST_ROWS", 3)
        rows = read(write(tmp_path / "a.csv", SHOPIFY, *["cup,Cup,,,,Cups"] * 5))
        assert ids(rows) == ["cup"]
        assert errors(rows) == [(line, "over 3 rows of one handle") for line in (5, 6)]

    def test_a_person_says_what_other_columns_mean(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.csv", SHOPIFY + ",Group", "cup,Cup,,Tarro,,Cups" + "," * 9 + ",x"
        )
        options = ReadOptions({"category": "Group", "maker": "Vendor"}, frozenset({"Tags"}))
        product = only_product(path, options)
        assert (product["category"], product["attributes"]) == ("x", {"maker": "Tarro"})
        with pytest.raises(SetupError, match="has no column 'Grp'"):
            open_catalog(path, ReadOptions({"category": "Grp"}))

    def test_a_row_that_cannot_be_read_is_no_part_of_a_product(self, tmp_path: Path) -> None:
        lines = ["cup,Cup,,,,Cups", "cup,Cup,,,,Cups" + "," * 20, "dish,Dish,,,,Dishes"]
        rows = read(write(tmp_path / "a.csv", SHOPIFY, *lines))
        assert ids(rows) == ["cup", "dish"]
        assert errors(rows) == [(3, "more fields than columns")]

    def test_pictures_beside_it_are_named_after_the_handle(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "handle,title,type,variant sku", "cup,Cup,Cups,C-1")
        touch(tmp_path, "images/cup.JPG", "images/cup_2.jpg")
        (row,) = read(path)
        assert isinstance(row, CatalogRow)
        assert [image.name for image in row.images] == ["cup.JPG", "cup_2.jpg"]


class TestShopifyJson:
    def test_products_are_read_with_their_variants(self, tmp_path: Path) -> None:
        cup = {
            "id": 5,
            "handle": "cup",
            "title": "Cup",
            "body_html": "<p>Blue.</p>",
            "vendor": "Tarro",
            "product_type": "Cups",
            "tags": ["tea", "blue"],
            "variants": [{"sku": "C-S", "price": "12.500"}, {"sku": None, "price": "14.00"}],
            "images": [{"src": "https://cdn.example/a.jpg"}],
            "options": [{"name": "Size", "values": ["S", "M"]}],
        }
        plain = {"handle": "dish", "title": "Dish", "product_type": "Dishes", "variants": []}
        odd = {"handle": "x", "title": "X", "product_type": "c", "variants": ["?"]}
        path = write(tmp_path / "a.json", json.dumps({"products": [cup, odd, plain]}))
        assert open_catalog(path).description == "Shopify products (JSON array 'products', UTF-8)"
        first, bad, last = read(path)
        assert isinstance(first, CatalogRow)
        assert isinstance(last, CatalogRow)
        assert first.product == {
            "product_id": "cup",
            "name": "Cup",
            "description": "Blue.",
            "category": "Cups",
            "price": 12.5,
            "attributes": {"size": "S, M", "tags": "tea, blue", "skus": "C-S", "vendor": "Tarro"},
        }
        assert first.links == ("https://cdn.example/a.jpg",)
        assert "not as Shopify writes products" in errors([bad])[0][1]
        assert last.product["attributes"] == {}


class TestWooCommerce:
    def test_variations_take_from_their_parent_what_they_leave_out(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "export.csv",
            WOOCOMMERCE,
            '7,variable,tee,Tee,1,short,"<p>Soft.</p>",,"Clothing > Tees",'
            '"https://x.example/a.jpg, https://x.example/b.jpg",,Color,"Blue, Red"',
            '8,variation,tee-red,"Tee, red",1,,,"1.299,00",,https://x.example/r.jpg,tee,Color,Red',
            "9,simple,,Hat,1,A hat.,,20,Hats,,,,",
        )
        assert open_catalog(path).description == "WooCommerce export (CSV with commas, UTF-8)"
        assert products(path) == [
            {
                "product_id": "tee",
                "name": "Tee",
                "description": "Soft.",
                "category": "Clothing > Tees",
                "attributes": {"color": "Blue, Red", "woocommerce_id": 7},
            },
            {
                "product_id": "tee-red",
                "name": "Tee, red",
                "description": "Soft.",
                "category": "Clothing > Tees",
                "price": 1299.0,
                "attributes": {"color": "Red", "woocommerce_id": 8, "parent": "tee"},
            },
            {
                "product_id": "9",
                "name": "Hat",
                "description": "A hat.",
                "category": "Hats",
                "price": 20.0,
                "attributes": {"woocommerce_id": 9},
            },
        ]
        first, second, _ = read(path)
        assert isinstance(first, CatalogRow)
        assert isinstance(second, CatalogRow)
        assert first.links == ("https://x.example/a.jpg", "https://x.example/b.jpg")
        assert second.links == ("https://x.example/r.jpg",)


class TestGoogleMerchant:
    def test_a_feed_of_tabs(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "feed.txt",
            GOOGLE,
            "TV-1\tTelevision\thttps://s.example/tv\thttps://s.example/1.jpg\t"
            "https://s.example/2.jpg,https://s.example/3.jpg\t1.299 KWD\tHome > TV\tVista\t0012",
        )
        (row,) = read(path)
        assert isinstance(row, CatalogRow)
        assert row.product == {
            "product_id": "TV-1",
            "name": "Television",
            "category": "Home > TV",
            "price": 1.299,
            "currency": "KWD",
            "attributes": {"brand": "Vista", "gtin": "0012"},
        }
        assert row.links == tuple(f"https://s.example/{number}.jpg" for number in (1, 2, 3))
        assert open_catalog(path).description == "Google Merchant feed (CSV with tabs, UTF-8)"

    @pytest.mark.parametrize("kind", ["rss", "atom"])
    def test_a_feed_of_xml(self, tmp_path: Path, kind: str) -> None:
        item = (
            "<g:id>{0}</g:id><title>TV {0}</title><g:product_type>TVs</g:product_type>"
            "<g:image_link>https://s.example/1.jpg</g:image_link>"
            "<g:additional_image_link>https://s.example/2.jpg</g:additional_image_link>"
            "<g:additional_image_link>https://s.example/3.jpg</g:additional_image_link>"
            "<g:price>5 USD</g:price><g:shipping><g:country>US</g:country></g:shipping>"
        )
        names = 'xmlns:g="http://base.google.com/ns/1.0"'
        if kind == "rss":
            start, one, end = (
                f"<rss {names}><channel><title>shop</title>",
                "item",
                "</channel></rss>",
            )
        else:
            start = f'<feed xmlns="http://www.w3.org/2005/Atom" {names}><title>shop</title>'
            one, end = "entry", "</feed>"
        items = "".join(f"<{one}>{item.format(number)}</{one}>" for number in range(1, 40))
        path = write(tmp_path / "feed.xml", '<?xml version="1.0"?>', start, items, end)
        rows = read(path)
        assert open_catalog(path).description == "XML feed"
        assert [row.row for row in rows] == list(range(1, 40))
        (row, *_) = rows
        assert isinstance(row, CatalogRow)
        assert row.product == {
            "product_id": "1",
            "name": "TV 1",
            "category": "TVs",
            "price": 5.0,
            "currency": "USD",
            "attributes": {},
        }
        assert len(row.links) == 3

    def test_damaged_xml_is_read_up_to_there(self, tmp_path: Path) -> None:
        item = "<item><id>1</id><title>TV</title><product_type>TVs</product_type></item>"
        rows = read(write(tmp_path / "feed.xml", f"<rss>{item}{item}<item></rss>"))
        assert ids(rows) == ["1", "1"]
        ((number, message),) = errors(rows)
        assert number == 3
        assert message.startswith("not XML: mismatched tag")
        assert message.endswith("nothing behind it can be read")

    def test_xml_declares_no_entities(self, tmp_path: Path) -> None:
        declared = '<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
        path = write(tmp_path / "feed.xml", f"{declared}<rss><item><id>&a;</id></item></rss>")
        with pytest.raises(SetupError, match="XML without products"):
            open_catalog(path)

    def test_a_feed_without_categories_is_told_what_helps(self, tmp_path: Path) -> None:
        path = write(tmp_path / "feed.xml", "<rss><item><id>1</id><title>TV</title></item></rss>")
        assert "--category gives those" in errors(read(path))[0][1]
        assert only_product(path, ReadOptions(category="TVs"))["category"] == "TVs"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("5 < 6 & R&B", "5 < 6 & R&B"),
        ("Salt &amp; pepper &#8212; 5&nbsp;g", "Salt & pepper \N{EM DASH} 5\N{NO-BREAK SPACE}g"),
        ("<p>One</p><p>two<br>three</p>", "One\ntwo\nthree"),
        ("<style>p {}</style><script>x()</script>Seen <!-- not -->", "Seen"),
        ("a\n<b>b</b>   c", "a b c"),
        ("<p>open <b>and cut", "open and cut"),
        ("</script>still", "still"),
    ],
)
def test_the_text_of_html_is_kept(html: str, text: str) -> None:
    assert text_from_html(html) == text
