"""Words are folded alike wherever they come from."""

from __future__ import annotations

import pytest

from bls_models.index.words.tokens import (
    MOST_PRODUCT_WORDS,
    MOST_WORDS,
    chunks,
    key_of,
    near,
    product_keys,
    runs,
    whole_name,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TX-4821-B", ["tx", "4821", "b", "tx4821b"]),
        ("tx4821b", ["tx", "4821", "b", "tx4821b"]),
        ("Häuser, STRASSE Straße", ["häuser", "strasse", "strasse"]),
        ("Cafe\u0301", ["café"]),
        ("", []),
        ("—!?", []),
        ("berries boxes mugs glass 500ml", ["berry", "box", "mug", "glass", "500", "ml", "500ml"]),
        ("red_mug", ["red", "mug", "redmug"]),
        ("杯子 ٤٢", ["杯子", "٤٢"]),
    ],
)
def test_letters_and_digits_are_words_apart_and_together(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_query_has_a_bounded_number_of_words() -> None:
    assert chunks("TX-4821 mug") == [["tx", "4821"], ["mug"]]
    for text in ("a1" * 500, "mug " * 500, "a-1 " * 500):
        assert sum(map(len, chunks(text))) == MOST_WORDS


def test_numbers_in_groups_are_put_together() -> None:
    found = list(runs(chunks("ean 40 12 345678 mug")))
    assert (1, 3, "4012") in found
    assert (1, 4, "4012345678") in found
    assert all(any(sign.isdigit() for sign in run) for _, _, run in found)


def test_what_is_near_a_number_is_one_edit_away() -> None:
    found = near("ab12")
    for word in ("ab13", "ac12", "b12", "ab1", "ba12", "ab21", "ab123", "xab12", "ab12" + "0"):
        assert word in found
    for word in ("ab12", "ab34", "abc1", "ab1x"):
        assert word not in found


def test_a_products_words_are_those_of_its_id_name_category_and_strings() -> None:
    values = {
        "name": "Red mugs",
        "category": "Mug",
        "currency": "EUR",
        "price": 12.0,
        "attributes.article": "TX-1",
        "attributes.size": 500.0,
        "attributes.new": True,
    }
    expected = ["mug7", "red", "mug", whole_name(["red", "mug"]), "tx", "1", "tx1"]
    keys = product_keys("mug-7", values)
    assert sorted(keys) == sorted(map(key_of, expected))
    # Whatever order they come in.
    assert product_keys("mug-7", dict(reversed(values.items()))) == keys
    assert product_keys("mug-7", {}) == [key_of("mug7")]
    many = {"attributes.text": " ".join(f"word{number}" for number in range(9999))}
    assert len(product_keys("p", many)) == MOST_PRODUCT_WORDS
    assert key_of("\ud800")
