"""Servers that write at the same time, or die while they do, leave whole products and no rest.

Each database command of one writer is a step. Another writer carries out its own operation between
any two of them, or up to any of its own, or the first one ends there as with kill -9.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from ingest_support import (
    RED,
    Ingest,
    assert_nothing_left_over,
    journal_of,
    request,
    stored_images,
    upsert,
)
from pymongo import MongoClient, monitoring
from pymongo.database import Database
from serving_support import picture, wait_for

from bls_models.database import write_journal
from bls_models.database.pictures import Pictures
from bls_models.database.store import INGEST_LOG, Document, Store
from bls_models.database.write_journal import WriteJournal, WriteRecovery
from bls_models.errors import ConflictError
from bls_models.ingest.ingester import IngestRequest, IngestResult, Outcome
from bls_models.settings import Settings
from bls_models.telemetry.request_log import LogWriter

CUP: dict[str, Any] = {**RED, "product_id": "cup", "name": "Cup"}
SHARED, OTHER, THIRD = picture(1), picture(2), picture(3)

# Commands that are a step of a write; the driver's own (hello, endSessions) are not.
STEPS = frozenset({"find", "insert", "update", "delete", "bulkWrite"})

# What a database holds before, and two operations that get into each other's way.
CASES: dict[str, tuple[list[IngestRequest], IngestRequest, IngestRequest]] = {
    "the last product lets a picture go as another takes it": (
        [upsert(RED, SHARED)],
        upsert(RED, OTHER),
        upsert(CUP, SHARED),
    ),
    "a product is deleted as another takes its picture": (
        [upsert(RED, SHARED, OTHER)],
        request("delete"),
        upsert(CUP, SHARED),
    ),
    "both create the same product": ([], upsert(RED, SHARED, OTHER), upsert(RED, SHARED, THIRD)),
    "both change the same product": (
        [upsert(RED, SHARED)],
        upsert({**RED, "price": 1.0}, OTHER),
        upsert({**RED, "price": 2.0}, SHARED, THIRD),
    ),
    "one changes words and keeps the pictures, one changes the pictures": (
        [upsert(RED, SHARED)],
        upsert({**RED, "price": 1.0}),
        upsert(RED, OTHER),
    ),
    "one changes what the other deletes": (
        [upsert(RED, SHARED)],
        upsert({**RED, "price": 1.0}),
        request("delete"),
    ),
    "one computes anew what the other changes": (
        [upsert(RED, SHARED)],
        request("reembed"),
        upsert(RED, OTHER),
    ),
    "two products let the same picture go": (
        [upsert(RED, SHARED), upsert(CUP, SHARED)],
        upsert(RED, OTHER),
        request("delete", "cup"),
    ),
}
case = pytest.mark.parametrize("name", CASES)


class Killed(BaseException):
    """What no handler of errors sees: the end of a process."""


class StepListener(monitoring.CommandListener):
    """Calls a function before each database command of a client."""

    def __init__(self) -> None:
        self.before: Callable[[int], None] = lambda step: None
        self.steps = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in STEPS:
            self.steps += 1
            self.before(self.steps - 1)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


class Server:
    """An ingester with a connection of its own whose steps can be watched."""

    def __init__(self, settings: Settings, log: LogWriter) -> None:
        self.listener = StepListener()
        self.client: MongoClient[Document] = MongoClient(
            settings.mongodb_uri, tz_aware=True, event_listeners=[self.listener]
        )
        store = Store(self.client[settings.database], log_days=30)
        self.ingest = Ingest(store, log, settings)
        self.restart()

    def restart(self, before: Callable[[int], None] = lambda step: None) -> None:
        self.listener.steps, self.listener.before = 0, before

    def run(self, operation: IngestRequest) -> Outcome:
        """Carry out an operation that may lose against the other, but never fails otherwise."""
        # Also within a step of another server's, of whose session it knows nothing.
        (outcome,) = Context().run(self.ingest.run, operation)
        assert isinstance(outcome, IngestResult | ConflictError) or "is not stored" in str(
            outcome
        ), repr(outcome)
        return outcome


@pytest.fixture
def log(database: Database[Document], settings: Settings) -> Iterator[LogWriter]:
    log = LogWriter(database[INGEST_LOG], settings)
    yield log
    log.close()


@pytest.fixture
def servers(settings: Settings, store: Store, log: LogWriter) -> Iterator[tuple[Server, Server]]:
    first, second = Server(settings, log), Server(settings, log)
    yield first, second
    for server in (first, second):
        server.client.close()


def prepare(database: Database[Document], server: Server, before: list[IngestRequest]) -> None:
    """Bring the database to the state that a case begins with."""
    for name in ("products", "embeddings", "images.files", "images.chunks", "writes"):
        database[name].delete_many({})
    for operation in before:
        server.run(operation)


def settled(store: Store) -> WriteJournal:
    """A journal to which every write that has not ended is overdue."""
    return WriteJournal(store, Pictures(store.database), lease_seconds=0)


@case
def test_another_server_may_write_between_any_two_steps(
    name: str, servers: tuple[Server, Server], database: Database[Document]
) -> None:
    before, first_operation, second_operation = CASES[name]
    for turn in (servers, servers[::-1]):
        operations = (first_operation, second_operation)
        if turn is not servers:
            operations = operations[::-1]
        first, second = turn
        for step in itertools.count():
            prepare(database, second, before)
            reached: list[int] = []

            def intervene(now: int, step: int = step, reached: list[int] = reached) -> None:
                if now == step:
                    second.run(operations[1])  # noqa: B023 - called within this round
                    reached.append(now)

            first.restart(intervene)
            first.run(operations[0])
            first.restart()
            if not reached:
                break
            assert_nothing_left_over(database)
        assert step > 5, "the operation takes several steps"


@pytest.mark.parametrize("operation", ["upsert", "delete"])
def test_a_product_computed_anew_never_undoes_what_another_server_does(
    operation: str, servers: tuple[Server, Server], database: Database[Document]
) -> None:
    changed = upsert({**RED, "price": 1.0}) if operation == "upsert" else request("delete")
    first, second = servers
    for step in itertools.count():
        prepare(database, second, [upsert(RED, SHARED)])
        outcomes: list[Outcome] = []

        def intervene(now: int, step: int = step, outcomes: list[Outcome] = outcomes) -> None:
            if now == step:
                outcomes.append(second.run(changed))

        first.restart(intervene)
        first.run(request("reembed"))
        first.restart()
        if not outcomes:
            break
        found = database["products"].find_one({"_id": "mug"})
        if operation == "delete":
            assert found is None, f"deleted before step {step}"
        else:
            assert found is not None
            assert found["price"] == 1.0, f"changed before step {step}"
    assert step > 5, "the operation takes several steps"


def interleaved(
    servers: tuple[Server, Server],
    operations: tuple[IngestRequest, IngestRequest],
    first_stop: int,
    second_stop: int,
) -> None:
    """The first runs up to a step, then the second up to one, the first to its end, the second."""
    first, second = servers
    first_waits, second_waits = threading.Event(), threading.Event()
    first_goes_on, second_goes_on = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def run(
        server: Server, operation: IngestRequest, stop: int, waits: threading.Event,
        goes_on: threading.Event,
    ) -> None:  # fmt: skip
        def pause(step: int) -> None:
            if step == stop:
                waits.set()
                goes_on.wait()

        server.restart(pause)
        try:
            server.run(operation)
        except BaseException as error:
            errors.append(error)
        finally:
            waits.set()

    threads = [
        threading.Thread(target=run, args=arguments)
        for arguments in (
            (first, operations[0], first_stop, first_waits, first_goes_on),
            (second, operations[1], second_stop, second_waits, second_goes_on),
        )
    ]
    threads[0].start()
    first_waits.wait()
    threads[1].start()
    second_waits.wait()
    first_goes_on.set()
    threads[0].join()
    second_goes_on.set()
    threads[1].join()
    for server in servers:
        server.restart()
    assert not errors, errors


def steps_of(
    server: Server, database: Database[Document], before: list[IngestRequest], one: IngestRequest
) -> int:
    prepare(database, server, before)
    server.restart()
    server.run(one)
    return server.listener.steps


@case
def test_two_servers_may_stop_each_other_at_some_steps(
    name: str, servers: tuple[Server, Server], database: Database[Document]
) -> None:
    _check_interleavings(name, servers, database, share=0.05)


@pytest.mark.nightly
@case
def test_two_servers_may_stop_each_other_at_many_steps(
    name: str, servers: tuple[Server, Server], database: Database[Document]
) -> None:
    _check_interleavings(name, servers, database, share=0.4)


def _check_interleavings(
    name: str, servers: tuple[Server, Server], database: Database[Document], share: float
) -> None:
    before, *operations = CASES[name]
    counts = [
        steps_of(server, database, before, one)
        for server, one in zip(servers, operations, strict=True)
    ]
    stops = list(itertools.product(*(range(1, count) for count in counts)))
    chosen = random.Random(name).sample(stops, round(len(stops) * share))
    for first_stop, second_stop in chosen:
        prepare(database, servers[0], before)
        interleaved(servers, (operations[0], operations[1]), first_stop, second_stop)
        assert_nothing_left_over(database)


@case
def test_what_a_killed_server_has_left_over_is_removed(
    name: str, servers: tuple[Server, Server], database: Database[Document], store: Store
) -> None:
    before, operation, of_another = CASES[name]
    first, second = servers
    for step in itertools.count():
        prepare(database, second, before)

        def end(now: int, step: int = step) -> None:
            if now == step:
                raise Killed

        first.restart(end)
        try:
            first.run(operation)
        except Killed:
            pass
        else:
            break
        # The other server knows nothing of it, whether it writes before the rest is removed ...
        if step % 2:
            second.run(of_another)
        settled(store).recover()
        assert_nothing_left_over(database)
        # ... or after; and the operation may be sent again.
        first.restart()
        first.run(operation)
        second.run(of_another)
        assert_nothing_left_over(database)
    assert step > 5, "the operation takes several steps"


def test_a_write_that_was_cut_off_is_left_alone_until_its_lease_has_passed(
    servers: tuple[Server, Server], database: Database[Document], store: Store, settings: Settings
) -> None:
    first, second = servers

    def end(now: int) -> None:
        if any(True for _ in database["images.files"].find({})):
            raise Killed

    first.restart(end)
    with pytest.raises(Killed):
        first.run(upsert(RED, SHARED))
    assert journal_of(store, settings).recover() == 0
    assert database["writes"].count_documents({}) == 1
    # Nobody may delete what the write may still need.
    second.run(upsert(CUP, SHARED))
    second.run(request("delete", "cup"))
    assert database["images.files"].count_documents({}) == 1
    assert settled(store).recover() == 1
    assert_nothing_left_over(database)


def test_an_intent_that_cannot_be_read_holds_up_no_other(
    store: Store, database: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    database["writes"].insert_one({"_id": "changed by hand", "begun": long_ago})
    journal = settled(store)
    journal.begin(["mug"], ["w"], [])
    store.insert_embeddings([{"product_id": "mug", "write_id": "w"}])
    time.sleep(0.01)
    assert journal.recover() == 1
    assert "the write changed by hand cannot be settled" in caplog.text
    assert store.embeddings.count_documents({}) == 0


def test_a_thread_settles_what_was_cut_off(store: Store, database: Database[Document]) -> None:
    journal = settled(store)
    journal.begin(["mug"], ["w"], [])
    recovery = WriteRecovery(journal, seconds=0.05)
    wait_for(lambda: database["writes"].count_documents({}) == 0, "the write is settled")
    recovery.close()


def test_a_write_that_was_held_up_for_too_long_gives_up(
    store: Store, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(write_journal, "time", SimpleNamespace(monotonic=lambda: now))
    journal = WriteJournal(store, Pictures(database), lease_seconds=60)
    intent = journal.begin(["mug"], ["w"], [])
    now += 30
    journal.check_lease(intent)
    now += 0.1
    with pytest.raises(Exception, match="held up for too long"):
        journal.check_lease(intent)


def test_many_threads_of_several_servers_leave_whole_products(
    settings: Settings, log: LogWriter, store: Store, database: Database[Document]
) -> None:
    writers, rounds, ids = 6, 25, ("a", "b", "c")
    pool = [picture(seed) for seed in range(5)]
    servers = [Server(settings, log) for _ in range(writers)]
    outcomes: list[object] = []

    def write(number: int) -> None:
        chance = random.Random(number)
        for turn in range(rounds):
            batch = []
            for product_id in chance.sample(ids, chance.randint(1, len(ids))):
                if chance.random() < 0.3:
                    batch.append(request("delete", product_id))
                else:
                    pictures = chance.sample(pool, chance.randint(1, 3))
                    product = {**RED, "product_id": product_id, "price": number * rounds + turn}
                    batch.append(upsert(product, *pictures))
            outcomes.extend(servers[number].ingest.run(*batch))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for server in servers:
        server.client.close()
    unexpected = [item for item in outcomes if not isinstance(item, IngestResult | ConflictError)]
    assert not unexpected, unexpected
    assert sum(isinstance(item, IngestResult) for item in outcomes) > len(outcomes) / 2
    assert_nothing_left_over(database)
    assert stored_images(store)
