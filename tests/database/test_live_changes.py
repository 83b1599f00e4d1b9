"""Under a stream of changes searches see each one and go on; all indexes become the same.

How soon they see it is what `make live-changes` measures.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from follower_support import Followed, Shop
from serving_support import SMALL_BUNDLE, picture, unit, wait_for

from bls_models.index.query import IndexQuery
from bls_models.vectors import FloatArray
from loadtest.catalogue_changes import KINDS, Catalogue, PacedChanges

RATE = 200.0
PRODUCTS = 400
# Few, because a busy machine writes large batches, of which one change each is waited for.
SEEN_OF_EACH = 2
WRITES = 10


def vectors(count: int, dim: int, seed: int) -> FloatArray:
    return unit(np.random.default_rng(seed).normal(size=(count, dim)))


@pytest.fixture
def live(shop: Shop) -> Catalogue:
    shop.store.ensure_indexes()
    return Catalogue(
        shop.store, SMALL_BUNDLE.fingerprint, vectors(64, 48, seed=1), vectors(64, 8, seed=2)
    )


@pytest.fixture
def other(shop: Shop) -> Iterator[Followed]:
    other = Followed(shop.settings)
    yield other
    other.close()


def query(image: FloatArray, condition: str = "", top_k: int = 20) -> IndexQuery:
    return IndexQuery(
        image[np.newaxis],
        np.ones(1, np.float32),
        np.zeros((0, 8), np.float32),
        np.zeros(0, np.float32),
        top_k=top_k,
        filter=condition.encode(),
    )


def sees(followed: Followed, product_id: str, number: int) -> bool:
    condition = f'{{"name": "Product {product_id}", "attributes.change": {{"$gte": {number}}}}}'
    (found,) = followed.index.search([query(vectors(1, 48, seed=3)[0], condition)])
    return bool(found)


class Searches:
    """Searches one after another, from a thread of its own."""

    def __init__(self, followed: Followed) -> None:
        self._followed = followed
        self._done = threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        wanted = query(vectors(1, 48, seed=4)[0])
        while not self._done.is_set():
            self._followed.index.search([wanted])
            self.count += 1
            # The thread that applies changes is to have its turn.
            self._done.wait(0.002)

    def __enter__(self) -> Searches:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def test_a_change_is_seen_without_another_one_after_it(live: Catalogue, followed: Followed) -> None:
    live.add(PRODUCTS)
    followed.start()
    for _ in range(2 * len(KINDS)):
        (change,) = live.change(1)
        seen = change.kind != "delete"
        wait_for(
            lambda change=change, seen=seen: (
                sees(followed, change.product_id, change.number) == seen
            ),
            f"{change} is seen",
        )


def test_every_kind_of_change_is_seen_while_others_are_made_and_searches_go_on(
    live: Catalogue, followed: Followed
) -> None:
    live.add(PRODUCTS)
    followed.start()
    wait_for(lambda: len(followed.ids) == PRODUCTS, "the index holds what is there")
    changes = PacedChanges(live, RATE, lambda *which: sees(followed, *which))
    try:
        with Searches(followed) as searches:
            wait_for(lambda: searches.count > 100, "searches go on while the catalogue changes")
            wait_for(
                lambda: min(changes.seen[kind] for kind in KINDS) >= SEEN_OF_EACH,
                "changes of every kind are seen",
            )
            after = searches.count
            wait_for(lambda: searches.count > after + 10, "searches go on still")
    finally:
        result = changes.close()
    assert set(result.made) == set(result.visible_ms) == set(KINDS)


def test_two_indexes_that_follow_one_database_become_the_same_under_concurrent_changes(
    shop: Shop, live: Catalogue, followed: Followed, other: Followed
) -> None:
    live.add(PRODUCTS)
    followed.start()
    rival = Shop(shop.settings)
    changes = PacedChanges(live, RATE / 2, lambda *which: sees(followed, *which))
    done = threading.Event()
    written = [0, 0]

    def write(writer: Shop, seed: int) -> None:
        # Both writers change and delete the same few products.
        for step in itertools.count(10_000 * seed):
            if done.is_set():
                return
            if step % 3 == 0:
                writer.delete(step % 5)
            else:
                writer.put(step % 5, picture(step), name=f"Step {step}", price=float(step))
            written[seed] += 1

    def wait_for_both(until: str) -> None:
        before = list(written)
        wait_for(
            lambda: all(now > then + WRITES for now, then in zip(written, before, strict=True)),
            f"both have written {until}",
        )

    writers = [
        threading.Thread(target=write, args=(writer, seed))
        for seed, writer in enumerate((shop, rival))
    ]
    for thread in writers:
        thread.start()
    try:
        wait_for_both("before it loads")
        # It loads while everything changes.
        other.start()
        wait_for_both("after it has loaded")
    finally:
        done.set()
        for thread in writers:
            thread.join()
        changes.close()
        rival.close()
    for index in (followed, other):
        wait_for(lambda index=index: index.writes == shop.writes, "the index holds what is stored")
    for seed in range(5):
        wanted = query(vectors(1, 48, seed=10 + seed)[0], top_k=10 * PRODUCTS)
        assert scores(other, wanted) == pytest.approx(scores(followed, wanted), abs=1e-5)


def scores(followed: Followed, wanted: IndexQuery) -> dict[str, float]:
    """Every product's score; rows that lie in another order round differently."""
    (found,) = followed.index.search([wanted])
    return {item.product_id: item.score for item in found}
