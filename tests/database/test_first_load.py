"""While a server reads its catalogue for the first time it says how far it is, and is not ready."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from follower_support import Followed, Shop
from serving_support import SMALL_BUNDLE, picture, wait_for

from bls_models.errors import STANDS_STILL
from bls_models.index.lists.candidates import CandidateIndex
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.metric.catalogue import NONE
from bls_models.replication import follower as follower_module
from bls_models.replication.follower import IndexFollower
from bls_models.replication.product_loader import ProductLoader
from bls_models.replication.snapshot_schedule import SnapshotSchedule
from bls_models.settings import Settings
from bls_models.telemetry.metrics import INDEX_LOADED_SHARE, Metrics, MetricSpec

# Two pages of products.
PRODUCTS = 100


class KeptMetrics(Metrics):
    """Keeps the values that the loaded share had."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        if spec is INDEX_LOADED_SHARE:
            self.shares.append(value)


@pytest.fixture
def filled(settings: Settings) -> Iterator[Shop]:
    shop = Shop(settings)
    for number in range(PRODUCTS):
        shop.put(number, picture(number % 3))
    yield shop
    shop.close()


def unsaved(followed: Followed) -> SnapshotSchedule:
    identity = followed.store.identity
    return SnapshotSchedule(followed.index, Settings(), SMALL_BUNDLE.fingerprint, NONE, identity)


def test_a_full_read_says_how_far_it_is(filled: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    second_page, go_on = threading.Event(), threading.Event()
    put, pages = ProductLoader._put, []

    def held(self: ProductLoader, documents: Any, *rest: Any) -> None:
        pages.append(documents)
        if len(pages) == 2:
            second_page.set()
            go_on.wait()
        put(self, documents, *rest)

    monkeypatch.setattr(ProductLoader, "_put", held)
    followed, metrics = Followed(filled.settings), KeptMetrics()
    followed.follower = IndexFollower(
        followed.index, followed.store, SMALL_BUNDLE, unsaved(followed), metrics
    )
    try:
        followed.start(0)
        wait_for(second_page.is_set, "the first page is read")
        assert not followed.follower.loaded
        assert followed.follower.waiting_for == f"64 of {PRODUCTS} products are read"
        assert followed.follower.info()["loaded_share"] == metrics.shares[-1] == 0.64
        monkeypatch.setattr(follower_module, "STANDSTILL_SECONDS", -1.0)
        assert STANDS_STILL in followed.follower.waiting_for
        go_on.set()
        wait_for(lambda: followed.follower.loaded, "the index is loaded")
        assert followed.follower.info()["loaded_share"] == 1
        wait_for(lambda: metrics.shares[-1] == 1, "the metric says so")
        assert metrics.shares == sorted(metrics.shares)
    finally:
        go_on.set()
        followed.close()


@pytest.mark.parametrize("fails", [False, True])
def test_a_large_catalogue_is_not_ready_before_its_first_lists(
    filled: Shop, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    training, go_on = threading.Event(), threading.Event()
    train = CandidateIndex.train

    def held(*arguments: Any) -> CandidateIndex:
        training.set()
        go_on.wait()
        if fails:
            raise MemoryError("no room for lists")
        return train(*arguments)

    monkeypatch.setattr(CandidateIndex, "train", held)
    followed = Followed(filled.settings)
    followed.index = followed.searched = ProductIndex(
        SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim, 1000, IndexOptions(flat_rows=50)
    )
    followed.follower = IndexFollower(
        followed.index, followed.store, SMALL_BUNDLE, unsaved(followed)
    )
    try:
        followed.start(0)
        wait_for(training.is_set, "lists are being made")
        wait_for(lambda: followed.follower.info()["loaded_share"] == 1, "all is read")
        assert not followed.follower.loaded
        wait_for(
            lambda: followed.follower.waiting_for == "its candidate lists are being made",
            "it says what is missing",
        )
        go_on.set()
        # Where they cannot be made, slow searches are better than none.
        wait_for(lambda: followed.follower.loaded, "the index is loaded")
        assert followed.finds(1)
    finally:
        go_on.set()
        followed.close()
