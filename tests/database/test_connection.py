"""What is read and written keeps its promises, whatever the database's address says."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.datetime_ms import DatetimeMS
from follower_support import Shop
from ingest_support import RED, Ingest, assert_nothing_left_over, request, upsert
from pymongo import MongoClient, ReadPreference, monitoring
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from serving_support import SMALL_BUNDLE, picture, wait_for

from bls_models.database.connection import check_server, connect
from bls_models.database.pictures import Pictures
from bls_models.database.store import INGEST_LOG, Document, Store
from bls_models.database.write_journal import WriteJournal
from bls_models.errors import DatabaseError, SetupError
from bls_models.replication.index_generation import IndexGeneration
from bls_models.settings import Settings
from bls_models.telemetry.request_log import LogWriter
from loadtest.faults.stale_secondary import ChangeReply, StaleReplicaSet
from local_server.options import Options
from local_server.stack import running_database

WEAK = (
    "readPreference=secondary&readPreferenceTags=dc:east&maxStalenessSeconds=90"
    "&readConcernLevel=local&w=1&journal=false&wtimeoutMS=1&retryWrites=false&retryReads=false"
    "&timeoutMS=1&socketTimeoutMS=1&uuidRepresentation=standard&tz_aware=false"
)


def with_options(settings: Settings, options: str) -> Settings:
    return settings.model_copy(update={"mongodb_uri": f"{settings.mongodb_uri}&{options}"})


def collections_of(database: Database[Document]) -> list[Collection[Document]]:
    """Those whose content decides what is kept and what is removed."""
    store, pictures = Store(database, 30), Pictures(database)
    return [
        *(store.products, store.embeddings, pictures.files, pictures.chunks),
        *(database["writes"], database[INGEST_LOG]),
    ]


def test_no_option_of_the_address_weakens_reads_or_writes(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    database = connect(with_options(settings, WEAK))
    try:
        for collection in collections_of(database):
            assert collection.read_preference == ReadPreference.PRIMARY
            assert collection.read_concern == ReadConcern("majority")
            assert collection.write_concern == WriteConcern("majority", j=True)
            assert collection.codec_options.tz_aware
        assert database.client.options.retry_writes
        assert database.client.options.timeout == settings.mongodb_timeout_ms / 1e3
        # With another form of UUIDs this cannot be read.
        database["products"].insert_one({"_id": "p"})
        assert Store(database, 30).identity().startswith(f"{settings.database}/")
    finally:
        database.client.drop_database(settings.database)
        database.client.close()
    (line,) = [item.getMessage() for item in caplog.records if item.levelno == logging.WARNING]
    assert all(option in line for option in WEAK.split("&"))
    assert "from the primary" in line


def test_options_that_say_the_same_or_only_how_to_connect_are_nothing_to_warn_of(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    same = "retryWrites=true&w=majority&readPreference=primary&replicaSet=other"
    database = connect(with_options(settings, same))
    try:
        assert database.client.options.replica_set_name == "other"
    finally:
        database.client.close()
    assert caplog.records == []


def test_what_python_has_no_form_for_can_be_read(database: Database[Document]) -> None:
    # As other programs store it; the local database would refuse the date.
    stored = bson.encode({"time": DatetimeMS(2**60), "now": datetime.now(UTC), "name": "cafe"})
    found = bson.decode(stored.replace(b"cafe", b"caf\xe9"), database.codec_options)
    assert found["time"] == DatetimeMS(2**60)
    assert found["now"].tzinfo is not None
    assert found["name"] == "caf\ufffd"


# --- a secondary that lags ---------------------------------------------------------------------


@pytest.fixture
def far_log(database: Database[Document], settings: Settings) -> Iterator[LogWriter]:
    log = LogWriter(database[INGEST_LOG], settings)
    yield log
    log.close()


def reading_stale(lagging: StaleReplicaSet, settings: Settings) -> Database[Document]:
    """The database as a driver without our options has it."""
    client: MongoClient[Document] = MongoClient(lagging.uri, tz_aware=True)
    wait_for(lambda: client.secondaries, "the secondary is known")
    return client[settings.database]


def test_a_lagging_secondary_is_never_asked_and_removes_nothing(
    lagging: StaleReplicaSet, settings: Settings, database: Database[Document], far_log: LogWriter
) -> None:
    plain = reading_stale(lagging, settings)
    plain["products"].insert_one({"_id": "seen"})
    assert plain["products"].find_one() is None, "this set's secondary has nothing"
    plain["products"].delete_one({"_id": "seen"})
    plain.client.close()
    lagging.reads.clear()

    ours = connect(settings.model_copy(update={"mongodb_uri": lagging.uri}))
    try:
        check_server(ours)
        wait_for(lambda: ours.client.secondaries, "the secondary is known")
        shop = Ingest(Store(ours, 30), far_log, settings)
        assert shop.one(upsert(RED, picture(1))).status == "created"
        assert shop.one(upsert({**RED, "price": 1.0})).status == "updated"
        assert shop.one(request("reembed")).status == "updated"
        assert shop.one(upsert({**RED, "product_id": "cup"}, picture(1))).status == "created"
        assert shop.one(request("delete", "cup")).status == "deleted"
        assert WriteJournal(shop.store, Pictures(ours), 0).recover() == 0
    finally:
        ours.client.close()
    assert lagging.reads == []
    assert_nothing_left_over(database)
    assert database["products"].count_documents({}) == 1


def test_a_direct_connection_to_a_secondary_is_refused(
    lagging: StaleReplicaSet, settings: Settings
) -> None:
    direct = connect(settings.model_copy(update={"mongodb_uri": lagging.secondary_uri}))
    try:
        with pytest.raises(SetupError, match=r"not the primary.*without directConnection"):
            check_server(direct)
    finally:
        direct.client.close()
    options = Options(mongodb_uri=lagging.secondary_uri)
    with pytest.raises(SetupError, match="not the primary"), running_database(options, print):
        pytest.fail("nothing is started on it")


def test_a_database_that_is_away_is_not_started_on() -> None:
    options = Options(mongodb_uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1")
    with pytest.raises(SetupError, match="does not answer"), running_database(options, print):
        pytest.fail("nothing is started on it")


# --- the server --------------------------------------------------------------------------------


PRIMARY = {"isWritablePrimary": True, "setName": "rs0"}


class Told:
    """A database whose server says what it is."""

    def __init__(self, **about: Any) -> None:
        self.about = about
        self.client = self
        self.admin = self

    def command(self, name: str) -> dict[str, Any]:
        return self.about


@pytest.mark.parametrize("version", ["7.0.0", "7.0.14-rc1", "8.2.11", "10.0.1"])
def test_the_least_version_is_enough(version: str) -> None:
    check_server(Told(**PRIMARY, version=version))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["4.4.29", "6.0.20"])
def test_an_older_server_is_refused_with_the_version_that_is_needed(version: str) -> None:
    with pytest.raises(SetupError, match=rf"MongoDB {version}, but 7.0 or newer"):
        check_server(Told(**PRIMARY, version=version))  # type: ignore[arg-type]


def test_a_single_server_is_refused_and_a_cluster_of_sets_is_not() -> None:
    about = {"isWritablePrimary": True, "version": "8.0.1"}
    with pytest.raises(SetupError, match=r"a replica set is needed.*--replSet.*rs\.initiate"):
        check_server(Told(**about))  # type: ignore[arg-type]
    check_server(Told(**about, msg="isdbgrid"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:27017/",
        "mongodb://host:80000/",
        "mongodb://us er@name:p@ss@host/",
        "mongodb+srv://cluster0.example.invalid/",
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence(settings: Settings, uri: str) -> None:
    with pytest.raises(SetupError, match=r"MONGODB_URI cannot be used: .*; set it to e\.g\. "):
        connect(settings.model_copy(update={"mongodb_uri": uri}))


def test_a_server_that_is_away_is_not_called_unfit(settings: Settings) -> None:
    away = settings.model_copy(
        update={"mongodb_uri": "mongodb://127.0.0.1:1/", "mongodb_timeout_ms": 100}
    )
    database = connect(away)
    with pytest.raises(DatabaseError, match="check that it runs"):
        check_server(database)
    database.client.close()


# --- after a change of the primary -------------------------------------------------------------


class Commands(monitoring.CommandListener):
    """The database commands of a client, as they are sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Document]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append((event.command_name, dict(event.command)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def test_the_follower_reads_nothing_older_than_its_stream(shop: Shop, settings: Settings) -> None:
    shop.put(1)
    commands = Commands()
    database = connect(settings, event_listeners=[commands])
    generation = IndexGeneration(settings, SMALL_BUNDLE, Store(database, 30), None)
    index, follower = generation.index, generation.follower
    try:
        follower.start(60)
        shop.put(2)
        wait_for(lambda: "p2" in index.product_ids(), "the change is followed")
    finally:
        follower.stop()
        index.close()
        database.client.close()
    reads = [item for name, item in commands.sent if name == "find"]
    assert {item["find"] for item in reads} == {"products", "embeddings"}
    times = [item["readConcern"]["afterClusterTime"] for item in reads]
    assert times == sorted(times)
    assert times[-1] > times[0], "what is read for a change is no older than the change"


def test_what_settles_a_write_is_read_after_a_write_of_its_own(
    settings: Settings, far_log: LogWriter
) -> None:
    commands = Commands()
    database = connect(settings, event_listeners=[commands])
    try:
        shop = Ingest(Store(database, 30), far_log, settings)
        shop.one(upsert(RED, picture(1)))
        intent = shop.ingester._journal.begin(["mug"], ["an old write"], [])
        commands.sent.clear()
        shop.ingester._journal.settle(intent)
        first, *others = commands.sent
        assert first[0] == "update"
        assert first[1]["update"] == "writes"
        assert first[1]["writeConcern"] == {"w": "majority", "j": True}
        assert {item["lsid"]["id"] for _, item in others} == {first[1]["lsid"]["id"]}
        reads = [item for name, item in others if name == "find"]
        assert reads
        for item in reads:
            assert item["readConcern"]["level"] == "majority"
            assert "afterClusterTime" in item["readConcern"]
    finally:
        database.client.drop_database(settings.database)
        database.client.close()


# --- what a majority has not acknowledged --------------------------------------------------------

# Of the commands of an upsert the last, by their number, before it is settled: that which writes
# the product.
LAST_STEPS = {"insert": 3, "update": 2}


def unacknowledged(name: str, step: int) -> ChangeReply:
    """Replies of which one says that its write was carried out, but has no majority yet."""
    numbers = itertools.count()
    error = {"code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication"}

    def change(command: Document, reply: Document) -> Document:
        if name in command and next(numbers) == step:
            return reply | {"writeConcernError": error}
        return reply

    return change


@pytest.mark.parametrize(
    ("command", "step"),
    [(command, step) for command, last in LAST_STEPS.items() for step in range(last + 1)],
)
def test_a_write_that_a_majority_may_lose_is_not_answered_as_written(
    lagging: StaleReplicaSet,
    database: Database[Document],
    far_log: LogWriter,
    settings: Settings,
    command: str,
    step: int,
) -> None:
    ours = connect(settings.model_copy(update={"mongodb_uri": lagging.uri}))
    shop = Ingest(Store(ours, 30), far_log, settings)
    shop.one(upsert(RED, picture(1)))
    if command == "insert":
        changed = upsert({**RED, "product_id": "cup"}, picture(2))
    else:
        changed = upsert({**RED, "price": 1.0}, picture(1))
    lagging.change_reply = unacknowledged(command, step)
    try:
        with pytest.raises(DatabaseError, match="waiting for replication"):
            shop.one(changed)
        WriteJournal(shop.store, Pictures(ours), 0).recover()
        assert shop.one(changed).status in ("created", "updated", "unchanged")
    finally:
        ours.client.close()
    assert_nothing_left_over(database)
