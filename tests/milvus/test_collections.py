from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving_support import CALL_SECONDS, wait_for

from bls_models.errors import IndexUnavailableError, SetupError
from bls_models.milvus.collections import PREFIX, Collections, create, drop, existing
from bls_models.milvus.connection import MilvusConnection
from bls_models.settings import Settings
from loadtest.faults.milvus import RealMilvus
from local_server.processes import LOOPBACK, free_port


@pytest.fixture(params=["milvus_uri", "lite_uri"])
def connection(request: pytest.FixtureRequest) -> Iterator[MilvusConnection]:
    uri = request.getfixturevalue(request.param)
    connection = MilvusConnection(Settings(milvus_uri=uri, milvus_timeout_ms=30_000))
    yield connection
    connection.close()


def some_collections() -> Collections:
    return Collections.of(uuid.uuid4().hex, "2026-11-30.1", 8, 4)


@contextlib.contextmanager
def dropped(connection: MilvusConnection, collections: Collections) -> Iterator[None]:
    try:
        yield
    finally:
        for name in collections.dims:
            drop(connection, name)


def ready(connection: MilvusConnection, name: str) -> bool:
    """Whether a collection can be searched."""
    with connection.errors("searching"):
        (found,) = connection.client.search(name, data=[[0.1] * 8], limit=1, timeout=30)
    return list(found) == []


@pytest.mark.server
def test_collections_are_made_once_and_removed(connection: MilvusConnection) -> None:
    collections = some_collections()
    assert not {*collections.dims} & {*existing(connection)}
    with dropped(connection, collections):
        for _ in range(2):
            create(connection, collections)
            assert {*collections.dims} <= {*existing(connection)}
        assert ready(connection, collections.images)
        other = Collections(collections.images, collections.texts, 16, 4)
        with pytest.raises(IndexUnavailableError, match="8 numbers, expected 16"):
            create(connection, other)
    assert not {*collections.dims} & {*existing(connection)}


@pytest.mark.server
def test_collections_that_were_half_made_are_finished(connection: MilvusConnection) -> None:
    collections = some_collections()
    with dropped(connection, collections):
        create(connection, collections)
        name, client = collections.images, connection.client
        client.release_collection(name, timeout=30)
        (index,) = client.list_indexes(name, timeout=30)
        client.drop_index(name, index, timeout=30)
        drop(connection, collections.texts)
        create(connection, collections)
        assert ready(connection, name)


@pytest.mark.server
def test_servers_that_start_together_make_the_same_collections(milvus_uri: str) -> None:
    connection = MilvusConnection(Settings(milvus_uri=milvus_uri, milvus_timeout_ms=30_000))
    collections = some_collections()
    with dropped(connection, collections):
        with ThreadPoolExecutor(3) as servers:
            list(servers.map(lambda _: create(connection, collections), range(3)))
        assert ready(connection, collections.images)
    connection.close()


def test_names_have_only_letters_that_milvus_takes() -> None:
    collections = some_collections()
    for name in collections.dims:
        assert name.startswith(PREFIX)
        assert name.replace("_", "").isalnum()
        assert len(name) <= 255
    assert Collections.of("a", "b", 1, 1) != Collections.of("a", "c", 1, 1)


def test_a_milvus_that_is_not_there_is_named_with_what_to_check() -> None:
    address = f"{LOOPBACK}:{free_port()}"
    uri = f"http://user:secret@{address}"
    connection = MilvusConnection(Settings(milvus_uri=uri, milvus_timeout_ms=300))
    for _ in range(2):
        with pytest.raises(IndexUnavailableError, match=f"to http://{address}.*MILVUS_URI") as told:
            existing(connection)
        assert "UNAVAILABLE" in str(told.value)
        assert "secret" not in str(told.value)


@pytest.mark.server
def test_a_connection_that_was_closed_is_not_opened_again(lite_uri: str) -> None:
    connection = MilvusConnection(Settings(milvus_uri=lite_uri, milvus_timeout_ms=30_000))
    existing(connection)
    connection.close()
    with pytest.raises(IndexUnavailableError, match="is closed"):
        existing(connection)
    connection.close()


def test_settings_that_cannot_be_used_are_named() -> None:
    with pytest.raises(SetupError, match="MILVUS_URI=ftp://milvus cannot be used"):
        existing(MilvusConnection(Settings(milvus_uri="ftp://milvus")))
    secure = Settings(milvus_uri="https://milvus:1", milvus_certificate="/no/such.pem")
    with pytest.raises(SetupError, match=r"MILVUS_CERTIFICATE=/no/such\.pem"):
        existing(MilvusConnection(secure))


def test_a_missing_client_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pymilvus", None)
    with pytest.raises(SetupError, match=r"pymilvus.*\[milvus\]"):
        existing(MilvusConnection(Settings()))


@pytest.mark.server
@pytest.mark.slow
def test_a_milvus_that_was_killed_is_used_again_when_it_is_back(real_milvus: RealMilvus) -> None:
    connection = MilvusConnection(Settings(milvus_uri=real_milvus.uri, milvus_timeout_ms=2000))
    collections = some_collections()
    create(connection, collections)
    real_milvus.kill()
    for _ in range(3):
        with pytest.raises(IndexUnavailableError, match="check that it runs"):
            existing(connection)
    real_milvus.start()

    def back() -> bool:
        with contextlib.suppress(IndexUnavailableError):
            return ready(connection, collections.images)
        return False

    wait_for(back, "the collection is searched again", CALL_SECONDS)
    for name in collections.dims:
        drop(connection, name)
    connection.close()
