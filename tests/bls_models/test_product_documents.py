"""Product documents: every field is checked, and what was read can be sent back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from bson.decimal128 import Decimal128

from bls_models.errors import ProductError
from bls_models.product import (
    CLIENT_VIEW,
    MAX_ATTRIBUTES,
    SERVER_FIELDS,
    check_product,
    check_product_id,
    client_document,
    embedding_text,
    json_bytes,
    parse_product_json,
)

FULL: dict[str, Any] = {
    "product_id": "mug-1",
    "name": "Red mug",
    "description": "Holds coffee.",
    "category": "mug",
    "price": 12.5,
    "currency": "EUR",
    "attributes": {"colour": "red", "height": 9, "weight": 0.3, "dishwasher": True},
}
LEAST: dict[str, Any] = {"product_id": "p", "name": "n", "category": "c"}


def stored_form(product: dict[str, Any]) -> dict[str, Any]:
    """As the database holds a product, with everything that is not for clients."""
    fields = {key: value for key, value in product.items() if key != "product_id"}
    time = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    return {
        "_id": product["product_id"],
        **fields,
        "images": [{"sha256": "00ff", "width": 3, "height": 4}],
        "created": time,
        "updated": time,
        "revision": 7,
        "fingerprint": "f",
        "content_hash": "h",
        "write_id": "w",
    }


def test_a_full_product_passes_unchanged() -> None:
    assert check_product(FULL) == FULL


def test_a_product_needs_only_an_id_a_name_and_a_category() -> None:
    assert check_product(LEAST) == {**LEAST, "attributes": {}}


def test_a_whole_price_becomes_a_float_so_that_equal_products_are_equal() -> None:
    price = check_product({**LEAST, "price": 12})["price"]
    assert price == 12
    assert type(price) is float


def test_text_is_stored_in_one_form() -> None:
    sent = {
        **LEAST,
        "product_id": "cafe\u0301",
        "name": "Cafe\u0301\x00mug\n",
        "description": "Two\r\n\tlines\x00and\x85more",
        "category": "cafe\u0301",
        "attributes": {"brand": "Cafe\u0301\x07X", "size": 3},
    }
    checked = check_product(sent)
    assert checked == {
        "product_id": "caf\u00e9",
        "name": "Caf\u00e9 mug ",
        "description": "Two\r\n\tlines and more",
        "category": "caf\u00e9",
        "attributes": {"brand": "Caf\u00e9 X", "size": 3},
    }
    assert check_product(checked) == checked
    # Only what is left after that must not be empty.
    with pytest.raises(ProductError, match=r"product\.name"):
        check_product({**LEAST, "name": "\x00"})


def test_decimal_numbers_of_the_database_are_numbers_to_clients() -> None:
    document = {
        **stored_form(FULL),
        "price": Decimal128("12.50"),
        "attributes": {"height": Decimal128("9"), "odd": Decimal128("NaN")},
    }
    shown = client_document(document)
    assert shown["price"] == 12.5
    assert shown["attributes"] == {"height": 9.0}
    assert isinstance(shown["price"], float)


def test_json_is_utf_8_and_never_fails() -> None:
    assert json_bytes({"name": "杯子"}) == '{"name":"杯子"}'.encode()
    assert json_bytes({"name": "a\ud800"}) == b'{"name":"a?"}'


def test_fields_that_are_null_count_as_left_out() -> None:
    nulls = dict.fromkeys(("description", "price", "currency"))
    assert check_product({**LEAST, **nulls}) == check_product(LEAST)


def test_a_document_that_was_read_can_be_sent_back() -> None:
    document = client_document(stored_form(FULL))
    assert check_product(document) == FULL


def test_clients_see_server_fields_but_nothing_internal() -> None:
    document = client_document(stored_form(FULL))
    assert set(document) == set(FULL) | SERVER_FIELDS - {"description_generated", "picture_url"}
    assert document["created"] == "2030-01-02T03:04:05+00:00"
    assert document["revision"] == 7
    assert document["images"] == [{"sha256": "00ff", "width": 3, "height": 4}]


def test_clients_see_that_a_description_is_generated_but_not_from_what() -> None:
    stored = stored_form(FULL) | {"description_generated": True, "description_source": {"x": 1}}
    document = client_document(stored)
    assert document["description_generated"] is True
    assert "description_source" not in document


@pytest.mark.parametrize("product_id", ["a", "A-1_2.3", "a" * 128, "Größe-42", "sku:12#3", "杯子"])
def test_ids_of_visible_characters_are_good(product_id: str) -> None:
    assert check_product_id(product_id) == product_id


@pytest.mark.parametrize(
    "product_id",
    [None, "", 5, True, ["a"], "a b", "a/b", "a\n", "\x00", "a\x7f", "a\u00a0b", "a" * 129],
)
def test_other_ids_are_refused_in_words(product_id: object) -> None:
    with pytest.raises(ProductError, match=r"product\.product_id: .*1 to 128 characters"):
        check_product_id(product_id)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, r"product\.name: missing; expected a string of at most 512"),
        ({"name": ""}, r"product\.name: ''"),
        ({"name": " \t"}, r"product\.name: "),
        ({"name": 5}, r"product\.name: 5"),
        ({"name": "n" * 513}, r"product\.name: .*at most 512"),
        ({"category": None}, r"product\.category: missing"),
        ({"category": "c" * 129}, r"product\.category: .*at most 128"),
        ({"description": "d" * 8193}, r"product\.description: .*at most 8192"),
        ({"description": ["d"]}, r"product\.description: "),
        ({"price": -0.01}, r"product\.price: -0\.01; expected a number from 0"),
        ({"price": 1e12}, r"product\.price: "),
        ({"price": "12"}, r"product\.price: '12'"),
        ({"price": True}, r"product\.price: True"),
        ({"price": float("nan")}, r"product\.price: nan"),
        ({"currency": "eur"}, r"product\.currency: 'eur'; expected an ISO 4217"),
        ({"currency": "EURO"}, r"product\.currency: "),
        ({"currency": 978}, r"product\.currency: "),
        ({"attributes": []}, r"product\.attributes: \[\]"),
        ({"attributes": None}, r"product\.attributes: None"),
        ({"attributes": {"a.b": 1}}, r"product\.attributes: key 'a\.b'"),
        ({"attributes": {"$set": 1}}, r"product\.attributes: key "),
        ({"attributes": {"": 1}}, r"product\.attributes: key ''"),
        ({"attributes": {"k" * 65: 1}}, r"product\.attributes: key "),
        ({"attributes": {"a": None}}, r"product\.attributes\.a: None"),
        ({"attributes": {"a": {"b": 1}}}, r"product\.attributes\.a: "),
        ({"attributes": {"a": [1]}}, r"product\.attributes\.a: "),
        ({"attributes": {"a": float("inf")}}, r"product\.attributes\.a: inf"),
        ({"attributes": {"a": 2**53}}, r"product\.attributes\.a: "),
        ({"attributes": {"a": "v" * 513}}, r"product\.attributes\.a: .*at most 512"),
        (
            {"attributes": {f"k{number}": 1 for number in range(MAX_ATTRIBUTES + 1)}},
            rf"product\.attributes: .*at most {MAX_ATTRIBUTES} keys",
        ),
        ({"colour": "red"}, r"unknown field 'colour'; .*attributes\.colour"),
        ({"_id": "x"}, r"unknown field '_id'"),
        ({"product_id": "a b"}, r"product\.product_id: 'a b'"),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProductError, match=message):
        check_product({**FULL, **change})


def test_an_integer_too_long_for_a_float_is_refused_and_does_not_break() -> None:
    with pytest.raises(ProductError, match=r"product\.attributes\.a"):
        check_product({**FULL, "attributes": {"a": 10**400}})
    with pytest.raises(ProductError, match=r"product\.price"):
        check_product({**FULL, "price": 10**400})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1]",
        b'"p"',
        b"null",
        b"\xff{}",
        b'{"price": NaN}',
        b'{"price": -Infinity}',
        b"[" * 100_000,
    ],
    ids=[
        "empty", "cut", "list", "string", "null", "not UTF-8", "NaN", "infinity", "deep"
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(ProductError, match=r"^product: .*expected a JSON object"):
        parse_product_json(text, 2**20)


def test_a_json_object_is_read_as_utf_8() -> None:
    assert parse_product_json('{"name": "Größe"}'.encode(), 100) == {"name": "Größe"}


def test_json_that_is_too_long_is_not_parsed() -> None:
    text = json.dumps(FULL).encode()
    assert parse_product_json(text, len(text)) == FULL
    with pytest.raises(ProductError, match=f"product: {len(text)} bytes; expected at most"):
        parse_product_json(text, len(text) - 1)


@pytest.mark.parametrize("product_id", ["a\u200bb", "\u202ea", "a\u0080", "a\ue000"])
def test_new_ids_are_printable_but_old_ones_can_be_deleted(product_id: str) -> None:
    with pytest.raises(ProductError, match=r"product\.product_id: .*expected printable"):
        check_product({**FULL, "product_id": product_id})
    assert check_product_id(product_id) == product_id


def test_what_was_added_by_hand_is_not_shown() -> None:
    stored = stored_form(FULL) | {
        "supplier_price": 1.0,
        "category": {"name": "mug", "margin": 0.4},
        "created": {"by": "somebody"},
        "price": float("nan"),
        "attributes": {"colour": "red", "cost": {"net": 1}, "odd": float("inf"), "tags": ["a"]},
        "images": [{"sha256": "a", "width": 1, "height": 2, "path": "/srv/a"}, "x", {"width": 1}],
        "revision": "many",
    }
    shown = client_document(stored)
    assert set(shown) <= {"product_id", *CLIENT_VIEW, "created", "updated", "revision"}
    assert not {"price", "category"} & set(shown)
    assert shown["created"] is None
    assert shown["attributes"] == {"colour": "red"}
    assert shown["images"] == [{"sha256": "a", "width": 1, "height": 2}]
    assert shown["revision"] == 0
    odd = client_document({"_id": "p", "attributes": "red", "images": "a"})
    assert (odd["attributes"], odd["images"]) == ({}, [])


def test_the_searched_text_holds_names_categories_text_attributes_and_descriptions() -> None:
    assert embedding_text(FULL) == "Red mug. mug. red. Holds coffee."
    assert embedding_text(check_product(LEAST)) == "n. c"
