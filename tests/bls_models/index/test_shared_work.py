"""Queries of one request share one query's work; a filter that several have is looked at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serving_support import unit

from bls_models.index.engine import IndexedProduct
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexQuery

PRODUCTS, DIM = 40, 6
CHEAP = b'{"price": {"$lt": 10}}'


@pytest.fixture
def index() -> ProductIndex:
    random = np.random.default_rng(4)
    index = ProductIndex(DIM, DIM, 1000, IndexOptions(max_search_work=PRODUCTS))
    index.upsert(
        [
            IndexedProduct(
                f"p{number}",
                "w",
                {"price": number},
                unit(random.normal(size=(1, DIM))),
                np.zeros((0, DIM), np.float32),
            )
            for number in range(PRODUCTS)
        ]
    )
    return index


def query(**options: object) -> IndexQuery:
    one, none = np.ones(1, np.float32), np.zeros(0, np.float32)
    vector = np.eye(1, DIM, dtype=np.float32)
    empty = np.zeros((0, DIM), np.float32)
    return replace(IndexQuery(vector, one, empty, none, 3), **options)  # type: ignore[arg-type]


def test_a_share_of_the_work_is_what_a_query_may_take(index: ProductIndex) -> None:
    whole, half = index.answers([query(), query(work_share=0.5)])
    assert len(whole.matches) == 3
    assert half.refusal is not None
    assert "at most 20" in str(half.refusal)
    assert "fewer objects" in str(half.refusal)


def test_a_filter_that_several_queries_have_is_looked_at_once(index: ProductIndex) -> None:
    alone = index.answers([query(filter=CHEAP)])[0]
    first, other, second = index.answers([query(filter=CHEAP), query(), query(filter=CHEAP)])
    assert first.filtered == alone.filtered > 0
    assert (second.filtered, other.filtered) == (first.filtered, 0)
    ids = [match.product_id for match in alone.matches]
    assert [match.product_id for match in first.matches] == ids
    assert [match.product_id for match in second.matches] == ids
    assert all(int(match.product_id[1:]) < 10 for match in second.matches)
    refused = index.answers([query(filter=b"{")] * 2)
    assert [str(answer.refusal) for answer in refused] == [str(refused[0].refusal)] * 2
