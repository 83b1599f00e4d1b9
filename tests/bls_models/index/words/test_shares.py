"""The share of a text's words that products have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from words_support import shares_by_hand

from bls_models.index.words import shares
from bls_models.index.words.postings import Postings
from bls_models.index.words.shares import FrozenWords, Shares
from bls_models.index.words.tokens import product_keys

PRODUCTS: dict[str, dict[str, Any]] = {
    "p-100": {"name": "Red tall mug", "attributes": {"article": "TX-4821-B", "brand": "Velmora"}},
    "p-101": {"name": "Blue tall mug", "attributes": {"article": "TX-9137-B", "brand": "Velmora"}},
    "p-102": {"name": "Mug, red", "attributes": {"article": "LU 2260/17", "ean": "4012345678901"}},
    "p-103": {"name": "Vase", "category": "vases", "attributes": {"colour": "red", "size": 12}},
}


def words_of(products: dict[str, dict[str, Any]]) -> FrozenWords:
    keys = []
    for product_id, fields in products.items():
        values = {key: value for key, value in fields.items() if key != "attributes"}
        values |= {f"attributes.{key}": value for key, value in fields["attributes"].items()}
        keys.append(product_keys(product_id, values))
    return FrozenWords(Postings.of(enumerate(keys)).frozen(), len(products))


WORDS = words_of(PRODUCTS)
EVERY = np.arange(len(PRODUCTS), dtype=np.int32)


def shares_of(text: str, words: FrozenWords = WORDS) -> list[float]:
    found: list[float] = words.shares(text).of(EVERY).tolist()
    return found


@pytest.mark.parametrize(
    "text",
    ["red", "tall mugs", "velmora vase", "RED Mug", "TX-4821-B in stock", "p-102", "nothing", ""],
)
def test_shares_are_what_counting_by_hand_gives(text: str) -> None:
    expected = list(shares_by_hand(text, PRODUCTS).values())
    np.testing.assert_allclose(shares_of(text), expected, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["TX-4821-B", "tx4821b", "tx 4821 b", "Red tall mug", "mug TALL red", "4821", "p100"],
)
def test_who_asks_for_a_number_or_a_whole_name_finds_its_product(text: str) -> None:
    found = shares_of(text)
    assert found[0] == pytest.approx(1)
    assert max(found[1:]) < 1


@pytest.mark.parametrize("text", ["4012345678901", "40 12345 678901", "4012345-678901"])
def test_numbers_may_be_written_in_groups(text: str) -> None:
    assert shares_of(text) == pytest.approx([0, 0, 1, 0])


@pytest.mark.parametrize("text", ["TX-4822-B", "tx4281b", "tx821b", "4012345678902"])
def test_a_mistyped_number_counts_for_those_that_are_near(text: str) -> None:
    found = shares_of(text)
    best = int(np.argmax(found))
    assert best == (2 if text[0] == "4" else 0)
    assert 0.5 < found[best] < 1


def test_only_some_unknown_numbers_are_taken_for_mistyped(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = " ".join(f"{number}{number}77{number}{number}" for number in range(1, 5))
    assert shares_of(f"{unknown} tx4822b".replace(unknown, ""))[0] > 0.5
    assert shares_of(f"{unknown} tx4822b")[0] < 0.2
    monkeypatch.setattr(shares, "MOST_MISTYPED", 5)
    assert words_of(PRODUCTS).shares(f"{unknown} tx4822b").of(EVERY)[0] > 0.2


def test_the_most_common_words_are_left_out_where_all_have_too_many_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shares_of("vase red")[3] == pytest.approx(1)
    assert 0 < shares_of("vase red")[0] < 1
    monkeypatch.setattr(shares, "MOST_PLACES", 3)
    # "red" is in three, "vase" in one.
    assert shares_of("vase red", words_of(PRODUCTS)) == [0, 0, 0, 1]
    assert shares_of("red", words_of(PRODUCTS))[0] == 1


def test_sums_are_the_same_bit_for_bit_however_they_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    every = np.arange(6000, dtype=np.int32)
    for counts in ((3, 4, 20), (3, 40, 200), (400, 4000)):
        slots = [
            np.sort(random.choice(5000, count, replace=False)).astype(np.int32) for count in counts
        ]
        weights = random.dirichlet(np.ones(len(counts))).tolist()
        expected = np.zeros(6000)
        for own, weight in zip(slots, weights, strict=True):
            expected[own] += weight
        found = []
        for dense in (0, 10**9):
            monkeypatch.setattr(shares, "DENSE_SHARE", dense)
            found.append(shares._summed(slots, weights).of(every))
        np.testing.assert_allclose(found[0], expected, atol=1e-6)
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("sparse", [True, False])
def test_the_largest_come_with_all_that_equal_the_last(sparse: bool) -> None:
    values = np.array([0.1, 0.5, 0.5, 0, 0.5, 0.9, 0.1], np.float32)
    held = np.flatnonzero(values).astype(np.int32)
    found = Shares(held, values[held]) if sparse else Shares(None, values)
    for count, more, equal in (
        (1, [], [5]),
        (2, [5], [1, 2, 4]),
        (4, [1, 2, 4, 5], []),
        (5, [1, 2, 4, 5], [0, 6]),
        (9, [0, 1, 2, 4, 5, 6], []),
    ):
        mine, same = found.largest(count)
        if count == 4:
            # Of four wanted the fourth has equals.
            assert sorted([*mine.tolist(), *same.tolist()]) == more
        else:
            assert (mine.tolist(), same.tolist()) == (more, equal)
    eligible = np.array([1, 1, 0, 1, 0, 0, 1], np.bool_)
    assert [part.tolist() for part in found.largest(2, eligible)] == [[1], [0, 6]]
    nothing = Shares(None, np.zeros(0, np.float32))
    assert [part.tolist() for part in nothing.largest(2)] == [[], []]
