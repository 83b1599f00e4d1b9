"""The product index gives what scoring every product by hand gives, whatever the query."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from serving_support import unit
from words_support import shares_by_hand

from bls_models.errors import FilterError
from bls_models.index import scored_query
from bls_models.index.engine import IndexedProduct
from bls_models.index.filters.evaluation import FrozenColumns
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.index.storage import frozen_rows, rows
from bls_models.index.view_scores import LEAST_DISTANCE, POWER
from bls_models.vectors import FloatArray

IMAGE_DIM, TEXT_DIM = 6, 5
TOLERANCE = 2e-6
NAMED = ["Red", "blue", "tall", "Mugs"]
NUMBERS = ["AB-1111", "cd2222", "EF 3333/x"]
SAID = [*NAMED, *NUMBERS, "vase", "ab1111", "other"]
MAX_FILTER_BYTES = 1000

# Filter JSON with what it means.
FILTERS: list[tuple[bytes, Callable[[IndexedProduct], bool]]] = [
    (b"", lambda product: True),
    (b'{"category": "mug"}', lambda product: product.fields["category"] == "mug"),
    (b'{"price": {"$lt": 5}}', lambda product: product.fields.get("price", 9.0) < 5),
    (b'{"price": {"$exists": false}}', lambda product: "price" not in product.fields),
    (b'{"category": "none such"}', lambda product: False),
    (
        b'{"$or": [{"category": {"$ne": "mug"}}, {"price": {"$gte": 8}}]}',
        lambda product: product.fields["category"] != "mug" or product.fields.get("price", 0) >= 8,
    ),
]


def random_product(random: np.random.Generator, number: int) -> IndexedProduct:
    """Up to three views and up to two texts, now and then the very vectors of another."""
    views, texts = int(random.integers(0, 4)), int(random.integers(0, 3))
    fields: dict[str, Any] = {"category": str(random.choice(["mug", "vase", "bowl"]))}
    if random.random() < 0.7:
        fields["name"] = " ".join(random.choice(NAMED, random.integers(1, 3)))
    if random.random() < 0.7:
        fields["attributes"] = {"article": str(random.choice(NUMBERS)), "size": 12}
    if random.random() < 0.8:
        fields["price"] = float(random.integers(0, 12))
    # Coarse numbers, so that equal scores are common.
    coarse = random.random() < 0.5
    return IndexedProduct(
        f"p{number}",
        f"w{random.integers(2**32)}",
        fields,
        random_vectors(random, views, IMAGE_DIM, coarse),
        random_vectors(random, texts, TEXT_DIM, coarse),
    )


def random_vectors(
    random: np.random.Generator, count: int, dim: int, coarse: bool = False
) -> FloatArray:
    if not count:
        return np.zeros((0, dim), np.float32)
    numbers = random.integers(-1, 2, (count, dim)) if coarse else random.normal(size=(count, dim))
    numbers[(numbers == 0).all(axis=1), 0] = 1
    return unit(numbers)


def by_hand(
    product: IndexedProduct, query: IndexQuery, shares: list[float]
) -> tuple[float, float, float] | None:
    """Score, image score and text score in double precision; None if nothing compares.

    ``shares`` has for each text vector the share of its words that the product has.
    """
    parts: list[tuple[float, float]] = []
    for stored, vectors, weights in (
        (product.image_vectors, query.image_vectors, query.image_weights),
        (product.text_vectors, query.text_vectors, query.text_weights),
    ):
        weights = weights.astype(np.float64)
        total = float(np.abs(weights).sum())
        if not len(stored) or total == 0:
            parts.append((np.nan, 0.0))
            continue
        cosines = vectors.astype(np.float64) @ stored.astype(np.float64).T
        distances = np.maximum(1 - cosines, LEAST_DISTANCE)
        scores = 1 - (distances**-POWER).mean(axis=1) ** (-1 / POWER)
        if stored is product.text_vectors:
            scores = 1 - (1 - scores) * (1 - query.word_weight * np.array(shares))
        parts.append((float(weights @ scores) / total, total))
    total = sum(weight for _, weight in parts)
    if total == 0:
        return None
    score = sum(value * weight for value, weight in parts if weight) / total
    return score, parts[0][0], parts[1][0]


class Twin:
    """A product index and the same products in a dictionary."""

    def __init__(self) -> None:
        self.index = ProductIndex(IMAGE_DIM, TEXT_DIM, MAX_FILTER_BYTES)
        self.products: dict[str, IndexedProduct] = {}

    def upsert(self, *products: IndexedProduct) -> None:
        self.index.upsert(products)
        self.products |= {product.product_id: product for product in products}

    def remove(self, product_id: str) -> None:
        self.index.remove(product_id)
        self.products.pop(product_id, None)

    def scores(
        self, query: IndexQuery, keep: Callable[[IndexedProduct], bool]
    ) -> dict[str, tuple[float, float, float]]:
        texts = [*query.text_words, *[""] * len(query.text_vectors)][: len(query.text_vectors)]
        held = {name: item.fields for name, item in self.products.items()}
        shares = [shares_by_hand(text, held) for text in texts]
        scores = {
            product_id: by_hand(product, query, [of[product_id] for of in shares])
            for product_id, product in self.products.items()
            if keep(product)
        }
        return {product_id: score for product_id, score in scores.items() if score is not None}

    def check_view(self, match: IndexMatch, query: IndexQuery) -> None:
        """It is that of the picture that is most like what pulls near, of equals any."""
        views = self.products[match.product_id].image_vectors
        pulling = np.maximum(query.image_weights, 0)
        if not len(views) or not pulling.any():
            assert match.view is None
            return
        likeness = pulling @ query.image_vectors @ views.T
        assert match.view is not None
        assert likeness[match.view] == pytest.approx(likeness.max(), abs=TOLERANCE)

    def check(
        self, query: IndexQuery, keep: Callable[[IndexedProduct], bool] = lambda product: True
    ) -> list[IndexMatch]:
        """Search and compare with scoring by hand; equal scores may stand in either order."""
        (found,) = self.index.search([query])
        scores = self.scores(query, keep)
        assert len({match.product_id for match in found}) == len(found)
        for match in found:
            got = (match.score, match.image_score, match.text_score)
            np.testing.assert_allclose(got, scores[match.product_id], atol=TOLERANCE, rtol=0)
            self.check_view(match, query)
        ranking = sorted((score for score, _, _ in scores.values()), reverse=True)
        page = ranking[query.offset : query.offset + query.top_k]
        expected = [score for score in page if score >= query.min_score]
        np.testing.assert_allclose(
            [match.score for match in found], expected, atol=TOLERANCE, rtol=0
        )
        return found


@contextlib.contextmanager
def few_at_once() -> Iterator[None]:
    """So small blocks and steps that crossing from one to the next is the rule."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen_rows, "BLOCK_BITS", 2)
        patch.setattr(frozen_rows, "BLOCK_ROWS", 4)
        patch.setattr(rows, "BLOCK_BITS", 2)
        patch.setattr(rows, "BLOCK_ROWS", 4)
        patch.setattr(frozen_rows, "GATHERED_ROWS", 3)
        patch.setattr(frozen_rows, "PARALLEL_ROWS", 20)
        patch.setattr(scored_query, "VECTORS_AT_ONCE", 2)
        yield


def query(
    random: np.random.Generator,
    image_weights: list[float],
    text_weights: list[float],
    **options: Any,
) -> IndexQuery:
    coarse = random.random() < 0.3
    if random.random() < 0.7:
        said = [" ".join(random.choice(SAID, random.integers(0, 4))) for _ in text_weights]
        weight = float(random.choice([0.0, 0.7, 1.0]))
        options = {"text_words": tuple(said), "word_weight": weight} | options
    return IndexQuery(
        random_vectors(random, len(image_weights), IMAGE_DIM, coarse),
        np.array(image_weights, np.float32),
        random_vectors(random, len(text_weights), TEXT_DIM, coarse),
        np.array(text_weights, np.float32),
        **{"top_k": 5, **options},
    )


def filled(seed: int, count: int) -> tuple[np.random.Generator, Twin]:
    random = np.random.default_rng(seed)
    twin = Twin()
    twin.upsert(*(random_product(random, number) for number in range(count)))
    return random, twin


weights = st.lists(st.sampled_from([1.0, 1.0, 0.5, 2.5, 0.0]), max_size=3)
any_weights = st.lists(st.sampled_from([1.0, 0.5, 0.0, -0.25, -1.0]), max_size=3)
seeds = st.integers(0, 2**32 - 1)


@hypothesis_settings(max_examples=120, deadline=None)
@given(
    seed=seeds,
    count=st.integers(0, 60),
    image_weights=weights,
    text_weights=weights,
    top_k=st.integers(1, 12),
    offset=st.integers(0, 20),
    filter_number=st.integers(0, len(FILTERS) - 1),
    min_score=st.sampled_from([float("-inf"), -0.303, 0.0707, 0.4141, 0.9091]),
    few=st.booleans(),
)
def test_any_search_equals_scoring_by_hand(
    seed: int,
    count: int,
    image_weights: list[float],
    text_weights: list[float],
    top_k: int,
    offset: int,
    filter_number: int,
    min_score: float,
    few: bool,
) -> None:
    assume(any(image_weights) or any(text_weights))
    with few_at_once() if few else contextlib.nullcontext():
        random, twin = filled(seed, count)
        text, keep = FILTERS[filter_number]
        asked = query(
            random,
            image_weights,
            text_weights,
            top_k=top_k,
            offset=offset,
            filter=text,
            min_score=min_score,
        )
        scores = [score for score, _, _ in twin.scores(asked, keep).values()]
        assume(all(abs(score - min_score) > 1e-5 for score in scores))
        twin.check(asked, keep)


@hypothesis_settings(max_examples=60, deadline=None)
@given(seed=seeds, count=st.integers(0, 40), image_weights=any_weights, text_weights=any_weights)
def test_weights_of_any_sign_equal_scoring_by_hand(
    seed: int, count: int, image_weights: list[float], text_weights: list[float]
) -> None:
    assume(any(image_weights) or any(text_weights))
    with few_at_once():
        random, twin = filled(seed, count)
        twin.check(query(random, image_weights, text_weights))


@hypothesis_settings(max_examples=60, deadline=None)
@given(seed=seeds, steps=st.integers(1, 40))
def test_after_any_changes_searches_equal_scoring_by_hand(seed: int, steps: int) -> None:
    with few_at_once():
        random, twin = filled(seed, 12)
        for _ in range(steps):
            number = int(random.integers(0, 20))
            if random.random() < 0.35:
                twin.remove(f"p{number}")
            else:
                twin.upsert(random_product(random, number))
        assert twin.index.product_ids() == set(twin.products)
        for product_id, product in twin.products.items():
            assert twin.index.write_ids([product_id]) == {product_id: product.write_id}
        info = twin.index.info()
        stored = twin.products.values()
        assert info["products"] == len(stored)
        assert info["image_vectors"] == sum(len(item.image_vectors) for item in stored)
        assert info["text_vectors"] == sum(len(item.text_vectors) for item in stored)
        for text, keep in FILTERS:
            twin.check(query(random, [1.0], [0.5], top_k=30, filter=text), keep)


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    count=st.integers(1, 60),
    page=st.integers(1, 7),
    image_weights=any_weights,
    alike=st.booleans(),
)
def test_pages_together_hold_every_product_once(
    seed: int, count: int, page: int, image_weights: list[float], alike: bool
) -> None:
    with few_at_once():
        random, twin = filled(seed, count)
        if alike:
            # Shops list one thing many times: whole pages of equal scores.
            first = next(iter(twin.products.values()))
            twin.upsert(*(replace(first, product_id=f"copy{number}") for number in range(30)))
        asked = query(random, image_weights, [1.0])
        whole = twin.check(replace(asked, top_k=100))
        pages: list[IndexMatch] = []
        for offset in range(0, len(whole) + page, page):
            pages += twin.check(replace(asked, top_k=page, offset=offset))
        assert len(pages) == len(whole)
        assert {item.product_id for item in pages} == {item.product_id for item in whole}


def test_pages_of_a_thousand_equal_products_have_no_gaps_and_no_repeats() -> None:
    random = np.random.default_rng(3)
    shared = random_vectors(random, 1, IMAGE_DIM)
    twin = Twin()
    products = [
        IndexedProduct(f"p{number}", "w", {}, shared, np.zeros((0, TEXT_DIM), np.float32))
        for number in range(1000)
    ]
    twin.upsert(*products)
    # Written again, so that the order of vectors is not that of products.
    twin.upsert(*products[499::-1])
    asked = query(random, [1.0], [], top_k=100)
    found = [
        match.product_id
        for offset in range(0, 1000, 100)
        for match in twin.index.search([replace(asked, offset=offset)])[0]
    ]
    assert len(found) == 1000
    assert len(set(found)) == 1000


def axis(dim: int, at: int) -> FloatArray:
    return np.eye(dim, dtype=np.float32)[at : at + 1]


def test_the_best_of_both_is_found_though_each_list_alone_hides_it() -> None:
    """Ten products win on the image, ten on the text; the one that is good at both comes first."""
    image, text = axis(IMAGE_DIM, 0), axis(TEXT_DIM, 0)
    both_image = unit(image + axis(IMAGE_DIM, 1))
    both_text = unit(text + axis(TEXT_DIM, 1))
    twin = Twin()
    for number in range(10):
        twin.upsert(
            IndexedProduct(f"image{number}", "w", {}, image, -text),
            IndexedProduct(f"text{number}", "w", {}, -image, text),
        )
    twin.upsert(IndexedProduct("both", "w", {}, both_image, both_text))
    one = np.ones(1, np.float32)
    (found,) = twin.check(IndexQuery(image, one, text, one, top_k=1))
    assert found.product_id == "both"
    assert found.score == pytest.approx(np.sqrt(0.5), abs=1e-6)


def test_a_view_that_is_the_query_outweighs_the_others() -> None:
    twin = Twin()
    far, near = axis(IMAGE_DIM, 1), axis(IMAGE_DIM, 0)
    none = np.zeros((0, TEXT_DIM), np.float32)
    twin.upsert(
        IndexedProduct("two-views", "w", {}, np.concatenate([far, near]), none),
        IndexedProduct("one-view", "w", {}, unit(far + near), none),
    )
    one = np.ones(1, np.float32)
    found = twin.check(IndexQuery(near, one, none, np.zeros(0, np.float32), top_k=2))
    assert [match.product_id for match in found] == ["two-views", "one-view"]
    assert found[0].score == 1
    assert np.isnan(found[0].text_score)


def test_a_pushing_weight_prefers_what_is_far_from_it() -> None:
    twin = Twin()
    none = np.zeros((0, TEXT_DIM), np.float32)
    for name, at in (("liked", 0), ("disliked", 1)):
        twin.upsert(IndexedProduct(name, "w", {}, axis(IMAGE_DIM, at), none))
    vectors = np.concatenate([axis(IMAGE_DIM, 0), axis(IMAGE_DIM, 1)])
    asked = IndexQuery(
        vectors, np.array([1, -1], np.float32), none, np.zeros(0, np.float32), top_k=2
    )
    found = twin.check(asked)
    assert [(match.product_id, match.score) for match in found] == [
        ("liked", 0.5),
        ("disliked", -0.5),
    ]


@pytest.mark.parametrize("size", [1e38, 1e-44], ids=["huge", "tiny"])
def test_the_size_of_the_weights_does_not_matter_only_their_ratio(size: float) -> None:
    random, twin = filled(11, 40)
    asked = query(random, [1.0, 1.0], [1.0], top_k=100)
    (expected,) = twin.index.search([asked])
    scaled = replace(
        asked,
        image_weights=np.full(2, size, np.float32),
        text_weights=np.full(1, size, np.float32),
    )
    (found,) = twin.index.search([scaled])
    assert {match.product_id: match.score for match in found} == pytest.approx(
        {match.product_id: match.score for match in expected}, abs=1e-5
    )


def test_an_empty_index_answers_with_nothing() -> None:
    twin = Twin()
    random = np.random.default_rng(1)
    assert twin.check(query(random, [1.0], [1.0])) == []
    assert twin.check(query(random, [1.0], [-1.0], filter=b'{"category": "mug"}')) == []
    assert twin.check(query(random, [1.0], [], filter=b'{"category": "mug"}')) == []


def test_an_index_from_which_all_was_removed_answers_with_nothing() -> None:
    with few_at_once():
        random, twin = filled(7, 30)
        for product_id in list(twin.products):
            twin.remove(product_id)
        assert twin.check(query(random, [1.0], [1.0])) == []
        assert twin.check(query(random, [], [1.0], filter=b'{"category": "mug"}')) == []
        twin.upsert(random_product(random, 99))
        twin.check(query(random, [1.0], [1.0]))


def test_rows_of_replaced_products_are_used_again() -> None:
    random, twin = filled(2, 10)
    for _ in range(20):
        for number in range(10):
            twin.upsert(random_product(random, number))
        twin.check(query(random, [1.0, 0.5], [1.0], top_k=20))
    # Ten products with three views each at most, and one more while its rows are replaced.
    assert twin.index._images.frozen().total <= 33


def test_changes_count_up_the_version_and_removing_nothing_does_not() -> None:
    _, twin = filled(4, 3)
    assert twin.index.info()["version"] == 3
    twin.remove("none such")
    twin.upsert()
    assert twin.index.info()["version"] == 3
    twin.remove("p0")
    assert twin.index.info()["version"] == 4
    assert twin.index.write_ids(["p0"]) == {}


def scores_of(matches: list[IndexMatch]) -> list[tuple[float, float, float]]:
    return [(match.score, match.image_score, match.text_score) for match in matches]


def test_several_queries_are_answered_each_with_its_own_filter() -> None:
    random, twin = filled(8, 40)
    queries = [
        query(random, [1.0], [], filter=b'{"category": "mug"}'),
        query(random, [], [1.0], top_k=3),
        query(random, [1.0], [-1.0], filter=b'{"category": "vase"}'),
    ]
    together = twin.index.search(queries)
    for found, asked in zip(together, queries, strict=True):
        (alone,) = twin.index.search([asked])
        assert [match.product_id for match in found] == [match.product_id for match in alone]
        # Sums of other shapes round differently.
        np.testing.assert_allclose(scores_of(found), scores_of(alone), atol=TOLERANCE, rtol=0)
    categories = {key: item.fields["category"] for key, item in twin.products.items()}
    assert {categories[match.product_id] for match in together[0]} == {"mug"}
    assert {categories[match.product_id] for match in together[2]} == {"vase"}


def test_a_filter_that_is_not_valid_is_refused() -> None:
    random, twin = filled(9, 3)
    bad = query(random, [1.0], [], filter=json.dumps({"weight": 1}).encode())
    with pytest.raises(FilterError, match="weight"):
        twin.index.search([bad])


def test_searches_go_on_while_another_thread_changes_products() -> None:
    random, twin = filled(10, 40)
    fixed = [random_product(random, 1000 + number) for number in range(10)]
    twin.upsert(*fixed)
    # How rare a word is changes with the products.
    asked = query(random, [1.0], [1.0], top_k=100, word_weight=0.0)
    expected = {
        item.product_id: scores[0]
        for item in fixed
        if (scores := by_hand(item, asked, [0.0])) is not None
    }
    stop = threading.Event()

    def change() -> None:
        changes = np.random.default_rng(0)
        while not stop.is_set():
            number = int(changes.integers(0, 40))
            if changes.random() < 0.5:
                twin.index.remove(f"p{number}")
            else:
                twin.index.upsert([random_product(changes, number)])

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(150):
            (found,) = twin.index.search([asked])
            got = {match.product_id: match.score for match in found}
            for product_id, score in expected.items():
                assert got[product_id] == pytest.approx(score, abs=TOLERANCE)
    finally:
        stop.set()
        thread.join()


def version_of(twin: Twin, product: IndexedProduct) -> int:
    (match,) = twin.index.search([query_for(product)])[0]
    return match.product_version


def query_for(product: IndexedProduct) -> IndexQuery:
    one = np.ones(1, np.float32)
    none = np.zeros((0, TEXT_DIM), np.float32)
    return IndexQuery(product.image_vectors[:1], one, none, np.ones(0, np.float32), 1)


def test_a_product_has_another_version_after_each_change_and_no_other_product() -> None:
    twin = Twin()
    random = np.random.default_rng(0)
    first, other = (
        IndexedProduct(
            name, "w", {}, random_vectors(random, 1, IMAGE_DIM), np.zeros((0, TEXT_DIM), np.float32)
        )
        for name in ("a", "b")
    )
    twin.index.upsert([first, other])
    before, untouched = version_of(twin, first), version_of(twin, other)
    assert before != untouched
    twin.index.upsert([first])
    changed = version_of(twin, first)
    for name in ("a", "no such product"):
        twin.index.refresh({name: {"category": "vase"}})
    renewed = version_of(twin, first)
    twin.index.remove("a")
    twin.index.upsert([first])
    assert len({before, changed, renewed, version_of(twin, first)}) == 4
    assert version_of(twin, other) == untouched


def test_refreshed_fields_count_for_filters() -> None:
    twin = Twin()
    random = np.random.default_rng(0)
    product = IndexedProduct(
        "a",
        "w",
        {"category": "mug"},
        random_vectors(random, 1, IMAGE_DIM),
        random_vectors(random, 0, TEXT_DIM),
    )
    twin.index.upsert([product])
    twin.index.refresh({"a": {"category": "vase"}})
    for category, found in (("mug", 0), ("vase", 1)):
        asked = replace(query_for(product), filter=json.dumps({"category": category}).encode())
        assert len(twin.index.search([asked])[0]) == found


def test_a_long_filter_holds_up_neither_searches_nor_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random, twin = filled(10, 40)
    evaluate = FrozenColumns.evaluate
    begun, may_end = threading.Event(), threading.Event()

    def slow(self: FrozenColumns, *arguments: Any) -> Any:
        begun.set()
        assert may_end.wait(60)
        return evaluate(self, *arguments)

    monkeypatch.setattr(FrozenColumns, "evaluate", slow)
    asked = query(random, [1.0], [1.0], top_k=100)
    answers: list[list[IndexMatch]] = []
    filtered = replace(asked, filter=b'{"category": {"$exists": false}}')
    thread = threading.Thread(target=lambda: answers.extend(twin.index.search([filtered])))
    thread.start()
    try:
        assert begun.wait(60)
        before = twin.index.search([asked])
        twin.index.upsert([random_product(random, 2000)])
        assert len(twin.index.search([asked])[0]) == len(before[0]) + 1
    finally:
        may_end.set()
        thread.join()
    # It saw what was there when it began.
    assert "p2000" not in {match.product_id for match in answers[0]}


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("p3", {"p3"}),
        ({"$eq": "no such product"}, set()),
        ({"$in": ["p3", "p7", "p3"]}, {"p3", "p7"}),
        ({"$ne": "p3"}, {f"p{number}" for number in range(40)} - {"p3"}),
        ({"$nin": ["p3", "p7", "none"]}, {f"p{number}" for number in range(40)} - {"p3", "p7"}),
        ({"$not": {"$in": ["p3"]}}, {f"p{number}" for number in range(40)} - {"p3"}),
    ],
    ids=str,
)
def test_products_are_picked_and_left_out_by_their_ids(condition: Any, left: set[str]) -> None:
    random, twin = filled(10, 40)
    asked = query(random, [1.0], [1.0], top_k=100)
    every = {match.product_id for match in twin.index.search([asked])[0]}
    filtered = replace(asked, filter=json.dumps({"product_id": condition}).encode())
    (found,) = twin.index.search([filtered])
    assert {match.product_id for match in found} == left & every
    twin.index.remove("p3")
    (found,) = twin.index.search([filtered])
    assert {match.product_id for match in found} == (left & every) - {"p3"}


def test_a_refused_filter_fails_its_query_alone() -> None:
    random, twin = filled(10, 40)
    asked = query(random, [1.0], [1.0], top_k=100)
    bad = replace(asked, filter=b'{"colour": "red"}')
    first, refused, last = twin.index.answers([asked, bad, asked])
    assert isinstance(refused.refusal, FilterError)
    found = [[match.product_id for match in answer.matches] for answer in (first, last)]
    assert found[0] == found[1] != []


def test_a_change_that_fails_half_way_is_not_taken_for_done() -> None:
    twin = Twin()
    random = np.random.default_rng(0)
    wrong = random_vectors(random, 1, TEXT_DIM + 1)
    product = IndexedProduct("a", "w", {}, random_vectors(random, 1, IMAGE_DIM), wrong)
    with pytest.raises((AssertionError, ValueError, RuntimeError)):
        twin.index.upsert([product])
    assert twin.index.write_ids(["a"]) == {}


def test_two_runs_of_the_index_give_out_different_versions() -> None:
    random = np.random.default_rng(0)
    product = IndexedProduct(
        "a", "w", {}, random_vectors(random, 1, IMAGE_DIM), random_vectors(random, 0, TEXT_DIM)
    )
    versions = set()
    for _ in range(2):
        twin = Twin()
        twin.index.upsert([product])
        versions.add(version_of(twin, product))
    assert len(versions) == 2
