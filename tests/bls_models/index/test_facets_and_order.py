"""Facets and other orders than that of scores give what counting and sorting by hand gives."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from serving_support import unit

from bls_models.errors import RequestError
from bls_models.index.engine import IndexedProduct
from bls_models.index.facets import MAX_FIELDS, parse_facets
from bls_models.index.filters import sorted_entries
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.specs import SORTS

DIM = 6
NO_VECTOR = np.zeros((0, DIM), np.float32)
CHEAP = b'{"price": {"$lt": 6}}'
BOUNDS = (2.0, 5.0, 9.0)
FACETS = {"category": 2, "price": list(BOUNDS), "attributes.size": 100, "attributes.new": 1}


def product(random: np.random.Generator, number: int) -> IndexedProduct:
    """Values are often equal, often missing, and of several kinds in one attribute."""
    fields: dict[str, Any] = {"category": str(random.choice(["mug", "vase", "Teller", "杯子"]))}
    if random.random() < 0.7:
        fields["price"] = float(random.integers(0, 12))
    if random.random() < 0.7:
        fields["name"] = str(random.choice(["a", "b", "ä", "Z"]))
    attributes: dict[str, Any] = {}
    if random.random() < 0.8:
        attributes["size"] = random.choice(["big", "12", 12, 3, True], 1).tolist()[0]
        if random.random() < 0.5:
            attributes["size"] = [12, 3.5, True, False, "12"][int(random.integers(0, 5))]
    if random.random() < 0.5:
        attributes["new"] = bool(random.integers(0, 2))
    fields["attributes"] = attributes
    views = unit(random.normal(size=(1, DIM))) if random.random() < 0.9 else NO_VECTOR
    return IndexedProduct(f"p{number:03}", "w", fields, views, NO_VECTOR)


def filled(seed: int, count: int, **options: Any) -> tuple[ProductIndex, list[IndexedProduct]]:
    random = np.random.default_rng(seed)
    index = ProductIndex(DIM, DIM, 1000, IndexOptions(**options))
    products = [product(random, number) for number in range(count)]
    index.upsert(products)
    # Some are gone, and slots are used again.
    for item in products[::5]:
        index.remove(item.product_id)
    kept = [item for number, item in enumerate(products) if number % 5]
    later = [product(random, number) for number in range(count, count + count // 5)]
    index.upsert(later)
    return index, kept + later


def query(**options: Any) -> IndexQuery:
    vector = np.eye(1, DIM, dtype=np.float32)
    none = np.zeros(0, np.float32)
    asked = IndexQuery(vector, np.ones(1, np.float32), NO_VECTOR, none, 7)
    return replace(asked, **options)


def answer_of(index: ProductIndex, asked: IndexQuery) -> IndexAnswer:
    (answer,) = index.answers([asked])
    assert answer.refusal is None, answer.refusal
    return answer


def score(item: IndexedProduct) -> float:
    return float(item.image_vectors[0, 0]) if len(item.image_vectors) else float("-inf")


def passing(products: list[IndexedProduct], min_score: float, cheap: bool) -> list[IndexedProduct]:
    return [
        item
        for item in products
        if len(item.image_vectors)
        and score(item) >= min_score
        and (not cheap or item.fields.get("price", 99) < 6)
    ]


def value_of(item: IndexedProduct, field: str) -> Any:
    if field.startswith("attributes."):
        return item.fields["attributes"].get(field.removeprefix("attributes."))
    return item.fields.get(field)


def key_of(value: Any) -> tuple[str, Any]:
    """To Python, True is 1."""
    return type(value).__name__.replace("int", "float"), value


def counted_by_hand(products: list[IndexedProduct]) -> dict[str, Any]:
    expected: dict[str, Any] = {}
    for field, wanted in FACETS.items():
        values = [value_of(item, field) for item in products]
        there = [value for value in values if value is not None]
        if isinstance(wanted, list):
            cuts = [float("-inf"), *wanted, float("inf")]
            expected[field] = {
                "ranges": [
                    sum(low <= value < high for value in there) for low, high in pairwise(cuts)
                ],
                "least": min(there, default=None),
                "most": max(there, default=None),
                "missing": len(values) - len(there),
            }
        else:
            counts = Counter(map(key_of, there))
            expected[field] = {"counts": counts, "missing": len(values) - len(there)}
    return expected


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 90),
    min_score=st.sampled_from([float("-inf"), -1.0, -0.2, 0.3, 0.8]),
    cheap=st.booleans(),
    bucket=st.sampled_from([4, 512]),
)
def test_facets_are_what_counting_by_hand_gives(
    seed: int, count: int, min_score: float, cheap: bool, bucket: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_entries, "BUCKET", bucket)
        index, products = filled(seed, count)
        asked = query(
            min_score=min_score,
            facets=json.dumps(FACETS).encode(),
            filter=CHEAP if cheap else b"",
        )
        answer = answer_of(index, asked)
    expected = counted_by_hand(passing(products, min_score, cheap))
    assert answer.facets.keys() == FACETS.keys()
    for field, found in answer.facets.items():
        wanted = expected[field]
        assert found["missing"] == wanted["missing"]
        if "ranges" in wanted:
            assert [item["count"] for item in found["ranges"]] == wanted["ranges"]
            assert [item["from"] for item in found["ranges"]] == [None, *BOUNDS]
            assert [item["to"] for item in found["ranges"]] == [*BOUNDS, None]
            assert (found["least"], found["most"]) == (wanted["least"], wanted["most"])
            continue
        limit = FACETS[field]
        counts = wanted["counts"]
        assert [item["count"] for item in found["values"]] == sorted(counts.values(), reverse=True)[
            :limit
        ]
        for item in found["values"]:
            assert counts[key_of(item["value"])] == item["count"]
        named = sum(item["count"] for item in found["values"])
        assert found["others"] == sum(counts.values()) - named


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 90),
    sort=st.sampled_from([item for item in SORTS if item != "score"]),
    offset=st.integers(0, 60),
    top_k=st.integers(1, 20),
    min_score=st.sampled_from([float("-inf"), -0.2, 0.3]),
    cheap=st.booleans(),
    bucket=st.sampled_from([4, 512]),
)
def test_orders_are_what_sorting_by_hand_gives(
    seed: int,
    count: int,
    sort: str,
    offset: int,
    top_k: int,
    min_score: float,
    cheap: bool,
    bucket: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_entries, "BUCKET", bucket)
        index, products = filled(seed, count)
        asked = query(
            sort=sort,
            offset=offset,
            top_k=top_k,
            min_score=min_score,
            filter=CHEAP if cheap else b"",
        )
        answer = answer_of(index, asked)
    field = sort.removeprefix("-")
    found = sorted(passing(products, min_score, cheap), key=lambda item: item.product_id)
    have = [item for item in found if value_of(item, field) is not None]
    # A stable sort, so equals stay in the order of their ids.
    have.sort(key=lambda item: value_of(item, field), reverse=sort.startswith("-"))
    ordered = have + [item for item in found if value_of(item, field) is None]
    page = ordered[offset : offset + top_k]
    assert [match.product_id for match in answer.matches] == [item.product_id for item in page]
    for match, item in zip(answer.matches, page, strict=True):
        assert match.score == pytest.approx(score(item), abs=1e-5)
        assert match.view == 0


def test_queries_of_all_orders_share_a_batch() -> None:
    index, _ = filled(3, 60)
    asked = [query(), query(sort="price"), query(facets=b'{"category": 9}'), query(sort="-name")]
    # What is wrong with one of them is not told of those with the same filter.
    bad = [query(facets=b"{"), query(filter=b"{"), query(sort="colour")]
    *refused, first, second, third, fourth = index.answers([*bad, *asked])
    together = [first, second, third, fourth]
    for one, answer in zip(asked, together, strict=True):
        alone = answer_of(index, one)
        ids = [match.product_id for match in alone.matches]
        assert [match.product_id for match in answer.matches] == ids
        assert answer.facets == alone.facets
    assert together[0].facets == {}
    assert all(isinstance(answer.refusal, RequestError) for answer in refused)
    assert "sort: 'colour'; expected score | price | -price" in str(refused[2].refusal)


def test_a_query_of_nothing_finds_nothing_and_fails_no_other() -> None:
    index, _ = filled(6, 30)
    nothing = query(image_weights=np.zeros(1, np.float32), min_score=0.1, filter=CHEAP)
    empty, full = index.answers([nothing, query()])
    assert (empty.matches, len(full.matches)) == ([], 7)


def test_what_all_products_take_is_bounded() -> None:
    index, _ = filled(4, 60, max_search_work=10)
    facets = b'{"category": 9}'
    # Without a least score nothing has to be scored to be counted.
    assert answer_of(index, query(facets=facets, sort="price", min_score=-1)).facets["category"]
    for options in ({"facets": facets, "sort": "price"}, {"sort": "name"}):
        (refused,) = index.answers([query(min_score=0.2, **options)])
        assert "PRODUCT_MATCH_MAX_SEARCH_WORK" in str(refused.refusal)
    narrow, _ = filled(4, 60, max_filter_work=200)
    assert answer_of(narrow, query(facets=b'{"price": [5]}')).facets
    (refused,) = narrow.answers([query(facets=b'{"name": 5, "category": 9}')])
    assert "PRODUCT_MATCH_MAX_FILTER_WORK" in str(refused.refusal)


def test_a_field_that_is_not_kept_is_not_counted_as_missing() -> None:
    index, _ = filled(5, 60, max_attribute_keys=1)
    answers = index.answers(
        [query(facets=json.dumps({f"attributes.{key}": 3}).encode()) for key in ("size", "new")]
    )
    refusals = [str(answer.refusal) for answer in answers if answer.refusal is not None]
    assert len(refusals) == 1
    assert "PRODUCT_MATCH_MAX_ATTRIBUTE_KEYS" in refusals[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 5000, "5000 bytes"),
        (b"[" * 3000, "not JSON"),
        (b"[]", "a JSON list"),
        (b'{"colour": 3}', "the field 'colour'"),
        (b'{"attributes.": 3}', "the field 'attributes.'"),
        (b'{"product_id": 3}', "the field 'product_id'"),
        (b'{"category": 0}', "0 values; expected 1 to 100"),
        (b'{"category": 101}', "101 values"),
        (b'{"category": true}', "category: True"),
        (b'{"category": "all"}', "category: 'all'"),
        (b'{"price": []}', "price: []"),
        (b'{"price": [3, 3]}', "bounds that grow"),
        (b'{"price": [1, "2"]}', "bounds that grow"),
        (b'{"price": [NaN]}', "bounds that grow"),
        (b'{"price": [1e999]}', "bounds that grow"),
        (b'{"price": [1%s]}' % (b"0" * 400), "bounds that grow"),
        (b'{"category": 1%s}' % (b"0" * 400), "0000 values; expected 1 to 100"),
        (b'{"price": %s%s}' % (b"[" * 300, b"]" * 300), "price: [[["),
        (json.dumps({f"attributes.k{n}": 1 for n in range(MAX_FIELDS + 1)}).encode(), "17 fields"),
    ],
)
def test_bad_facets_are_refused(text: bytes, words: str) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_facets(text)
    assert refusal.value.tensor == "facets"
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 400
