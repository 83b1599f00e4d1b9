"""Log entries reach the database once each, also after it was away or their process was killed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo.collection import Collection
from pymongo.database import Database
from serving_support import ROOT, RestartableDatabase, wait_for

from bls_models.database.connection import connect
from bls_models.database.store import Document
from bls_models.settings import Settings
from bls_models.telemetry.log_queue import open_queue
from bls_models.telemetry.metrics import LOG_DROPPED, LOG_QUEUE_ENTRIES, MetricSpec
from bls_models.telemetry.request_log import LogWriter

ENTRIES = "match_log"
SMALL = 64 * 1024


def numbers(collection: Collection[Document]) -> list[int]:
    return [entry["number"] for entry in collection.find({}).sort("number")]


def entries(*values: int) -> list[Document]:
    return [{"number": value} for value in values]


class Counts:
    """Metrics: what was added and set last, by spec and labels."""

    def __init__(self) -> None:
        self.values: Counter[tuple[MetricSpec, tuple[str, ...]]] = Counter()

    def add(self, spec: MetricSpec, amount: float = 1.0, *labels: str) -> None:
        self.values[spec, labels] += int(amount)

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        self.values[spec, labels] = int(value)

    def observe(self, spec: MetricSpec, value: float, *labels: str) -> None:
        raise AssertionError(f"{spec.name} is no part of the log")


@pytest.fixture
def collection(database: Database[Document]) -> Collection[Document]:
    return database[ENTRIES]


@pytest.fixture
def unsteady_settings(restartable: RestartableDatabase, tmp_path: Path) -> Settings:
    return Settings(
        mongodb_uri=restartable.uri,
        mongodb_timeout_ms=1000,
        log_queue_folder=str(tmp_path / "log-queue"),
    )


@pytest.fixture
def written(unsteady_settings: Settings) -> Iterator[Collection[Document]]:
    """A collection of a database that the test stops and starts, as the writer has it."""
    database = connect(unsteady_settings)
    yield database[ENTRIES]
    database.client.close()


@pytest.fixture
def unsteady(unsteady_settings: Settings) -> Iterator[Collection[Document]]:
    """The same collection for the test to read, which a busy machine may keep waiting."""
    database = connect(unsteady_settings.model_copy(update={"mongodb_timeout_ms": 20_000}))
    yield database[ENTRIES]
    database.client.close()


def test_entries_arrive_without_anything_further(
    collection: Collection[Document], settings: Settings
) -> None:
    log = LogWriter(collection, settings)
    log.write(entries(1, 2))
    log.write(entries(3))
    wait_for(lambda: numbers(collection) == [1, 2, 3], "three entries are written")
    log.close()


def test_closing_writes_what_is_queued(
    collection: Collection[Document], settings: Settings
) -> None:
    log = LogWriter(collection, settings)
    log.write(entries(*range(600)))
    log.close()
    assert numbers(collection) == list(range(600))


def test_closing_an_idle_writer_ends_its_thread(
    collection: Collection[Document], settings: Settings
) -> None:
    before = set(threading.enumerate())
    log = LogWriter(collection, settings)
    (thread,) = (
        item for item in threading.enumerate() if item not in before and item.name == "log-writer"
    )
    log.close()
    assert not thread.is_alive()


def test_entries_of_many_threads_arrive_once_each(
    collection: Collection[Document], settings: Settings
) -> None:
    log = LogWriter(collection, settings)

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


def test_requests_of_one_id_are_entries_of_their_own(
    collection: Collection[Document], settings: Settings
) -> None:
    log = LogWriter(collection, settings)
    log.write([{"request_id": "retry", "number": 1}])
    log.write([{"request_id": "retry", "number": 2}])
    log.close()
    assert numbers(collection) == [1, 2]


def test_entries_written_while_the_database_is_away_arrive_when_it_is_back(
    written: Collection[Document],
    unsteady: Collection[Document],
    unsteady_settings: Settings,
    restartable: RestartableDatabase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Counts()
    waiting = (LOG_QUEUE_ENTRIES, (ENTRIES, "0"))
    log = LogWriter(written, unsteady_settings, metrics)
    log.write(entries(1))
    wait_for(lambda: numbers(unsteady) == [1], "the first entry is written")
    restartable.stop()
    with caplog.at_level(logging.WARNING, "bls_models.telemetry.request_log"):
        log.write(entries(2, 3))
        wait_for(lambda: "wait for the database" in caplog.text, "the writer says so")
        wait_for(lambda: metrics.values[waiting] == 2, "the metric shows what waits")
        log.write(entries(4))
        restartable.start()
    wait_for(lambda: len(numbers(unsteady)) >= 4, "the entries are written")
    wait_for(lambda: metrics.values[waiting] == 0, "the metric shows that nothing waits")
    log.close()
    assert numbers(unsteady) == [1, 2, 3, 4]


def test_what_a_full_queue_does_not_take_is_counted_and_the_rest_arrives(
    written: Collection[Document],
    unsteady: Collection[Document],
    unsteady_settings: Settings,
    restartable: RestartableDatabase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Counts()
    restartable.stop()
    small = unsteady_settings.model_copy(update={"log_queue_bytes": SMALL})
    log = LogWriter(written, small, metrics)
    with caplog.at_level(logging.ERROR, "bls_models.telemetry.request_log"):
        refused = sum(log.write([{"number": n, "text": "x" * 1000}]) for n in range(200))
        wait_for(lambda: "entries of match_log were dropped" in caplog.text, "the loss is said")
    dropped = metrics.values[LOG_DROPPED, (ENTRIES, "full")]
    assert 120 < dropped < 180, "about 64 of 200 kB fit"
    assert refused == dropped
    folder = Path(unsteady_settings.log_queue_folder) / unsteady.database.name
    assert (folder / f"{ENTRIES}-0.sqlite3").stat().st_size <= SMALL
    restartable.start()
    wait_for(lambda: len(numbers(unsteady)) == 200 - dropped, "what was queued is written")
    assert log.write(entries(1000)) == 0
    wait_for(lambda: 1000 in numbers(unsteady), "there is room again")
    log.close()
    assert numbers(unsteady) == [*range(200 - dropped), 1000]


def test_what_cannot_be_written_at_the_end_stays_for_the_next_start(
    written: Collection[Document],
    unsteady: Collection[Document],
    unsteady_settings: Settings,
    restartable: RestartableDatabase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    restartable.stop()
    log = LogWriter(written, unsteady_settings)
    with caplog.at_level(logging.WARNING, "bls_models.telemetry.request_log"):
        log.write(entries(1, 2))
        log.close()
    assert "2 entries of match_log stay in" in caplog.text
    restartable.start()
    log = LogWriter(written, unsteady_settings)
    wait_for(lambda: numbers(unsteady) == [1, 2], "the entries are written")
    log.close()


WRITER = """
import sys, time
from bls_models.telemetry.request_log import LogWriter
from bls_models.settings import Settings
from bls_models.database.connection import connect

settings = Settings.from_environment()
log = LogWriter(connect(settings)["match_log"], settings)
number = int(sys.argv[1])
while True:
    log.write([{"number": number}])
    # As an answer goes out: only what was written is acknowledged.
    print(number, flush=True)
    number += 1
    time.sleep(0.001)
"""


def killed_writer(settings: Settings, first: int) -> int:
    """Run a writer, kill it in the middle of its work, return the last number it acknowledged."""
    environment = os.environ | {
        "MONGODB_URI": settings.mongodb_uri,
        "PRODUCT_MATCH_DATABASE": settings.database,
        "PRODUCT_MATCH_LOG_QUEUE_FOLDER": settings.log_queue_folder,
        "PRODUCT_MATCH_MONGODB_TIMEOUT_MS": "500",
    }
    command = [sys.executable, "-c", WRITER, str(first)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == first + 300:
                process.send_signal(signal.SIGKILL)
        return int(line)


def test_a_killed_process_loses_nothing_that_it_acknowledged_and_doubles_nothing(
    collection: Collection[Document], settings: Settings
) -> None:
    """The database takes entries meanwhile, so some are written and not yet off the queue."""
    lasts = {first: killed_writer(settings, first) for first in (0, 10_000, 20_000)}
    log = LogWriter(collection, settings)
    acknowledged = [number for first, last in lasts.items() for number in range(first, last + 1)]

    def written() -> set[int]:
        return set(numbers(collection))

    wait_for(lambda: written() >= set(acknowledged), "all that was acknowledged is written")
    log.close()
    found = numbers(collection)
    assert len(found) == len(set(found))
    # Of each process the one entry may be there that it had no time to acknowledge.
    assert len(set(found) - set(acknowledged)) <= len(lasts)


def test_queues_of_processes_that_died_are_emptied_by_whoever_runs(
    collection: Collection[Document], settings: Settings
) -> None:
    """Also those beyond the number of processes that there are now."""
    folder = Path(settings.log_queue_folder) / settings.database
    left = [open_queue(folder, ENTRIES, SMALL) for _ in range(3)]
    for number, queue in enumerate(left):
        queue.append([bson.encode({"_id": number, "number": number})])
    assert [queue.slot for queue in left] == ["0", "1", "2"]
    for queue in left:
        queue.close()
    log = LogWriter(collection, settings)
    wait_for(lambda: numbers(collection) == [0, 1, 2], "all queues are written")
    log.close()


def test_a_queue_that_a_living_process_holds_is_left_to_it(
    collection: Collection[Document], settings: Settings
) -> None:
    folder = Path(settings.log_queue_folder) / settings.database
    held = open_queue(folder, ENTRIES, SMALL)
    held.append([bson.encode({"_id": 0, "number": 0})])
    log = LogWriter(collection, settings)
    log.write(entries(1))
    log.close()
    assert numbers(collection) == [1]
    assert held.count == 1
    held.close()


def test_an_entry_that_was_written_without_an_answer_is_not_doubled_and_not_tried_for_ever(
    collection: Collection[Document], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a connection that broke between the write and its answer."""
    known: Document = {"_id": bson.ObjectId(), "number": 1}
    collection.insert_one(dict(known))
    log = LogWriter(collection, settings)
    log.write([known, *entries(2)])
    log.write(entries(3))
    wait_for(lambda: numbers(collection) == [1, 2, 3], "the other entries are written")
    log.close()
    assert caplog.text == ""


@pytest.mark.parametrize(
    "bad", [object(), 2**70, "x" * 2**24], ids=["no BSON", "too large a number", "too large"]
)
def test_an_entry_that_cannot_be_stored_is_reported_and_holds_up_nothing(
    collection: Collection[Document],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    bad: Any,
) -> None:
    metrics = Counts()
    log = LogWriter(collection, settings, metrics)
    with caplog.at_level(logging.ERROR, "bls_models.telemetry.request_log"):
        log.write([*entries(1), {"number": bad}, *entries(2)])
        log.write(entries(3))
        wait_for(lambda: numbers(collection) == [1, 2, 3], "the other entries are written")
        log.close()
    assert caplog.text.count("cannot be stored") == 1
    assert metrics.values[LOG_DROPPED, (ENTRIES, "refused")] == 1


FULL_DISK = """
import resource, sys
from bls_models.telemetry.request_log import LogWriter
from bls_models.settings import Settings
from bls_models.database.connection import connect

settings = Settings.from_environment()
log = LogWriter(connect(settings)["match_log"], settings)
# No file of this process may grow: what a full disk says too.
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for number in range(100):
    log.write([{"number": number, "text": "x" * 1000}])
log.close()
print("went on")
"""


def test_a_disk_that_takes_no_more_stops_nothing(
    collection: Collection[Document], settings: Settings
) -> None:
    environment = os.environ | {
        "MONGODB_URI": settings.mongodb_uri,
        "PRODUCT_MATCH_DATABASE": settings.database,
        "PRODUCT_MATCH_LOG_QUEUE_FOLDER": settings.log_queue_folder,
    }
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert "entries of match_log were dropped" in done.stderr
    # There is a disk again.
    log = LogWriter(collection, settings)
    log.write(entries(1000))
    wait_for(lambda: 1000 in numbers(collection), "entries are taken again")
    log.close()


def test_without_a_folder_entries_are_dropped_until_there_is_one(
    collection: Collection[Document],
    settings: Settings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "queue"
    folder.write_text("a file is in the way")
    metrics = Counts()
    elsewhere = settings.model_copy(update={"log_queue_folder": str(folder)})
    log = LogWriter(collection, elsewhere, metrics)
    log.write(entries(1))
    assert metrics.values[LOG_DROPPED, (ENTRIES, "full")] == 1
    assert "PRODUCT_MATCH_LOG_QUEUE_FOLDER" in caplog.text
    folder.unlink()

    def taken() -> bool:
        log.write(entries(2))
        return 2 in numbers(collection)

    wait_for(taken, "entries are taken")
    log.close()


def test_a_damaged_queue_is_set_aside_and_begun_anew(
    collection: Collection[Document], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(settings.log_queue_folder) / settings.database
    open_queue(folder, ENTRIES, SMALL).close()
    path = folder / f"{ENTRIES}-0.sqlite3"
    path.write_bytes(b"no database at all" * 1000)
    log = LogWriter(collection, settings)
    log.write(entries(1))
    log.close()
    assert numbers(collection) == [1]
    assert "is damaged" in caplog.text
    assert path.with_suffix(".damaged").read_bytes().startswith(b"no database")
