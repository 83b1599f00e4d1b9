"""Log entries reach the database: in order, once each, also after it was away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.collection import Collection
from pymongo.database import Database
from serving_support import RestartableDatabase, wait_for

from bls_models.logs import LogWriter
from bls_models.settings import Settings
from bls_models.store import Document, connect

ENTRIES = "match_log"


def numbers(collection: Collection[Document]) -> list[int]:
    return [entry["number"] for entry in collection.find({}).sort("number")]


def entries(*values: int) -> list[Document]:
    return [{"number": value} for value in values]


@pytest.fixture
def collection(database: Database[Document]) -> Collection[Document]:
    return database[ENTRIES]


@pytest.fixture
def unsteady(restartable: RestartableDatabase) -> Iterator[Collection[Document]]:
    """A collection of a database that the test stops and starts."""
    settings = Settings(mongodb_uri=restartable.uri, mongodb_timeout_ms=1000)
    database = connect(settings)
    yield database[ENTRIES]
    database.client.close()


def test_entries_arrive_without_anything_further(collection: Collection[Document]) -> None:
    log = LogWriter(collection, 1000)
    log.write(entries(1, 2))
    log.write(entries(3))
    wait_for(lambda: numbers(collection) == [1, 2, 3], "three entries are written")
    log.close()


def test_closing_writes_what_is_queued(collection: Collection[Document]) -> None:
    log = LogWriter(collection, 1000)
    log.write(entries(*range(600)))
    log.close()
    assert numbers(collection) == list(range(600))


def test_closing_an_idle_writer_ends_its_thread(collection: Collection[Document]) -> None:
    before = set(threading.enumerate())
    log = LogWriter(collection, 1000)
    (thread,) = (
        item for item in threading.enumerate() if item not in before and item.name == "log-writer"
    )
    log.close()
    assert not thread.is_alive()


def test_entries_of_many_threads_arrive_once_each(collection: Collection[Document]) -> None:
    log = LogWriter(collection, 10_000)

    def write(first: int) -> None:
        for number in range(first, first + 100):
            log.write(entries(number))

    threads = [threading.Thread(target=write, args=(100 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert numbers(collection) == list(range(800))


def test_a_full_queue_drops_the_oldest_and_says_how_many(
    collection: Collection[Document], caplog: pytest.LogCaptureFixture
) -> None:
    log = LogWriter(collection, 5)
    with caplog.at_level(logging.ERROR, "bls_models.logs"):
        log.write(entries(*range(12)))
        log.close()
    assert numbers(collection) == [7, 8, 9, 10, 11]
    assert "the log queue was full: 7 entries of match_log were dropped" in caplog.text


def test_entries_written_while_the_database_is_away_arrive_when_it_is_back(
    unsteady: Collection[Document],
    restartable: RestartableDatabase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = LogWriter(unsteady, 1000)
    log.write(entries(1))
    wait_for(lambda: numbers(unsteady) == [1], "the first entry is written")
    restartable.stop()
    with caplog.at_level(logging.WARNING, "bls_models.logs"):
        log.write(entries(2, 3))
        wait_for(lambda: "wait for the database" in caplog.text, "the writer says so")
        log.write(entries(4))
        restartable.start()
    wait_for(lambda: len(numbers(unsteady)) >= 4, "the entries are written")
    log.close()
    assert numbers(unsteady) == [1, 2, 3, 4]


def test_entries_that_cannot_be_written_at_the_end_are_reported_and_closing_returns(
    unsteady: Collection[Document],
    restartable: RestartableDatabase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = LogWriter(unsteady, 1000)
    log.write(entries(0))
    wait_for(lambda: numbers(unsteady) == [0], "the first entry is written")
    restartable.stop()
    with caplog.at_level(logging.ERROR, "bls_models.logs"):
        log.write(entries(1, 2))
        log.close()
    assert "2 log entries were not written" in caplog.text


def test_an_entry_that_was_written_without_an_answer_is_not_doubled_and_not_tried_for_ever(
    collection: Collection[Document], caplog: pytest.LogCaptureFixture
) -> None:
    """As after a connection that broke between the write and its answer."""
    known: Document = {"_id": "known", "number": 1}
    collection.insert_one(dict(known))
    log = LogWriter(collection, 1000)
    log.write([known, *entries(2)])
    log.write(entries(3))
    wait_for(lambda: numbers(collection) == [1, 2, 3], "the other entries are written")
    log.close()
    assert caplog.text == ""


@pytest.mark.parametrize("bad", [object(), 2**70], ids=["no BSON", "too large a number"])
def test_an_entry_that_cannot_be_stored_is_reported_and_holds_up_nothing(
    collection: Collection[Document], caplog: pytest.LogCaptureFixture, bad: Any
) -> None:
    log = LogWriter(collection, 1000)
    with caplog.at_level(logging.ERROR, "bls_models.logs"):
        log.write([*entries(1), {"number": bad}, *entries(2)])
        log.write(entries(3))
        wait_for(lambda: numbers(collection) == [1, 2, 3], "the other entries are written")
        log.close()
    assert caplog.text.count("cannot be stored") == 1
