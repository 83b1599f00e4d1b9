from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serving_support import SMALL_BUNDLE, unit, wait_for

from bls_models.database.store import Store
from bls_models.errors import ConflictError
from bls_models.index.engine import IndexedProduct, SortedIds
from bls_models.index.filters.columns import declared_values
from bls_models.milvus import stored_rows
from bls_models.milvus import writer as milvus_writer
from bls_models.milvus.collections import (
    ID,
    MAX_FIELDS,
    PRODUCT_ID,
    VERSION,
    Collections,
    create,
    drop,
)
from bls_models.milvus.connection import MilvusConnection
from bls_models.milvus.filters import EVERYTHING
from bls_models.milvus.product_rows import BATCH_BYTES, batches, kept_fields, rows_of
from bls_models.milvus.writer import COUNTER_BITS, MilvusWriter
from bls_models.settings import Settings

IMAGE_DIM, TEXT_DIM = SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim

pytestmark = pytest.mark.server


class CountedLease:
    """A lease that is lost at the n-th check."""

    def __init__(self, fence: int, lost_at: int = 0) -> None:
        self.fence = fence
        self.checks = 0
        self._lost_at = lost_at

    def check(self) -> None:
        self.checks += 1
        if self._lost_at and self.checks >= self._lost_at:
            raise ConflictError("the lease is lost")


class Shelf:
    """Collections that are empty, and the database beside them, for writers."""

    def __init__(
        self, connection: MilvusConnection, collections: Collections, store: Store
    ) -> None:
        self.connection = connection
        self.collections = collections
        self.store = store

    def clear(self) -> None:
        for name in self.collections.dims:
            self.connection.client.delete(name, filter=EVERYTHING, timeout=30)

    def writer(self, fence: int, lost_at: int = 0) -> MilvusWriter:
        lease = CountedLease(fence, lost_at)
        return MilvusWriter(self.connection, self.collections, self.store, lease)

    def save(self, products: Sequence[IndexedProduct]) -> None:
        """Have the database hold these writes."""
        for product in products:
            self.store.products.replace_one(
                {"_id": product.product_id}, {"write_id": product.write_id}, upsert=True
            )

    def rows(self) -> set[tuple[str, str]]:
        """Collection and id of each row that there is."""
        return {(name, item[ID]) for name, item in self.items()}

    def versions(self) -> dict[str, int]:
        """The newest version of each product."""
        found: dict[str, int] = {}
        for _, item in self.items():
            found[item[PRODUCT_ID]] = max(item[VERSION], found.get(item[PRODUCT_ID], 0))
        return found

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in self.collections.dims:
            for item in self.connection.client.query(
                name,
                EVERYTHING,
                [ID, PRODUCT_ID, VERSION],
                consistency_level="Strong",
                timeout=self.connection.seconds,
            ):
                yield name, item

    def rows_of(self, products: Sequence[IndexedProduct]) -> set[tuple[str, str]]:
        """What ``rows`` is when these are there and nothing else."""
        return {
            (name, row[ID])
            for product in products
            for name, rows in zip(self.collections.dims, rows_of(product, 0), strict=True)
            for row in rows
        }


@pytest.fixture(scope="module", params=["milvus_uri", "lite_uri"])
def made(request: pytest.FixtureRequest) -> Iterator[tuple[MilvusConnection, Collections]]:
    """Collections in each kind of Milvus in turn; making some takes seconds."""
    uri = request.getfixturevalue(request.param)
    connection = MilvusConnection(Settings(milvus_uri=uri, milvus_timeout_ms=30_000))
    collections = Collections.of(uuid.uuid4().hex, "none", IMAGE_DIM, TEXT_DIM)
    create(connection, collections)
    yield connection, collections
    for name in collections.dims:
        drop(connection, name)
    connection.close()


@pytest.fixture
def shelf(made: tuple[MilvusConnection, Collections], store: Store) -> Iterator[Shelf]:
    shelf = Shelf(*made, store)
    yield shelf
    shelf.clear()


def product(name: str, /, views: int = 2, texts: int = 1, **fields: Any) -> IndexedProduct:
    """A new write of a product."""
    vectors = np.random.default_rng(sum(name.encode()))
    return IndexedProduct(
        name,
        uuid.uuid4().hex,
        {"category": "mug", "price": 5, "attributes": {"new": True}} | fields,
        unit(vectors.normal(size=(views, IMAGE_DIM))),
        unit(vectors.normal(size=(texts, TEXT_DIM))),
    )


def bring(writer: MilvusWriter, products: Sequence[IndexedProduct]) -> None:
    """Put what is not there as it should be, as the loader does."""
    by_id = {item.product_id: item for item in products}
    held = writer.write_ids(list(by_id))
    known = {name: item.fields for name, item in by_id.items() if held.get(name) == item.write_id}
    again = writer.refresh(known)
    writer.upsert([item for name, item in by_id.items() if name not in known or name in again])


def test_products_are_put_replaced_and_removed(shelf: Shelf) -> None:
    first = [product("p1"), product("p2", views=0), product("Größe-✓", texts=0, price=7.5)]
    shelf.save(first)
    writer = shelf.writer(fence=3)
    assert writer.write_ids([item.product_id for item in first]) == {}
    writer.upsert(first)
    assert shelf.rows() == shelf.rows_of(first)
    ids = [item.product_id for item in first]
    assert writer.write_ids([*ids, "other"]) == {item.product_id: item.write_id for item in first}
    assert writer.fields(ids) == {item.product_id: declared_values(item.fields) for item in first}
    before = shelf.versions()
    assert {version >> COUNTER_BITS for version in before.values()} == {3}
    assert len(set(before.values())) == 3
    assert writer.info()["products"] == 3
    assert (writer.info()["image_vectors"], writer.info()["text_vectors"]) == (4, 2)

    second = [product("p1", views=1), first[1], first[2]]
    shelf.save(second)
    writer.upsert(second[:1])
    assert shelf.rows() == shelf.rows_of(second)
    after = shelf.versions()
    assert after["p1"] > before["p1"]
    assert {after[name] for name in ids[1:]} == {before[name] for name in ids[1:]}

    # The same write with fewer vectors, as when one was taken out by hand.
    third = replace(first[2], image_vectors=first[2].image_vectors[:1])
    writer.upsert([third])
    assert shelf.rows() == shelf.rows_of([second[0], second[1], third])

    shelf.store.products.delete_many({"_id": {"$in": ["p1", "p2"]}})
    for _ in range(2):
        writer.remove("p1", "p2", "other")
        assert shelf.rows() == shelf.rows_of([third])
    assert writer.write_ids(ids) == {third.product_id: third.write_id}
    writer.upsert([])
    writer.remove()
    assert list(writer.id_ranges().between(None, None)) == [third.product_id]


def test_only_products_with_other_fields_are_to_be_put_anew(shelf: Shelf) -> None:
    products = [product("p1"), product("p2"), product("p3", name="Ünïcode \"quoted\" \\ 'so'")]
    shelf.save(products)
    writer = shelf.writer(fence=1)
    writer.upsert(products)
    fields = {item.product_id: item.fields for item in products}
    assert writer.refresh(fields) == set()
    others = {"p1": {"category": "vase"}, "p2": {"price": 5.0}, "missing": {"price": 1}}
    assert writer.refresh(
        {name: fields.get(name, {}) | others.get(name, {}) for name in [*fields, "missing"]}
    ) == {"p1"}
    changed = replace(products[0], fields=fields["p1"] | others["p1"])
    writer.upsert([changed])
    assert writer.fields(["p1"])["p1"]["category"] == "vase"
    assert shelf.rows() == shelf.rows_of(products)


def test_a_write_that_breaks_off_anywhere_is_made_good_by_the_next_writer(shelf: Shelf) -> None:
    # Removing from both collections, putting into both, removing from both; then nothing is lost.
    steps = range(1, 8)
    old = [product(f"{name}-{step}") for step in steps for name in ("p", "q", "gone")]
    shelf.save(old)
    bring(shelf.writer(fence=1), old)
    new = [
        replace(product(f"{name}-{step}", views=views, texts=2), write_id=f"{name}-{step}-new")
        for step in steps
        for name, views in (("p", 3), ("q", 1))
    ]
    shelf.save(new)
    for step in steps:
        gone = f"gone-{step}"
        shelf.store.products.delete_one({"_id": gone})
        cut_off = shelf.writer(fence=1 + step, lost_at=step)
        with pytest.raises(ConflictError) if step != steps[-1] else contextlib.nullcontext():
            cut_off.remove(gone)
            bring(cut_off, [item for item in new if item.product_id.endswith(f"-{step}")])
        if step == 1:
            assert shelf.rows() == shelf.rows_of(old)
    ids = {item.product_id for item in new}
    for fence in (10, 11):
        writer = shelf.writer(fence)
        writer.remove(*(set(writer.id_ranges().between(None, None)) - ids))
        bring(writer, new)
        assert shelf.rows() == shelf.rows_of(new)
        assert writer.write_ids(list(ids)) == {item.product_id: item.write_id for item in new}


def test_of_two_writers_the_later_one_wins(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_rows, "FRESH_SECONDS", 0.0)
    old, new = product("p1"), product("p1", views=1)
    gone = product("p2")
    shelf.save([old])
    early, late = shelf.writer(fence=1), shelf.writer(fence=2)
    early.upsert([old])
    shelf.save([new, gone])
    late.upsert([new, gone])
    assert shelf.rows() == shelf.rows_of([new, gone])
    # It does not know that it has lost its lease, and what it does comes late.
    early.remove("p1", "p2")
    assert shelf.rows() == shelf.rows_of([new, gone])
    early.upsert([replace(old, write_id=uuid.uuid4().hex)])
    assert late.write_ids(["p1"]) == {"p1": new.write_id}
    # What comes after it is lost on the way: rows of another write, or in place of later ones.
    for write_id in (uuid.uuid4().hex, new.write_id):
        with pytest.raises(ConflictError):
            shelf.writer(fence=1, lost_at=2).upsert(
                [replace(new, write_id=write_id, image_vectors=old.image_vectors[:1])]
            )
        assert late.write_ids(["p1", "p2"]) == {"p1": "", "p2": gone.write_id}
        bring(late, [new, gone])
        assert shelf.rows() == shelf.rows_of([new, gone])
        assert late.write_ids(["p1"]) == {"p1": new.write_id}


def test_a_product_that_was_deleted_meanwhile_does_not_stay(shelf: Shelf) -> None:
    there = product("p1")
    shelf.save([there])
    writer = shelf.writer(fence=1)
    writer.upsert([there])
    shelf.store.products.delete_one({"_id": "p1"})
    writer.upsert([product("p1")])
    assert shelf.rows() == set()


def test_a_lease_that_was_taken_again_is_not_the_writers(shelf: Shelf) -> None:
    lease = CountedLease(1)
    writer = MilvusWriter(shelf.connection, shelf.collections, shelf.store, lease)
    lease.fence = 2
    with pytest.raises(ConflictError, match="taken again"):
        writer.upsert([product("p1")])
    assert shelf.rows() == set()


def test_rows_are_read_as_new_as_they_must_be(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[str] = []
    query = shelf.connection.client.query

    def noted(*arguments: Any, consistency_level: str, **options: Any) -> Any:
        levels.append(consistency_level)
        return query(*arguments, consistency_level=consistency_level, **options)

    there = product("p1")
    shelf.save([there])
    shelf.writer(fence=1).upsert([there])
    reader = shelf.writer(fence=2)
    monkeypatch.setattr(shelf.connection.client, "query", noted)
    monkeypatch.setattr(stored_rows, "FRESH_SECONDS", 600.0)
    monkeypatch.setattr(milvus_writer, "LISTED_SECONDS", 600.0)
    for _ in range(3):
        assert reader.write_ids(["p1"]) == {"p1": there.write_id}
    assert levels == ["Strong"] * 2 + ["Bounded"] * 4
    # What was just read is not read again for the change that follows.
    levels.clear()
    reader.upsert([there])
    assert levels == []
    reader.write_ids(["p1"])
    # A session does not wait for what was deleted; that is known, or waited for.
    reader.remove("p1")
    assert reader.write_ids(["p1"]) == {}
    assert levels == ["Session"] * 4
    levels.clear()
    assert reader.id_ranges().between(None, None) == []
    assert reader.write_ids(["p1"]) == {}
    assert levels == ["Strong"] * 2 + ["Session"] * 2
    # The same write once more is not taken for deleted.
    reader.upsert([there])
    assert reader.write_ids(["p1"]) == {"p1": there.write_id}
    reader.remove("p1")
    # What is known not to be there is not looked for.
    reader.write_ids(["p1"])
    levels.clear()
    reader.remove("p1")
    assert levels == []
    # So many deleted rows are not kept in mind.
    writer = shelf.writer(fence=2)
    writer.upsert([there])
    monkeypatch.setattr(stored_rows, "MOST_GONE", 0)
    writer.remove("p1")
    levels.clear()
    assert writer.write_ids(["p1"]) == {}
    assert levels == ["Strong"] * 2
    other = shelf.writer(fence=3)
    monkeypatch.setattr(stored_rows, "FRESH_SECONDS", 0.0)
    other.remove("p1")
    other.remove("p1")
    assert levels[2:] == ["Strong"] * 4


def test_what_was_listed_long_ago_is_listed_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_writer, "LISTED_SECONDS", 0.0)
    monkeypatch.setattr(stored_rows, "FRESH_SECONDS", 0.0)
    there = product("p1")
    shelf.save([there])
    late, writer = shelf.writer(fence=1), shelf.writer(fence=2)
    assert writer.write_ids(["p1"]) == {}
    late.upsert([there])
    writer.remove("p1")
    assert shelf.rows() == set()


def test_rows_are_counted_once_in_a_while(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = product("p1"), product("p2")
    shelf.save([first, second])
    writer = shelf.writer(fence=1)
    writer.upsert([first])
    # Milvus counts what was written some tenths of a second ago.
    wait_for(lambda: shelf.writer(fence=1).info()["products"] == 1, "it is counted")
    monkeypatch.setattr(milvus_writer, "MAX_COUNT_SECONDS", 600.0)
    monkeypatch.setattr(milvus_writer, "COUNT_SHARE", 1e-9)
    assert writer.info()["products"] == 1
    writer.upsert([second])
    assert writer.info()["products"] == 1
    wait_for(lambda: shelf.writer(fence=1).info()["products"] == 2, "both are counted")


def test_ranges_of_ids_have_all_of_them_in_order(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_rows, "RANGE_ROWS", 300)
    chosen = random.Random(1)
    letters = "aZ09-_.ßéÜ中文🙂'\"\\%"
    names = sorted({"".join(chosen.choices(letters, k=chosen.randint(1, 6))) for _ in range(1500)})
    writer = shelf.writer(fence=1)
    products = [
        product(name, views=number % 3, texts=1 - bool(number % 3))
        for number, name in enumerate(names)
    ]
    shelf.save(products)
    writer.upsert(products)
    ranges, expected = writer.id_ranges(), SortedIds(names)
    assert ranges.between(None, None) == names
    for _ in range(3):
        after, last = sorted(chosen.choices([*names, *letters], k=2))
        assert ranges.between(after, last) == expected.between(after, last), (after, last)
        assert ranges.between(after, None) == expected.between(after, None)
        assert ranges.between(None, after) == expected.between(None, after)
    assert len(writer.write_ids(names)) == len(names)


def test_batches_hold_no_more_than_milvus_takes(shelf: Shelf) -> None:
    long = {f"k{number}": "é" * 500 for number in range(50)}
    products = [product(f"p{number}", views=1, attributes=long) for number in range(100)]
    rows = [row for item in products for row in rows_of(item, 1)[0]]
    parts = list(batches(rows))
    assert [row for part in parts for row in part] == rows
    assert len(parts) > 2
    assert all(len(part) * 51_000 <= BATCH_BYTES for part in parts)
    shelf.save(products)
    writer = shelf.writer(fence=1)
    writer.upsert(products)
    assert shelf.rows() == shelf.rows_of(products)
    ids = [item.product_id for item in products]
    assert writer.refresh({name: products[0].fields for name in ids}) == set()
    writer.remove(*ids)
    assert shelf.rows() == set()


def test_fields_that_are_more_than_milvus_keeps_are_left_out_and_named(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    # A valid product, with attributes as long as they may be, in letters of three bytes.
    texts = {f"k{number}": "中" * 512 for number in range(64)}
    large = product("p1", attributes=texts | {"short": "x"})
    shelf.save([large])
    writer = shelf.writer(fence=1)
    writer.upsert([large])
    assert shelf.rows() == shelf.rows_of([large])
    kept = writer.fields(["p1"])["p1"]
    assert kept["attributes.short"] == "x"
    assert 40 < len(kept) < 64
    assert len(str(kept_fields(large.fields)).encode()) < MAX_FIELDS
    assert writer.kept_fields({"_id": "p1", "write_id": "w", **large.fields}) == kept
    assert writer.refresh({"p1": large.fields}) == set()
    assert "more for filters than Milvus keeps" in caplog.text
