"""Reads of all products: every type of id, page by page, and on where a page was lost."""

from __future__ import annotations

import time
from typing import Any

import pytest
from bson import ObjectId
from follower_support import Shop
from pymongo.database import Database
from serving_support import UNSTEADY_MS

from bls_models.database.connection import connect
from bls_models.database.store import Document, Store
from bls_models.errors import DatabaseError
from bls_models.settings import Settings
from loadtest.faults.stale_secondary import StaleReplicaSet

# In MongoDB's order.
IDS: list[Any] = [None, -1, 2.5, 7, "", "a", "b", {"a": 1}, b"x", ObjectId(b"twelve bytes"), True]


def ids_of(pages: list[list[Document]]) -> list[list[Any]]:
    return [[document["_id"] for document in page] for page in pages]


@pytest.mark.parametrize("page", [1, 3, 100])
def test_products_are_read_in_pages_by_ids_of_all_types(store: Store, page: int) -> None:
    store.products.insert_many([{"_id": item, "name": "x"} for item in reversed(IDS)])
    expected = [IDS[start : start + page] for start in range(0, len(IDS), page)]
    assert ids_of(list(store.iterate_products(page))) == expected


def lost(after: int, times: int) -> Any:
    """Replies of which some say that the database has lost its place."""
    count = 0

    def change(command: Document, reply: Document) -> Document:
        nonlocal count
        if "getMore" not in command:
            return reply
        count += 1
        if not after < count <= after + times:
            return reply
        return {"ok": 0.0, "code": 43, "codeName": "CursorNotFound", "errmsg": "cursor not found"}

    return change


@pytest.mark.parametrize("after", range(len(IDS) // 2))
def test_a_lost_page_is_read_again_and_nothing_twice(
    lagging: StaleReplicaSet, database: Database[Document], settings: Settings, after: int
) -> None:
    database["products"].insert_many([{"_id": item} for item in IDS])
    ours = connect(settings.model_copy(update={"mongodb_uri": lagging.uri}))
    lagging.change_reply = lost(after, 1)
    try:
        pages = ids_of(list(Store(ours, 30).iterate_products(2)))
    finally:
        ours.client.close()
    assert [item for page in pages for item in page] == IDS


def test_a_database_that_loses_every_page_ends_the_read_with_an_error(
    lagging: StaleReplicaSet, database: Database[Document], settings: Settings
) -> None:
    database["products"].insert_many([{"_id": item} for item in IDS])
    ours = connect(settings.model_copy(update={"mongodb_uri": lagging.uri}))
    broken: Document = {"ok": 0.0, "code": 1, "errmsg": "broken"}
    lagging.change_reply = lambda command, reply: (
        broken if {"find", "getMore"} & command.keys() else reply
    )
    try:
        with pytest.raises(DatabaseError, match="reading all products: broken"):
            list(Store(ours, 30).iterate_products(2))
    finally:
        ours.client.close()


def test_reads_of_all_products_may_take_longer_than_a_request(
    lagging: StaleReplicaSet, database: Database[Document], settings: Settings
) -> None:
    database["products"].insert_many([{"_id": item} for item in IDS])

    def slow(command: Document, reply: Document) -> Document:
        if {"find", "count"} & command.keys():
            time.sleep(2 * UNSTEADY_MS / 1e3)
        return reply

    hasty = {"mongodb_uri": lagging.uri, "mongodb_timeout_ms": UNSTEADY_MS}
    ours = connect(settings.model_copy(update=hasty))
    lagging.change_reply = slow
    try:
        assert Store(ours, 30).count_products() == len(IDS)
        assert ids_of(list(Store(ours, 30).iterate_products())) == [IDS]
    finally:
        ours.client.close()


def test_embeddings_are_found_by_an_index(shop: Shop) -> None:
    shop.put(1)
    found = shop.store.embeddings.find({"write_id": {"$in": ["w"]}}).explain()
    assert "IXSCAN" in str(found["queryPlanner"]["winningPlan"])
