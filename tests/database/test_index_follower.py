"""The index follows a real database: changes, restarts, and vectors of another bundle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bson import ObjectId
from follower_support import OTHER_BUNDLE, Followed, Shop
from serving_support import UNSTEADY_MS, WAIT_SECONDS, RestartableDatabase, picture, wait_for

from bls_models.database.store import Document, Store
from bls_models.settings import Settings
from bls_models.vectors import binary_from_vector


@pytest.fixture
def followed(followed_with_each_engine: Followed) -> Followed:
    """Each engine is followed alike."""
    return followed_with_each_engine


def test_what_is_stored_already_is_loaded_before_start_returns(
    shop: Shop, followed: Followed
) -> None:
    for number in range(5):
        shop.put(number, picture(number))
    followed.start()
    assert followed.follower.loaded
    assert followed.ids == {f"p{number}" for number in range(5)}
    assert all(followed.finds(number) for number in range(5))
    info = followed.follower.info()
    assert (info["products"], info["image_vectors"], info["text_vectors"]) == (5, 5, 5)
    assert info["stale_products"] == 0


def test_a_full_read_ends_when_the_follower_is_stopped(
    shop: Shop, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put(1)
    pages = list(followed.store.iterate_products())
    read, over = threading.Event(), threading.Event()

    def endless(self: Store) -> Iterator[list[Document]]:
        while not over.wait(0.01):
            yield pages[0]
            read.set()

    monkeypatch.setattr(Store, "iterate_products", endless)
    followed.start(0)
    try:
        assert read.wait(WAIT_SECONDS)
        followed.follower.stop()
        assert not followed.follower._thread.running
    finally:
        over.set()
    assert not followed.follower.loaded


def test_an_empty_database_is_loaded_too(shop: Shop, followed: Followed) -> None:
    followed.start()
    assert followed.follower.loaded
    assert followed.ids == set()


def test_all_pages_of_a_larger_catalogue_are_read(shop: Shop) -> None:
    for number in range(7):
        shop.put(number)
    pages = list(shop.store.iterate_products(page=3))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [item["_id"] for page in pages for item in page] == [f"p{n}" for n in range(7)]
    assert all("created" not in item for page in pages for item in page)


def test_new_products_changes_and_deletes_are_followed(shop: Shop, followed: Followed) -> None:
    followed.start()
    shop.put(1, picture(1))
    wait_for(lambda: followed.finds(1), "the new product is found")
    shop.put(1, name="Another name", price=3.0)
    wait_for(lambda: followed.finds(1, name="Another name"), "its new text is found")
    assert not followed.finds(1)
    assert followed.index.info()["image_vectors"] == 1
    shop.delete(1)
    wait_for(lambda: followed.ids == set(), "the deleted product is gone")
    assert followed.best("Product 1") is None


def test_a_changed_price_is_seen_by_filters(shop: Shop, followed: Followed) -> None:
    cheap = '{"price": {"$lt": 5}}'
    shop.put(1, price=9.0)
    followed.start()
    assert followed.best("anything", cheap) is None
    shop.put(1, price=1.0)
    wait_for(lambda: followed.best("anything", cheap), "the filter finds the new price")


def test_a_price_changed_by_hand_is_seen_by_filters(shop: Shop, followed: Followed) -> None:
    cheap = '{"price": {"$lt": 5}}'
    shop.put(1, price=9.0)
    followed.start()
    shop.store.products.update_one({"_id": "p1"}, {"$set": {"price": 1.0}})
    wait_for(lambda: followed.best("anything", cheap), "the filter finds the new price")
    assert followed.finds(1)


def test_a_document_put_in_by_hand_without_vectors_is_not_searched_and_stops_nothing(
    shop: Shop, followed: Followed
) -> None:
    shop.store.products.insert_one({"_id": "by hand before", "name": "x"})
    shop.put(1)
    followed.start()
    assert followed.ids == {"p1"}
    shop.store.products.insert_one({"_id": "by hand after", "name": "x"})
    shop.put(2)
    wait_for(lambda: followed.finds(2), "the next product is found")
    assert followed.ids == {"p1", "p2"}
    assert followed.follower.info()["stale_products"] == 2


def test_a_field_of_a_wrong_type_put_in_by_hand_leaves_that_product_out_and_stops_nothing(
    shop: Shop, followed: Followed
) -> None:
    shop.put(1, price=9.0)
    shop.put(2)
    followed.start()
    shop.store.products.update_one({"_id": "p1"}, {"$set": {"price": "dear"}})
    shop.put(3)
    wait_for(lambda: followed.finds(3), "the next product is found")
    assert followed.ids == {"p2", "p3"}
    shop.put(1, price=1.0)
    wait_for(lambda: followed.finds(1), "the mended product is found")


def test_many_changes_in_a_row_end_in_what_the_database_holds(
    shop: Shop, followed: Followed
) -> None:
    followed.start()
    for step in range(40):
        number = step % 5
        if step % 7 == 3:
            shop.delete(number)
        else:
            shop.put(number, name=f"Step {step}")
    stored = {item["_id"]: item["write_id"] for item in shop.store.products.find({})}
    wait_for(
        lambda: followed.writes == stored,
        "the index holds the last write of every product",
    )


def test_a_follower_that_stopped_changes_nothing_any_more(shop: Shop, followed: Followed) -> None:
    followed.start()
    followed.follower.stop()
    assert not followed.follower.info()["following"]
    shop.put(1)
    other = Followed(shop.settings)
    other.start()
    other.close()
    assert other.ids == {"p1"}
    assert followed.ids == set()


def test_a_dropped_collection_empties_the_index_and_later_products_are_followed(
    shop: Shop, followed: Followed
) -> None:
    shop.put(1)
    followed.start()
    shop.store.products.drop()
    wait_for(lambda: followed.ids == set(), "the index is empty")
    shop.put(2)
    wait_for(lambda: followed.finds(2), "the new product is found")


# --- what hands have done ---------------------------------------------------------------------


def test_ids_that_are_no_strings_end_no_read_and_count_as_not_searched(
    shop: Shop, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "PAGE", 2)
    shop.store.products.insert_many([{"_id": number, "name": "x"} for number in range(5)])
    for number in range(3):
        shop.put(number)
    shop.store.products.insert_one({"_id": ObjectId(), "name": "after all strings"})
    followed.start()
    assert followed.ids == {"p0", "p1", "p2"}
    assert followed.follower.info()["stale_products"] == 6
    shop.store.products.insert_one({"_id": {"a": 1}, "name": "x"})
    shop.store.products.delete_one({"_id": 3})
    shop.put(3)
    wait_for(lambda: followed.finds(3), "the next product is found")
    assert followed.follower.info()["stale_products"] == 6


def test_a_product_whose_vectors_are_gone_is_counted_and_not_found_by_its_old_ones(
    shop: Shop, followed: Followed
) -> None:
    shop.put(1)
    shop.put(2)
    shop.store.embeddings.delete_many({"product_id": "p1"})
    followed.start()
    assert followed.ids == {"p2"}
    assert followed.follower.info()["stale_products"] == 1
    shop.store.embeddings.delete_many({"product_id": "p2"})
    shop.store.products.update_one({"_id": "p2"}, {"$set": {"price": 1.0}})
    wait_for(lambda: followed.ids == set(), "what has lost its vectors is not found")
    assert followed.follower.info()["stale_products"] == 2
    assert shop.run("reembed", {"product_id": "p2"}) == "updated"
    wait_for(lambda: followed.finds(2), "the reembedded product is found")
    assert followed.follower.info()["stale_products"] == 1


def binary(*numbers: float) -> bytes:
    return binary_from_vector(np.array(numbers, np.float32))


# What may have been done by hand to the embedding of a product's words.
DAMAGES: dict[str, tuple[Document, str]] = {
    "no vector": ({"$unset": {"vector": ""}}, "not a BSON binary vector"),
    "null": ({"$set": {"vector": None}}, "not a BSON binary vector"),
    "numbers": ({"$set": {"vector": [0.5] * 8}}, "not a BSON binary vector"),
    "bytes": ({"$set": {"vector": b"x"}}, "not a BSON binary vector"),
    "half a number": ({"$set": {"vector": binary(*[0.5] * 8)[:-1]}}, "buffer size"),
    "short": ({"$set": {"vector": binary(1, 1, 1)}}, "3 numbers instead of 8"),
    "not a number": ({"$set": {"vector": binary(*[np.nan] * 8)}}, "not finite"),
    "no kind": ({"$unset": {"kind": ""}}, "its kind is None"),
    "kind": ({"$set": {"kind": ["text"]}}, "its kind is ['text']"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_embedding_leaves_its_product_out_and_stops_nothing(
    shop: Shop, followed: Followed, name: str
) -> None:
    damage, reason = DAMAGES[name]
    shop.put(1, picture(1))
    shop.store.embeddings.update_one({"product_id": "p1", "kind": "text"}, damage)
    shop.put(2)
    followed.start()
    assert followed.ids == {"p2"}
    left_out = followed.follower.left_out["p1"].reason
    assert reason in left_out
    assert "reembed" in left_out
    assert followed.follower.info()["stale_products"] == 1
    assert shop.run("reembed", {"product_id": "p1"}) == "updated"
    wait_for(lambda: followed.finds(1), "the reembedded product is found")


@pytest.mark.parametrize(
    "damage", [{"$unset": {"fingerprint": ""}}, {"$set": {"fingerprint": {"a": 1}}}]
)
def test_an_embedding_of_no_known_bundle_is_one_of_another(
    shop: Shop, followed: Followed, damage: Document
) -> None:
    shop.put(1)
    shop.store.embeddings.update_many({}, damage)
    followed.start()
    assert followed.ids == set()
    assert followed.follower.left_out["p1"].reason == ""


def test_an_embedding_of_a_list_of_writes_is_of_none(shop: Shop, followed: Followed) -> None:
    shop.put(1)
    shop.store.embeddings.update_many({}, {"$set": {"write_id": [shop.writes["p1"]]}})
    followed.start()
    assert "not stored" in followed.follower.left_out["p1"].reason


def test_a_write_id_that_is_none_leaves_its_product_out(shop: Shop, followed: Followed) -> None:
    for number, write_id in enumerate((5, ["w"], {"w": 1}, None)):
        shop.put(number, picture(number))
        shop.store.products.update_one({"_id": f"p{number}"}, {"$set": {"write_id": write_id}})
    followed.start()
    assert followed.ids == set()
    assert len(followed.follower.left_out) == 4
    for number in range(4):
        assert shop.put(number, picture(number), price=1.0) == "updated"
    wait_for(lambda: len(followed.ids) == 4, "products that are sent again are found")


def test_a_full_read_takes_over_what_was_changed_by_hand_since(
    shop: Shop, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = '{"price": {"$lt": 5}}'
    shop.put(1, price=9.0)
    followed.start()
    before = followed.best("anything")
    assert before is not None
    shop.store.products.update_one({"_id": "p1"}, {"$set": {"price": 1.0}})
    wait_for(lambda: followed.best("anything", cheap), "the new price is seen")
    # As the event of a change by hand that is lost with the change stream.
    lost: list[Any] = []
    with monkeypatch.context() as deaf:
        deaf.setattr(followed.follower._loader, "apply", lost.extend)
        shop.store.products.update_one({"_id": "p1"}, {"$set": {"price": 7.0}})
        wait_for(lambda: lost, "the event has come")
    assert followed.best("anything", cheap)
    followed.follower._loader.load_all(lambda taken: None)
    after = followed.best("anything")
    assert after is not None
    assert followed.best("anything", cheap) is None
    assert after.product_version != before.product_version


# --- another bundle ---------------------------------------------------------------------------


def test_products_of_another_bundle_are_counted_and_not_searched_until_reembedded(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        shop.put(number, picture(number))
    other = Shop(shop.settings, OTHER_BUNDLE)
    followed = Followed(shop.settings, OTHER_BUNDLE)
    try:
        followed.start()
        assert followed.ids == set()
        assert followed.follower.info()["stale_products"] == 3
        warning = "3 products carry vectors of another bundle than other"
        wait_for(lambda: warning in caplog.text, "the log says so")
        assert "make reembed" in caplog.text
        assert other.run("reembed", {"product_id": "p1"}) == "updated"
        wait_for(lambda: followed.finds(1), "the reembedded product is found")
        assert followed.follower.info()["stale_products"] == 2
        other.delete(2)
        wait_for(
            lambda: followed.follower.info()["stale_products"] == 1,
            "the deleted product is stale no more",
        )
        shop.put(1, name="By a server of the old bundle")
        wait_for(lambda: followed.ids == set(), "it is not searched any more")
        assert followed.follower.info()["stale_products"] == 2
    finally:
        followed.close()
        other.close()


# --- the database goes and comes back ---------------------------------------------------------


def test_after_a_restart_of_the_database_the_index_follows_again(
    restartable: RestartableDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(mongodb_uri=restartable.uri, mongodb_timeout_ms=UNSTEADY_MS)
    shop, followed = Shop(settings), Followed(settings)
    try:
        shop.put(1, picture(1))
        followed.start()
        shop.put(2)
        # A stream that never brought anything has nothing to resume from.
        wait_for(lambda: followed.ids == {"p1", "p2"}, "the index follows")
        restartable.stop()
        wait_for(lambda: not followed.follower.info()["following"], "the loss is noticed")
        assert followed.finds(1), "searches go on without the database"

        def refuse() -> None:
            pytest.fail("everything was read again, though the change stream can be resumed")

        with monkeypatch.context() as resumed:
            resumed.setattr(followed.follower, "_load", refuse)
            restartable.start()
            shop.put(3)
            shop.delete(2)
            wait_for(lambda: followed.ids == {"p1", "p3"}, "the changes are followed")
        shop.put(1, name="Another name")
        wait_for(lambda: followed.ids == {"p1", "p3"}, "the index holds what is stored")
        wait_for(lambda: followed.finds(1, name="Another name"), "and the changed text")
        assert followed.finds(3)
        wait_for(lambda: followed.follower.info()["following"], "the index follows again")
    finally:
        followed.close()
        shop.close()


def test_stale_products_that_were_dropped_are_counted_no_more(shop: Shop) -> None:
    shop.put(1)
    shop.put(2)
    followed = Followed(shop.settings, OTHER_BUNDLE)
    try:
        followed.start()
        assert followed.follower.info()["stale_products"] == 2
        shop.store.products.drop()
        wait_for(
            lambda: followed.follower.info()["stale_products"] == 0,
            "what was dropped is counted no more",
        )
    finally:
        followed.close()


def test_an_index_started_before_the_database_loads_when_it_comes(
    restartable: RestartableDatabase,
) -> None:
    settings = Settings(mongodb_uri=restartable.uri, mongodb_timeout_ms=UNSTEADY_MS)
    shop = Shop(settings)
    shop.put(1)
    restartable.stop()
    followed = Followed(settings)
    try:
        followed.start(seconds=0.1)
        assert not followed.follower.loaded
        restartable.start()
        wait_for(lambda: followed.follower.loaded, "the index is loaded")
        assert followed.finds(1)
    finally:
        followed.close()
        shop.close()
