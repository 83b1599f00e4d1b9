"""A server that starts again takes its index from a snapshot, if that is of the same catalogue."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from follower_support import OTHER_BUNDLE, Followed, Shop
from serving_support import SMALL_BUNDLE, UNSTEADY_MS, RestartableDatabase, picture, wait_for

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.index.product_index import ProductIndex
from bls_models.index.snapshot.files import json_with_checksum
from bls_models.replication.product_loader import ProductLoader
from bls_models.replication.snapshot_folder import INDEX, MANIFEST
from bls_models.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def settings(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"snapshot_folder": str(folder), "snapshot_seconds": 3600})


@contextmanager
def following(settings: Settings, bundle: Bundle = SMALL_BUNDLE) -> Iterator[Followed]:
    followed = Followed(settings, bundle)
    try:
        followed.start()
        yield followed
    finally:
        followed.close()


def complete(folder: Path) -> list[Path]:
    return sorted(folder.glob("snapshot-*"))


def only(folder: Path) -> Path:
    """The one snapshot, and nothing unfinished beside it."""
    (found,) = complete(folder)
    assert not list(folder.glob("writing-*"))
    return found


def change_manifest(snapshot: Path, **changes: Any) -> None:
    manifest = json.loads((snapshot / MANIFEST).read_text())
    del manifest["sha256"]
    manifest |= changes
    (snapshot / MANIFEST).write_text(json_with_checksum(manifest))


def token_of(snapshot: Path) -> dict[str, str]:
    token: dict[str, str] = json_util.loads(json.loads((snapshot / MANIFEST).read_text())["token"])
    return token


@contextmanager
def no_full_read() -> Iterator[None]:
    def refuse(self: ProductLoader) -> None:
        raise AssertionError("everything was read")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProductLoader, "load_all", refuse)
        yield


@contextmanager
def counted_vector_reads() -> Iterator[list[str]]:
    """The writes whose vectors are read from the database."""
    read: list[str] = []
    find = Store.find_embeddings

    def count(self: Store, write_ids: list[str]) -> list[dict[str, Any]]:
        read.extend(write_ids)
        return find(self, write_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "find_embeddings", count)
        yield read


def test_without_a_folder_nothing_is_written(settings: Settings, shop: Shop, folder: Path) -> None:
    shop.put(1)
    with following(settings.model_copy(update={"snapshot_folder": ""})):
        pass
    assert not folder.exists()


def test_after_a_restart_the_index_is_there_without_a_full_read(
    settings: Settings, shop: Shop, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        shop.put(number, picture(number), price=float(number))
    shop.store.products.insert_one({"_id": "by hand", "name": "x"})
    caplog.set_level("INFO", "bls_models")
    with following(settings) as first:
        assert first.follower.info()["stale_products"] == 1
    with no_full_read(), counted_vector_reads() as read, following(settings) as second:
        assert second.follower.loaded
        assert "took 4 products from a snapshot" in caplog.text
        assert second.writes == shop.writes
        assert all(second.finds(number) for number in range(4))
        assert second.best("anything", '{"price": {"$gte": 3}}').product_id == "p3"
        info = second.follower.info()
        assert (info["image_vectors"], info["text_vectors"]) == (4, 4)
        assert info["stale_products"] == 1
    assert read == []
    only(folder)


def test_what_changed_while_the_server_was_away_is_there_when_it_has_loaded(
    settings: Settings, shop: Shop
) -> None:
    for number in range(4):
        shop.put(number)
    with following(settings):
        pass
    shop.put(1, name="Another name")
    shop.delete(2)
    shop.put(4)
    shop.store.products.update_one({"_id": "p3"}, {"$set": {"price": 2.0}})
    with no_full_read(), following(settings) as second:
        assert second.writes == shop.writes
        assert second.finds(1, name="Another name")
        assert second.best("anything", '{"price": 2}').product_id == "p3"


def test_a_product_keeps_no_version_across_a_restart(settings: Settings, shop: Shop) -> None:
    shop.put(1)
    with following(settings) as first:
        before = first.best("anything")
    with following(settings) as second:
        after = second.best("anything")
    assert before is not None
    assert after is not None
    assert before.product_version != after.product_version


def test_a_snapshot_is_written_after_the_first_load_and_after_enough_changes(
    settings: Settings, shop: Shop, folder: Path
) -> None:
    with following(settings.model_copy(update={"snapshot_changes": 5})):
        first = wait_for(lambda: complete(folder), "there is a first snapshot")
        for number in range(3):
            shop.put(number)
        assert complete(folder) == first
        for number in range(3):
            shop.put(number, price=1.0)
        wait_for(lambda: complete(folder) not in ([], first), "there is a newer snapshot")


def test_a_snapshot_is_written_after_its_time_and_only_moved_on_where_nothing_changed(
    settings: Settings, shop: Shop, folder: Path
) -> None:
    with following(settings.model_copy(update={"snapshot_seconds": 1})):
        first = wait_for(lambda: complete(folder), "there is a first snapshot")
        shop.put(1)
        wait_for(
            lambda: len(complete(folder)) == 1 and complete(folder) != first,
            "a newer snapshot has taken its place",
        )
        newest = only(folder)
        modified = (newest / MANIFEST).stat().st_mtime_ns
        wait_for(lambda: (newest / MANIFEST).stat().st_mtime_ns > modified, "its position moves on")
        assert only(folder) == newest


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / MANIFEST).write_text("{"), "it is damaged"),
        (lambda path: (path / MANIFEST).unlink(), "No such file"),
        (
            lambda path: (path / MANIFEST).write_text(
                (path / MANIFEST).read_text().replace('"time": "2', '"time": "1')
            ),
            "its manifest.json is damaged",
        ),
        (lambda path: (path / "left_out.json").write_text('{"p": 1}'), "it is damaged"),
        (lambda path: next((path / INDEX).glob("text_vectors*")).write_bytes(b"x"), "damaged"),
        (lambda path: next((path / INDEX).glob("products*")).unlink(), "cannot be read"),
        (lambda path: change_manifest(path, format=0), "it has format 0"),
        (lambda path: change_manifest(path, identity="x"), "it is of database x"),
    ],
)
def test_a_snapshot_that_does_not_fit_is_ignored_with_its_reason_in_the_log(
    settings: Settings,
    shop: Shop,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Any,
    reason: str,
) -> None:
    shop.put(1, picture(1))
    with following(settings):
        pass
    damage(only(folder))
    with following(settings) as second:
        assert second.finds(1)
    (line,) = (item for item in caplog.messages if "is ignored" in item)
    assert reason in line
    with no_full_read(), following(settings) as third:
        assert third.finds(1), "the next server has a whole snapshot again"


def test_a_snapshot_of_another_bundle_is_ignored(
    settings: Settings, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.put(1)
    with following(settings):
        pass
    with following(settings, OTHER_BUNDLE) as second:
        assert second.ids == set()
        assert second.follower.info()["stale_products"] == 1
    assert f"it is of bundle {SMALL_BUNDLE.fingerprint}, not of {OTHER_BUNDLE.fingerprint}" in (
        caplog.text
    )


def test_a_snapshot_of_a_database_that_was_dropped_serves_no_later_one_of_its_name(
    settings: Settings, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.put(1)
    with following(settings):
        pass
    shop.database.client.drop_database(shop.database.name)
    shop.put(2)
    with following(settings) as second:
        assert second.ids == {"p2"}
    assert "it is of database" in caplog.text


@pytest.mark.parametrize("place", ["nonsense", "forgotten"])
def test_a_token_that_the_database_does_not_know_leads_to_a_resync_that_keeps_what_is_right(
    settings: Settings, shop: Shop, folder: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    for number in range(4):
        shop.put(number)
    with following(settings):
        pass
    snapshot = only(folder)
    data = token_of(snapshot)["_data"]
    if place == "forgotten":
        # A place before the first that this database still has.
        data = bson.encode(bson.decode(bytes.fromhex(data)) | {"s": 0}).hex()
    else:
        data = "82" + data
    change_manifest(snapshot, token=json_util.dumps({"_data": data}))
    shop.put(1, name="Another name")
    shop.delete(2)
    with counted_vector_reads() as read, following(settings) as second:
        assert "the index reads everything again" in caplog.text
        assert second.writes == shop.writes
        assert second.finds(1, name="Another name")
        assert not second.finds(1)
        assert second.finds(3)
    assert read == [shop.writes["p1"]], "vectors of what had not changed are not read again"


def test_a_snapshot_taken_while_changes_apply_is_no_older_than_its_token(
    settings: Settings, shop: Shop, folder: Path
) -> None:
    # Each round the index is saved while products change, and a server starts from that.
    settings = settings.model_copy(update={"snapshot_changes": 1})
    done = threading.Event()

    def change() -> None:
        step = 0
        while not done.is_set():
            step += 1
            number = step % 7
            if step % 5 == 0:
                shop.delete(number)
            else:
                shop.put(number, name=f"Step {step}", price=float(step))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(4):
            with following(settings) as running:
                known = complete(folder)
                wait_for(
                    lambda known=known: complete(folder)[-1:] != known[-1:],
                    "there is a new snapshot",
                )
                # As if it were killed: no last snapshot, with all changes, replaces that one.
                running.follower._checkpoints.close(None)
    finally:
        done.set()
        thread.join()
    with no_full_read(), following(settings) as last:
        wait_for(lambda: last.writes == shop.writes, "the index holds what is stored")


def test_what_a_killed_server_left_unfinished_is_cleared_away(
    settings: Settings, shop: Shop, folder: Path
) -> None:
    shop.put(1)
    with following(settings):
        pass
    unfinished = folder / "writing-5"
    (unfinished / INDEX).mkdir(parents=True)
    (unfinished / INDEX / "text_vectors.npy").write_bytes(b"half")
    with no_full_read(), following(settings) as second:
        assert second.finds(1)
    assert not unfinished.exists()


def test_a_snapshot_that_cannot_be_written_leaves_the_one_before_it(
    settings: Settings, shop: Shop, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop.put(1)
    with following(settings):
        pass
    before = only(folder)

    def full(self: ProductIndex, path: Path) -> None:
        path.mkdir()
        (path / "text_vectors.npy").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    shop.put(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProductIndex, "save", full)
        with following(settings) as second:
            assert second.finds(2)
    assert "the one before it stays" in caplog.text
    assert only(folder) == before
    with no_full_read(), following(settings) as third:
        assert third.writes == shop.writes


@pytest.mark.parametrize(("limit", "beside"), [(0, 1), (3 * 2**20, 1), (2**20 + 100_000, 0)])
def test_a_folder_without_room_for_two_snapshots_has_one_after_the_other(
    settings: Settings,
    shop: Shop,
    folder: Path,
    limit: int,
    beside: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, there = ProductIndex.save, []

    def seen(self: ProductIndex, path: Path) -> None:
        there.append(len(complete(folder)))
        save(self, path)

    monkeypatch.setattr(ProductIndex, "save", seen)
    limited = settings.model_copy(update={"snapshot_bytes": limit})
    shop.put(1, picture(1))
    with following(limited):
        pass
    # What an older server has left counts, however large it is.
    (only(folder) / "large").write_bytes(bytes(500_000))
    with following(limited) as followed:
        shop.put(2, picture(2))
        wait_for(lambda: followed.finds(2), "the change is there")
    assert there == [0, beside]
    assert only(folder)
    with following(limited) as followed:
        assert followed.ids == {"p1", "p2"}


def test_a_snapshot_that_has_no_room_at_all_is_not_written_and_that_is_said(
    settings: Settings, shop: Shop, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop.put(1, picture(1))
    with following(settings.model_copy(update={"snapshot_bytes": 10_000})) as followed:
        assert followed.finds(1)
    assert complete(folder) == []
    assert "may hold 10000; raise PRODUCT_MATCH_SNAPSHOT_BYTES" in caplog.text


def test_of_two_servers_on_one_folder_one_writes(
    settings: Settings, shop: Shop, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop.put(1)
    with following(settings) as first:
        wait_for(lambda: complete(folder), "there is a snapshot")
        with no_full_read(), following(settings) as second:
            assert "another server writes there" in caplog.text
            assert second.writes == first.writes
        only(folder)


def test_without_its_database_a_snapshot_is_not_served(
    restartable: RestartableDatabase, tmp_path: Path
) -> None:
    settings = Settings(
        mongodb_uri=restartable.uri,
        mongodb_timeout_ms=UNSTEADY_MS,
        snapshot_folder=str(tmp_path / "s"),
    )
    shop = Shop(settings)
    shop.put(1)
    with following(settings):
        pass
    restartable.stop()
    second = Followed(settings)
    try:
        second.start(seconds=1)
        assert not second.follower.loaded
        restartable.start()
        with no_full_read():
            wait_for(lambda: second.follower.loaded, "the index is loaded")
        assert second.finds(1)
    finally:
        second.close()
        shop.close()


def test_the_identity_of_a_catalogue_stays_and_no_other_has_it(shop: Shop) -> None:
    shop.put(1)
    identity = shop.store.identity()
    assert shop.store.identity() == identity
    assert identity.startswith(f"{shop.database.name}/")
    shop.store.products.drop()
    shop.put(1)
    assert shop.store.identity() != identity


def test_a_folder_that_cannot_be_made_is_said_and_stops_nothing(
    settings: Settings, shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    shop.put(1)
    with following(
        settings.model_copy(update={"snapshot_folder": str(tmp_path / "file" / "x")})
    ) as followed:
        assert followed.finds(1)
    assert "writes no snapshots" in caplog.text
