"""The sync check finds what differs between index and database, and repairs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from follower_support import OTHER_BUNDLE, Followed, Shop
from milvus_followed import MilvusFollowed
from serving_support import (
    UNSTEADY_MS,
    WAIT_SECONDS,
    RestartableDatabase,
    picture,
    unit,
    wait_for,
)

from bls_models.errors import ConflictError, IndexUnavailableError
from bls_models.index.engine import IndexedProduct
from bls_models.replication.sync_check import SyncCheck
from bls_models.settings import Settings

# Short, for what stays different.
LASTING_SECONDS = 0.4
# For what is under way: a check ends as soon as nothing differs any more.
PATIENT_SECONDS = 4.0


@pytest.fixture
def followed(followed_with_each_engine: Followed) -> Followed:
    """Each engine is followed alike."""
    return followed_with_each_engine


@pytest.fixture
def check(followed: Followed) -> Iterator[SyncCheck]:
    check = checker(followed)
    yield check
    check.close()


def checker(followed: Followed, settle_seconds: float = LASTING_SECONDS) -> SyncCheck:
    return SyncCheck(followed.index, followed.store, followed.follower, settle_seconds)


def kinds(report: dict[str, Any]) -> dict[str, str]:
    return {item["product_id"]: item["kind"] for item in report["products"]}


def other_write(product_id: str) -> IndexedProduct:
    """A product as a damaged index may have it."""
    vectors = unit(np.ones((1, 48))), unit(np.ones((1, 8)))
    return IndexedProduct(product_id, "0" * 32, {"category": "thing"}, *vectors)


def test_an_index_that_holds_what_is_stored_differs_in_nothing(
    shop: Shop, followed: Followed, check: SyncCheck
) -> None:
    for number in range(5):
        shop.put(number, picture(number), price=1.5 * number, attributes={"size": 3, "new": True})
    followed.start()
    report = check.run(repair=False)
    assert report.pop("seconds") >= 0
    assert report == {
        "products_in_database": 5,
        "products_in_index": 5,
        "differences": {},
        "repaired": 0,
        "under_way": 0,
        "products": [],
    }


def test_every_kind_of_damage_is_found_and_repaired(
    shop: Shop, followed: Followed, check: SyncCheck
) -> None:
    for number in range(6):
        shop.put(number, picture(number), price=9.0)
    followed.start()
    followed.index.remove("p1")
    fields = {"category": "thing", "name": "Product 3", "price": 1.0}
    followed.put_by_hand(
        other_write("p2"),
        replace(other_write("no such product"), write_id="1" * 32),
        replace(other_write("p3"), write_id=shop.writes["p3"], fields=fields),
    )
    damaged = {
        "p1": "missing",
        "p2": "other_revision",
        "no such product": "gone",
        "p3": "other_fields",
    }
    found = check.run(repair=False)
    assert kinds(found) == damaged
    assert found["differences"] == dict.fromkeys(damaged.values(), 1)
    assert found["repaired"] == 0
    details = {item["product_id"]: item["detail"] for item in found["products"]}
    assert details["p3"] == "the index has other price"
    assert details["p2"].endswith("the index has write " + "0" * 32)
    assert all(item["revision"] == 1 for item in found["products"] if item["kind"] != "gone")

    repaired = check.run(repair=True)
    assert kinds(repaired) == damaged
    assert repaired["repaired"] == 4
    assert all(item["repaired"] for item in repaired["products"])
    assert check.run(repair=False)["differences"] == {}
    assert followed.writes == shop.writes
    assert all(followed.finds(number) for number in range(6))
    assert followed.best("anything", '{"price": {"$lt": 5}}') is None


def test_stale_products_are_listed_with_the_remedy_and_not_repaired(shop: Shop) -> None:
    shop.put(1)
    followed = Followed(shop.settings, OTHER_BUNDLE)
    try:
        followed.start()
        report = checker(followed).run(repair=True)
    finally:
        followed.close()
    assert report["repaired"] == 0
    (item,) = report["products"]
    assert item["kind"] == "stale"
    assert "make reembed" in item["detail"]


def test_what_hands_have_put_in_is_listed_with_what_is_wrong(
    shop: Shop, followed: Followed, check: SyncCheck
) -> None:
    shop.store.products.insert_one({"_id": "by hand", "name": "x"})
    shop.store.products.insert_one({"_id": 7, "name": "x"})
    shop.put(1, price=9.0)
    followed.start()
    shop.store.products.update_one({"_id": "p1"}, {"$set": {"price": "dear"}})
    wait_for(lambda: followed.ids == set(), "the product with the wrong price is left out")
    report = check.run(repair=True)
    assert report["products_in_database"] == 3
    assert report["repaired"] == 0
    assert set(kinds(report).values()) == {"not_searchable"}
    details = {item["product_id"]: item["detail"] for item in report["products"]}
    assert details["by hand"] == "it was not written by product_ingest"
    assert details["int 7"] == "its id is not a string"
    assert "price" in details["p1"]


@pytest.fixture
def in_milvus(shop: Shop, lite_uri: str) -> Iterator[MilvusFollowed]:
    followed = MilvusFollowed(shop.settings, lite_uri)
    yield followed
    followed.close()


def test_rows_in_milvus_that_are_not_of_a_whole_product_are_found_and_removed(
    shop: Shop, in_milvus: MilvusFollowed
) -> None:
    shop.put(1, picture(1))
    in_milvus.start()
    late = replace(other_write("p1"), write_id="1" * 32)
    in_milvus.insert_rows(late)
    part = replace(other_write("no such product"), image_vectors=unit(np.ones((2, 48))))
    in_milvus.insert_rows(part, begin=1)
    check = checker(in_milvus)
    damaged = {
        "p1": "other_revision",
        "no such product": "gone",
    }
    assert kinds(check.run(repair=True)) == damaged
    assert in_milvus.ids == {"p1"}
    assert in_milvus.writes == shop.writes
    assert check.run(repair=False)["differences"] == {}


def test_what_milvus_cannot_keep_is_no_difference_or_has_a_reason(
    shop: Shop, in_milvus: MilvusFollowed
) -> None:
    shop.put(1, attributes={f"k{number}": "中" * 512 for number in range(64)})
    shop.put(2)
    document = shop.store.products.find_one({"_id": "p2"})
    assert document is not None
    shop.store.products.insert_one(document | {"_id": "中" * 200})
    in_milvus.start()
    assert in_milvus.ids == {"p1", "p2"}
    (item,) = checker(in_milvus).run(repair=True)["products"]
    assert item["kind"] == "not_searchable"
    assert "product_id: 600 bytes; expected at most 512" in item["detail"]


def test_changes_that_are_under_way_are_no_differences(shop: Shop, followed: Followed) -> None:
    followed.start()
    check = checker(followed, PATIENT_SECONDS)
    done = threading.Event()

    def change() -> None:
        step = 0
        while not done.is_set():
            step += 1
            number = step % 9
            if step % 4 == 0:
                shop.delete(number)
            else:
                shop.put(number, name=f"Step {step}")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            assert check.run(repair=False)["differences"] == {}
    finally:
        done.set()
        thread.join()


def test_a_repair_under_changes_never_brings_back_what_is_older(
    shop: Shop, followed: Followed, check: SyncCheck
) -> None:
    for number in range(4):
        shop.put(number)
    followed.start()
    done = threading.Event()

    def change() -> None:
        step = 0
        while not done.is_set():
            step += 1
            shop.put(step % 4, name=f"Step {step}")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(30):
            followed.follower.reread([f"p{number}" for number in range(4)], 20)
    finally:
        done.set()
        thread.join()
    wait_for(lambda: followed.writes == shop.writes, "the index holds the last write of each")
    assert check.run(repair=False)["differences"] == {}


def hold(check: SyncCheck, until: threading.Event) -> None:
    """Let checks begin and not go on before that."""
    compare = check._compare_all

    def held() -> Any:
        assert until.wait(WAIT_SECONDS)
        return compare()

    check._compare_all = held  # type: ignore[method-assign]


def test_one_check_runs_at_a_time(shop: Shop, followed: Followed, check: SyncCheck) -> None:
    followed.start()
    followed.put_by_hand(other_write("no such product"))
    outcomes: list[Any] = []
    go_on = threading.Event()
    hold(check, go_on)
    check.start(False, outcomes.append)
    check.start(False, outcomes.append)
    assert len(outcomes) == 1
    go_on.set()
    wait_for(lambda: len(outcomes) == 2, "both are answered")
    assert isinstance(outcomes[0], ConflictError)
    assert outcomes[1]["differences"] == {"gone": 1}
    check.start(False, outcomes.append)
    wait_for(lambda: len(outcomes) == 3, "the next one is answered")
    assert outcomes[2]["differences"] == {"gone": 1}


def test_a_check_that_is_broken_off_says_so(
    shop: Shop, followed: Followed, check: SyncCheck
) -> None:
    followed.start()
    followed.put_by_hand(other_write("no such product"))
    outcomes: list[Any] = []
    hold(check, check._stop)
    check.start(False, outcomes.append)
    check.close()
    (outcome,) = wait_for(lambda: outcomes, "the check has ended")
    assert isinstance(outcome, IndexUnavailableError)


def test_an_index_that_does_not_follow_is_not_compared(
    restartable: RestartableDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bls_models.replication.sync_check.CATCH_UP_SECONDS", 0.2)
    settings = Settings(mongodb_uri=restartable.uri, mongodb_timeout_ms=UNSTEADY_MS)
    followed = Followed(settings)
    try:
        followed.start()
        restartable.stop()
        wait_for(lambda: not followed.follower.info()["following"], "the loss is noticed")
        with pytest.raises(IndexUnavailableError, match="does not follow the database"):
            checker(followed).run(repair=False)
    finally:
        followed.close()
