"""Several servers with one index in Milvus: one follows the database, all search."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from follower_support import Shop, product
from metric_support import metric
from serving_support import SMALL_BUNDLE, picture, text_vector, wait_for

from bls_models.database.connection import connect
from bls_models.database.store import Store
from bls_models.errors import IndexUnavailableError
from bls_models.index.query import IndexQuery
from bls_models.milvus.collections import PREFIX, existing
from bls_models.milvus.connection import MilvusConnection
from bls_models.product import embedding_text
from bls_models.replication import milvus_generation
from bls_models.replication.milvus_generation import INDEXES, MilvusGeneration
from bls_models.settings import Settings
from bls_models.telemetry.metrics import (
    INDEX_FOLLOWING,
    INDEX_LEADER,
    INDEX_PRODUCTS,
    Metrics,
    MetricSpec,
)
from loadtest.faults.milvus import RealMilvus

pytestmark = pytest.mark.server


class Server:
    """A server's index, over connections of its own."""

    def __init__(self, settings: Settings, own_metric: Any = None) -> None:
        self.database = connect(settings)
        self.generation = MilvusGeneration(
            settings, SMALL_BUNDLE, Store(self.database, 30), own_metric
        )
        self.generation.start()
        assert self.generation.wait_loaded(60)

    def close(self) -> None:
        self.generation.close()
        self.database.client.close()

    @property
    def leads(self) -> bool:
        return self.generation._follower is not None

    def finds(self, number: int, **fields: Any) -> bool:
        query = IndexQuery(
            np.zeros((0, SMALL_BUNDLE.image_dim), np.float32),
            np.zeros(0, np.float32),
            text_vector(embedding_text(product(number, **fields)))[np.newaxis],
            np.ones(1, np.float32),
            top_k=1,
        )
        (answer,), _ = self.generation.search([query])
        return (
            bool(answer.matches)
            and answer.matches[0].product_id == f"p{number}"
            and answer.matches[0].score > 0.999
        )

    def check(self, repair: bool) -> dict[str, Any]:
        told: list[dict[str, Any] | Exception] = []
        done = threading.Event()

        def tell(outcome: dict[str, Any] | Exception) -> None:
            told.append(outcome)
            done.set()

        self.generation.check(repair, tell)
        assert done.wait(60)
        assert isinstance(told[0], dict), told[0]
        return told[0]


@pytest.fixture
def settings(settings: Settings, milvus_uri: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(milvus_generation, "LEASE_SECONDS", 4.0)
    return settings.model_copy(
        update={
            "index_engine": "milvus",
            "milvus_uri": milvus_uri,
            "milvus_timeout_ms": 5_000,
            "milvus_consistency": "Strong",
        }
    )


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    shop = Shop(settings)
    yield shop
    shop.close()
    connection = MilvusConnection(settings)
    for name in existing(connection):
        connection.client.drop_collection(name)
    connection.close()


@pytest.fixture
def servers(shop: Shop, settings: Settings) -> Iterator[list[Server]]:
    shop.put(1, picture(1))
    running = [Server(settings), Server(settings)]
    yield running
    for server in running:
        server.close()


def test_one_follows_and_all_find_what_changes(shop: Shop, servers: list[Server]) -> None:
    assert [server.leads for server in servers] == [True, False]
    assert all(server.finds(1) for server in servers)
    shop.put(2, picture(2))
    shop.put(1, picture(1), name="Other")
    for server in servers:
        wait_for(lambda server=server: server.finds(2), "the new product is found")
        wait_for(lambda server=server: server.finds(1, name="Other"), "the change is found")
        wait_for(
            lambda server=server: server.generation.info()["products"] == 2, "both are counted"
        )
        assert server.generation.info()["following"]
    shop.delete(2)
    for server in servers:
        wait_for(lambda server=server: not server.finds(2), "the deleted product is not found")


def test_another_takes_over_where_the_follower_was(
    shop: Shop, servers: list[Server], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = servers
    wait_for(lambda: second.generation.info()["products"] == 1, "the product is counted")
    # As if it were paused: it neither renews its lease nor knows that it is lost.
    paused, go_on = threading.Event(), threading.Event()
    save = first.generation._lease.save

    def held(*arguments: Any) -> None:
        paused.set()
        go_on.wait()
        save(*arguments)

    monkeypatch.setattr(first.generation._lease, "save", held)
    wait_for(paused.is_set, "the first one stands still")
    wait_for(lambda: second.leads, "the second one takes over")
    assert second.generation.info()["products"] == 1, "what is known of the index stays known"
    fence = second.generation._lease.fence
    shop.put(2, picture(2))
    wait_for(lambda: second.finds(2), "the second one follows")
    go_on.set()
    wait_for(lambda: not first.leads, "the first one sees that it is not needed")
    assert second.generation._lease.fence == fence
    assert first.finds(2)
    shop.put(3)
    wait_for(lambda: first.finds(3), "the first one finds what the second one wrote")


def test_a_server_that_stops_leaves_its_place_to_others_at_once(
    shop: Shop, servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []
    monkeypatch.setattr(milvus_generation.IndexFollower, "_load", lambda self: reads.append(self))
    servers.pop(0).close()
    shop.put(2)
    wait_for(lambda: servers[0].leads, "the other one follows")
    wait_for(lambda: servers[0].finds(2), "what changed meanwhile is found")
    assert reads == [], "it goes on where the first one was"


def test_what_hands_did_is_found_and_repaired_from_any_server(
    shop: Shop, servers: list[Server], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put(2)
    shop.put(3)
    for server in servers:
        wait_for(lambda server=server: server.finds(2), "the product is found")
    connection = MilvusConnection(settings)
    names = [name for name in existing(connection) if SMALL_BUNDLE.fingerprint in name]
    for name in names:
        connection.client.delete(name, filter='product_id in ["p2", "p3"]')
    connection.close()
    monkeypatch.setattr(milvus_generation, "REREAD_AT_ONCE", 1)
    for server, repair in ((servers[0], False), (servers[1], True)):
        assert server.check(repair)["differences"] == {"missing": 2}
    for server in servers:
        assert server.check(False)["differences"] == {}
        assert server.finds(2)


def test_an_index_that_hands_removed_is_made_anew(
    shop: Shop, servers: list[Server], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_generation, "USED_SECONDS", 0.5)
    connection = MilvusConnection(settings)
    for name in existing(connection):
        connection.client.drop_collection(name)
    connection.close()
    for server in servers:
        wait_for(lambda server=server: found(server, 1), "the product is found again")


def test_a_metric_has_an_index_of_its_own_and_unused_ones_go(
    shop: Shop, servers: list[Server], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = settings.model_copy(update={"milvus_keep_seconds": 1})
    monkeypatch.setattr(milvus_generation, "USED_SECONDS", 0.5)
    newer = Server(keeping, metric("first"))
    # As a copy of a database has it: the collections are those of the catalogue it was copied of.
    foreign = f"{PREFIX}{SMALL_BUNDLE.fingerprint}_0123abcd_none_images"
    newer.generation._connection.client.create_collection(foreign, dimension=4)
    long_ago = {"images": foreign, "used": datetime(2020, 1, 1)}
    shop.database[INDEXES].insert_one({"_id": "copied", **long_ago})
    try:
        assert newer.finds(1)
        assert all(server.finds(1) for server in servers), "the old one serves on"
        connection = MilvusConnection(settings)
        assert len(existing(connection)) == 5
        while servers:
            servers.pop().close()
        wait_for(lambda: len(existing(connection)) == 3, "what nobody uses is removed")
        assert foreign in existing(connection)
        connection.close()
        wait_for(
            lambda: shop.database[INDEXES].count_documents({}) == 1,
            "what nobody uses, and what was copied, is forgotten",
        )
        (left,) = shop.database[INDEXES].find()
        assert left["_id"].endswith("/first")
        assert newer.finds(1)
    finally:
        newer.close()


@pytest.mark.slow
def test_milvus_away_fails_searches_and_loses_nothing(
    shop: Shop, servers: list[Server], real_milvus: RealMilvus
) -> None:
    real_milvus.kill()
    with pytest.raises(IndexUnavailableError, match="Milvus"):
        servers[1].finds(1)
    shop.put(2)
    real_milvus.start()
    for server in servers:
        wait_for(lambda server=server: found(server, 2), "what changed meanwhile is found")


def test_after_a_pause_nobody_removes_what_others_are_about_to_use(
    shop: Shop, servers: list[Server], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    while servers:
        servers.pop().close()
    shop.database[INDEXES].update_many({}, {"$set": {"used": datetime(2020, 1, 1)}})
    monkeypatch.setattr(milvus_generation, "USED_SECONDS", 0.5)
    other = Server(settings, metric("first"))
    again = Server(settings)
    try:
        wait_for(lambda: again.finds(1), "the index is still there")
        assert shop.database[INDEXES].count_documents({}) == 2
    finally:
        again.close()
        other.close()


def test_what_serves_reports_also_when_it_took_over(shop: Shop, servers: list[Server]) -> None:
    for server in servers:
        metrics = KeptMetrics()
        server.generation.take_over(metrics)
        wanted = {INDEX_FOLLOWING: 1.0, INDEX_PRODUCTS: 1.0, INDEX_LEADER: float(server.leads)}
        wait_for(lambda kept=metrics.kept, wanted=wanted: wanted.items() <= kept.items(), "all")


class KeptMetrics(Metrics):
    """The last value of each."""

    def __init__(self) -> None:
        self.kept: dict[MetricSpec, float] = {}

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        self.kept[spec] = value


def found(server: Server, number: int) -> bool:
    try:
        return server.finds(number)
    except IndexUnavailableError:
        return False
