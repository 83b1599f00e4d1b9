"""Products of equal scores stand in one order, however the index came to hold them."""

from __future__ import annotations

import itertools

import numpy as np
from serving_support import unit

from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexQuery
from bls_models.index.scored_query import SCORE_DECIMALS
from bls_models.vectors import FloatArray

COUNT = 60
RANDOM = np.random.default_rng(5)
WANTED = unit(RANDOM.normal(size=(1, 48)))
NO_TEXT = np.zeros((0, 8), np.float32)


def clear_pictures() -> FloatArray:
    """Six vectors whose cosines to the wanted one no rounding takes for another.

    Rows of one vector differ in their last bits, by where they lie and by the processor.
    """
    vectors = unit(RANDOM.normal(size=(60, 48)))
    cosines = vectors.astype(np.float64) @ WANTED[0].astype(np.float64)
    places = cosines * 10**SCORE_DECIMALS
    return vectors[np.abs(places - places.round()) < 0.25][:6]


# Six pictures, each of ten products.
PICTURES = clear_pictures()


def product(number: int, write_id: str = "w") -> IndexedProduct:
    return IndexedProduct(f"p{number:02}", write_id, {}, PICTURES[[number % 6]], NO_TEXT)


def ranking(index: ProductIndex, top_k: int, offset: int = 0) -> list[str]:
    weights = np.ones(1, np.float32)
    query = IndexQuery(WANTED, weights, NO_TEXT, weights[:0], top_k, offset)
    (found,) = index.search([query])
    return [item.product_id for item in found]


def test_two_indexes_filled_in_another_order_rank_equal_products_alike_on_every_page() -> None:
    numbers = list(range(COUNT))
    forward, shuffled = (ProductIndex(48, 8, 1000) for _ in range(2))
    forward.upsert([product(number) for number in numbers])
    RANDOM.shuffle(numbers)
    for number in numbers:
        shuffled.upsert([product(number)])
    for number in numbers[::3]:
        shuffled.remove(f"p{number:02}")
    for number in numbers[::3]:
        shuffled.upsert([product(number, "again")])
    assert len(PICTURES) == 6
    whole = ranking(forward, COUNT)
    assert ranking(shuffled, COUNT) == whole
    scores = [int(name[1:]) % 6 for name in whole]
    for _, group in itertools.groupby(zip(scores, whole, strict=True), key=lambda item: item[0]):
        names = [name for _, name in group]
        assert len(names) == COUNT // 6
        assert names == sorted(names)
    for size in (1, 7, 10):
        for index in (forward, shuffled):
            pages = [ranking(index, size, offset) for offset in range(0, COUNT, size)]
            assert list(itertools.chain(*pages)) == whole
