"""The database's indexes are built at the start, without the time limit of a request."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from serving_support import UNSTEADY_MS, RestartableDatabase, wait_for

from bls_models.database.connection import connect
from bls_models.database.index_setup import IndexSetup
from bls_models.database.pictures import Pictures
from bls_models.database.store import Document, Store
from bls_models.errors import DatabaseError
from bls_models.settings import Settings
from loadtest.faults.stale_secondary import StaleReplicaSet


def test_an_index_that_takes_longer_than_a_request_may_is_built(
    lagging: StaleReplicaSet, settings: Settings
) -> None:
    built = threading.Event()
    begun = []

    def slow(command: Document, reply: Document) -> Document:
        if "createIndexes" in command:
            begun.append(command)
            if len(begun) == 1:
                built.wait(60)
        return reply

    hasty = settings.model_copy(
        update={"mongodb_uri": lagging.uri, "mongodb_timeout_ms": UNSTEADY_MS}
    )
    database = connect(hasty)
    store = Store(database, 30)
    store.products.insert_one({"_id": "p"})
    lagging.change_reply = slow
    setup = IndexSetup(store, Pictures(database), wait_seconds=2 * UNSTEADY_MS / 1e3)
    try:
        with pytest.raises(DatabaseError, match="are being built; try again later"):
            setup.check()
        built.set()
        wait_for(lambda: not setup._thread.running, "the indexes are built")
        setup.check()
        names = {tuple(item["key"]) for item in store.embeddings.list_indexes()}
        assert {("write_id",), ("product_id",)} <= names
        assert all(command["maxTimeMS"] > 3_600_000 for command in begun)
    finally:
        built.set()
        setup.close()
        database.client.drop_database(database.name)
        database.client.close()


def test_a_busy_database_that_answers_the_monitor_late_loses_no_index(
    lagging: StaleReplicaSet, settings: Settings
) -> None:
    def busy(command: Document, reply: Document) -> Document:
        if {"hello", "ismaster", "createIndexes"} & {*command, *reply}:
            time.sleep(1.5 * UNSTEADY_MS / 1e3)
        return reply

    hasty = {"mongodb_uri": lagging.uri, "mongodb_timeout_ms": UNSTEADY_MS}
    # So that the monitor asks within the building of an index.
    database = connect(settings.model_copy(update=hasty), heartbeatFrequencyMS=500)
    database["products"].insert_one({"_id": "p"})
    lagging.change_reply = busy
    try:
        Pictures(database).ensure_indexes()
    finally:
        lagging.change_reply = lambda command, reply: reply
        database.client.drop_database(database.name)
        database.client.close()


def test_a_database_that_is_away_at_the_start_gets_its_indexes_when_it_is_back(
    restartable: RestartableDatabase, tmp_path: Path
) -> None:
    settings = Settings(
        mongodb_uri=restartable.uri,
        database="late",
        mongodb_timeout_ms=UNSTEADY_MS,
        log_queue_folder=str(tmp_path),
    )
    restartable.stop()
    database = connect(settings)
    setup = IndexSetup(Store(database, 30), Pictures(database), wait_seconds=0.1)
    try:
        wait_for(lambda: setup._failure, "the database was not there")
        with pytest.raises(DatabaseError, match="check that it runs"):
            setup.check()
        restartable.start()
        wait_for(lambda: not setup._thread.running, "the indexes are built")
        setup.check()
    finally:
        setup.close()
        database.client.close()
