"""What the words of a text do to searches of all kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_support import unit

from bls_models.errors import ProductError
from bls_models.index import scored_query
from bls_models.index.engine import IndexedProduct
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.vectors import FloatArray

DIM = 64
COUNT = 1500
LISTS_SECONDS = 60.0
OPTIONS = IndexOptions(flat_rows=1000, exact_rows=100, probed_share=0.3)
COLOURS = ["red", "blue", "green", "white", "black"]
SHAPES = ["tall", "low", "round", "square", "oval", "slim", "wide"]
BRANDS = ["Velmora", "Brixo", "Taken", "Ludor"]
NONE = np.zeros((0, DIM), np.float32)
NO_WEIGHTS = np.zeros(0, np.float32)
ONE = np.ones(1, np.float32)

# Not like any kind of product.
STRANGE = unit(np.random.default_rng(10**6).normal(size=(1, DIM)).astype(np.float32))


def article(number: int) -> str:
    return f"TX-{number * 7919 % 100_003:05}-{'ABCD'[number % 4]}"


def name(number: int) -> str:
    return f"{SHAPES[number % 7]} {COLOURS[number % 5]} mug {number // 35}"


def brand(number: int) -> str:
    return BRANDS[number // 3 % 4]


def product(number: int, write_id: str = "w") -> IndexedProduct:
    """One of forty kinds, of which its words tell nothing."""
    fields = {
        "name": name(number),
        "category": f"c{number % 9}",
        "price": float(number % 50),
        "attributes": {"article": article(number), "brand": brand(number)},
    }
    view, text = vectors(number, 2)
    return IndexedProduct(f"p{number}", write_id, fields, view[np.newaxis], text[np.newaxis])


def vectors(number: int, count: int = 1, seed: int = 0) -> FloatArray:
    """Near those of products of the same kind."""
    centre = np.random.default_rng(number % 40).normal(size=DIM)
    noise = np.random.default_rng([seed, number]).normal(size=(count, DIM))
    return unit((centre + 0.5 * noise).astype(np.float32))


def query(text: str, seed: int | None = None, **options: Any) -> IndexQuery:
    """Near products of a kind, or near none."""
    vector = STRANGE if seed is None else vectors(seed, seed=1)
    asked = {"top_k": 10, "text_words": (text,), "word_weight": 0.7} | options
    return IndexQuery(NONE, NO_WEIGHTS, vector, ONE, **asked)


@pytest.fixture(scope="module")
def listed() -> ProductIndex:
    index = ProductIndex(DIM, DIM, 1000, OPTIONS)
    index.upsert([product(number) for number in range(COUNT)])
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"] != "Flat"
    return index


def numbers(matches: list[IndexMatch]) -> list[float]:
    return [match.score for match in matches]


TEXTS = [
    "{article}",
    "{name}",
    "do you have {article} in stock",
    "{brand} mug",
    "{colour}",
    "mug {colour} {shape}",
]


@pytest.mark.parametrize("filter_json", [b"", b'{"price": {"$lt": 40}}', b'{"category": "c3"}'])
@pytest.mark.parametrize("photos", [0, 1])
def test_lists_find_what_scoring_everything_finds(
    listed: ProductIndex, monkeypatch: pytest.MonkeyPatch, filter_json: bytes, photos: int
) -> None:
    monkeypatch.setattr(scored_query, "MIN_JOINT_CANDIDATES", 200)
    asked = []
    for seed in range(24):
        number = seed * 61 % COUNT
        text = TEXTS[seed % len(TEXTS)].format(
            article=article(number),
            name=name(number),
            brand=brand(number),
            colour=COLOURS[number % 5],
            shape=SHAPES[number % 7],
        )
        images = vectors(seed, photos, 2)
        weights = np.ones(photos, np.float32)
        both = replace(query(text, seed), image_vectors=images, image_weights=weights)
        asked.append(replace(both, filter=filter_json))
    same = found_in_all = 0
    exact = listed.search(asked, exact=True)
    for got, best in zip(listed.search(asked), exact, strict=True):
        scores = {match.product_id: match.score for match in best}
        same += len(best)
        for match in got:
            if match.product_id in scores:
                found_in_all += 1
                assert match.score == pytest.approx(scores[match.product_id], abs=2e-6)
    assert found_in_all >= 0.98 * same


def test_an_article_number_finds_its_product_first(listed: ProductIndex) -> None:
    for number in range(0, COUNT, 113):
        own = article(number)
        texts = (own, own.lower().replace("-", ""), own.replace("-", " "), f"is {own} there?")
        for text in texts:
            (found,) = listed.search([query(text, word_weight=1.0)])
            assert found[0].product_id == f"p{number}"
            assert found[0].score == found[0].text_score > found[1].score


def test_a_mistyped_number_and_a_name_in_another_order_find_their_product(
    listed: ProductIndex,
) -> None:
    for number in range(0, COUNT, 113):
        own = article(number)
        wrong = own[:4] + str((int(own[4]) + 5) % 10) + own[5:]
        turned = " ".join(reversed(name(number).split()))
        for text in (wrong, turned.upper()):
            (found,) = listed.search([query(text, word_weight=1.0)])
            assert found[0].product_id == f"p{number}", text


def test_words_that_very_many_products_have_are_looked_for_among_them(
    listed: ProductIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored_query, "MIN_CANDIDATES", 20)
    monkeypatch.setattr(scored_query, "CANDIDATES_PER_MATCH", 2)
    monkeypatch.setattr(scored_query, "MAX_CANDIDATES", 30)
    asked = query("velmora")
    (got,), (best,) = listed.search([asked]), listed.search([asked], exact=True)
    assert len({match.product_id for match in got} & {match.product_id for match in best}) >= 9
    assert all(brand(int(match.product_id[1:])) == "Velmora" for match in got)


def test_without_words_or_weight_everything_is_as_it_was(listed: ProductIndex) -> None:
    photo = IndexQuery(vectors(3), ONE, NONE, NO_WEIGHTS, 20)
    plain = query("", 3, top_k=20, text_words=())
    for one, other in (
        (photo, replace(photo, word_weight=0.7)),
        (plain, replace(plain, text_words=(article(5),), word_weight=0.0)),
        (plain, replace(plain, text_words=("",), word_weight=1.0)),
        (plain, replace(plain, text_words=("nobody hasit",), word_weight=1.0)),
    ):
        for exact in (False, True):
            before, after = listed.search([one], exact), listed.search([other], exact)
            assert numbers(before[0]) == numbers(after[0])
            assert [m.product_id for m in before[0]] == [m.product_id for m in after[0]]


def test_words_count_for_their_own_text_alone(listed: ProductIndex) -> None:
    texts = np.concatenate([STRANGE, vectors(4)])
    two = IndexQuery(NONE, NO_WEIGHTS, texts, np.ones(2, np.float32), COUNT)
    asked = replace(two, text_words=(article(5),), word_weight=1.0)
    (plain,), (raised,) = listed.search([two], True), listed.search([asked], True)
    scores = {match.product_id: match.score for match in plain}
    cosine = float(product(5).text_vectors[0] @ texts[1])
    for match in raised:
        assert match.score >= scores[match.product_id]
        if match.product_id == "p5":
            assert match.score == pytest.approx((1 + cosine) / 2, abs=1e-5)


def test_facets_and_orders_are_over_what_words_let_reach_the_least_score() -> None:
    index = ProductIndex(DIM, DIM, 1000)
    index.upsert([product(number) for number in range(300)])
    asked = query("velmora", 7, top_k=300, min_score=0.5)
    (found,) = index.search([asked])
    assert 50 < len(found) < 200
    facets = json.dumps({"attributes.brand": 9}).encode()
    (counted,) = index.answers([replace(asked, facets=facets)])
    values = counted.facets["attributes.brand"]["values"]
    assert sum(item["count"] for item in values) == len(found)
    (by_price,) = index.search([replace(asked, sort="price")])
    assert {(m.product_id, m.score) for m in by_price} == {(m.product_id, m.score) for m in found}
    prices = [float(product(int(match.product_id[1:])).fields["price"]) for match in by_price]
    assert prices == sorted(prices)


def test_words_follow_every_change() -> None:
    index = ProductIndex(DIM, DIM, 1000)
    index.upsert([product(number) for number in range(20)])

    def first(text: str) -> str | None:
        (found,) = index.search([query(text, min_score=0.69, word_weight=1.0)])
        return found[0].product_id if found else None

    assert first(article(3)) == "p3"
    index.refresh({"p3": {"name": "Other", "attributes": {"article": "ZZ-4444-Z"}}})
    assert first(article(3)) is None
    assert first("zz4444z") == "p3"
    index.remove("p3")
    assert first("zz4444z") is None
    # Its slot has another product now.
    index.upsert([replace(product(50), product_id="new")])
    assert first(article(50)) == "new"
    with pytest.raises(ProductError):
        index.upsert([product(60), replace(product(61), fields={"price": "dear"})])
    assert first("p60") is None
    index.upsert([product(60), product(61)])
    assert [first(article(60)), first("p61"), first(article(4))] == ["p60", "p61", "p4"]


def test_two_indexes_filled_in_another_order_answer_alike() -> None:
    forward, shuffled = ProductIndex(DIM, DIM, 1000), ProductIndex(DIM, DIM, 1000)
    # One text vector for all: equal scores are the rule.
    same = [replace(product(number), text_vectors=vectors(1)) for number in range(200)]
    forward.upsert(same)
    order = np.random.default_rng(2).permutation(200).tolist()
    for number in order:
        shuffled.upsert([same[number]])
    for number in order[::3]:
        shuffled.remove(f"p{number}")
    for number in order[::3]:
        shuffled.upsert([same[number]])
    for text in ("velmora", "red mug", article(7), name(9), "tall velmora mug"):
        asked = query(text, 2, top_k=200)
        mine, theirs = forward.search([asked])[0], shuffled.search([asked])[0]
        assert [match.product_id for match in mine] == [match.product_id for match in theirs]
        np.testing.assert_allclose(numbers(mine), numbers(theirs), atol=2e-6, rtol=0)


def test_a_restored_index_has_the_same_words(tmp_path: Path) -> None:
    saved = ProductIndex(DIM, DIM, 1000)
    saved.upsert([product(number) for number in range(200)])
    for number in range(0, 200, 7):
        saved.remove(f"p{number}")
    saved.save(tmp_path / "snapshot")
    restored = ProductIndex(DIM, DIM, 1000)
    restored.restore(tmp_path / "snapshot")
    for index in (saved, restored):
        index.upsert([product(number, "later") for number in range(0, 50)])
        index.remove("p60")
        index.refresh({"p61": {"name": "Other", "attributes": {"article": "ZZ-4444-Z"}}})
    for text in ("velmora", "red mug", article(8), article(49), "zz4444z", name(61)):
        asked = query(text, 5, top_k=200)
        mine, theirs = saved.search([asked])[0], restored.search([asked])[0]
        assert [match.product_id for match in mine] == [match.product_id for match in theirs]
        np.testing.assert_allclose(numbers(mine), numbers(theirs), atol=2e-6, rtol=0)
