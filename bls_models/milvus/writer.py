"""Keeps what Milvus has equal to the database; of several servers one does so at a time.

Nothing is locked in Milvus, and a server that has lost its lease may not know it yet. So each write
of a product has rows of its own, of which the newest count, and no holder of the lease removes rows
of a later one. Any step may be the last one, and any may be done twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any, Protocol

from bls_models.database.store import Store
from bls_models.errors import ConflictError, IndexUnavailableError
from bls_models.index.engine import IdRanges, IndexedProduct
from bls_models.index.filters.language import Scalar
from bls_models.milvus.collections import ID, INDEX_TYPE, PRODUCT_ID, Collections
from bls_models.milvus.connection import MilvusConnection
from bls_models.milvus.filters import ids_among, untagged
from bls_models.milvus.product_rows import Row, batches, check_ids, kept_fields, rows_of
from bls_models.milvus.stored_rows import RowCounts, StoredRow, StoredRows

logger = logging.getLogger(__name__)

# Of a version: so many bits count the products that one holder of the lease has put.
COUNTER_BITS = 40
DELETED_AT_ONCE = 1000
# How long it counts which rows a product had; others may have put some since.
LISTED_SECONDS = 1.0
# How often rows are counted, and longer after a count that took long: it may take so much of the
# time, since Milvus looks through all of them for the number of products.
COUNT_SECONDS = 5.0
MAX_COUNT_SECONDS = 60.0
COUNT_SHARE = 0.02


class Lease(Protocol):
    """What lets one server write at a time.

    Attributes:
        fence: a number of its holder, above that of each before.
    """

    fence: int

    def check(self) -> None:
        """Refuse to go on where the lease is lost, or may be by the time that a call takes.

        Raises:
            ServiceError: it is.
        """
        ...


class MilvusWriter:
    """The index in Milvus, as a follower fills it; for the follower's thread.

    A write of a product is its rows in both collections, under ids of the write's own. Rows are put
    before those of other writes are removed, so the product is always found. What was interrupted
    is seen: one row tells how many there are, and a product of which some are missing counts as not
    there.

    Args:
        connection: to Milvus.
        collections: which are there.
        store: tells which write of a product counts.
        lease: is asked before each change; whoever only reads need not hold it.
    """

    has_first_lists = True

    def __init__(
        self, connection: MilvusConnection, collections: Collections, store: Store, lease: Lease
    ) -> None:
        self._connection = connection
        self._collections = collections
        self._store = store
        self._lease = lease
        self._fence = lease.fence
        self._stored = StoredRows(connection, collections)
        # What ``write_ids`` found last and when, so that the change which follows at once need not
        # ask again: Milvus takes some 0.2 s to say what was just written.
        self._listed: dict[str, list[StoredRow]] = {}
        self._listed_at = float("-inf")
        self._counter = 0
        self._version = 0
        self._time = datetime.now(UTC)
        self._counts = RowCounts(0, 0, 0)
        self._count_at = float("-inf")

    def info(self) -> dict[str, Any]:
        """See ``WritableIndex``; the sizes are a while old, and more while Milvus is away."""
        began = time.monotonic()
        if began >= self._count_at:
            try:
                self._counts = self._stored.counts()
            except IndexUnavailableError as error:
                # What needs Milvus says so itself; the state is told all the same.
                logger.debug("rows were not counted: %s", error)
            ended = time.monotonic()
            pause = max(COUNT_SECONDS, (ended - began) / COUNT_SHARE)
            self._count_at = ended + min(pause, MAX_COUNT_SECONDS)
        return {
            "version": self._version,
            "time": self._time.isoformat(),
            "products": self._counts.products,
            "image_vectors": self._counts.images,
            "text_vectors": self._counts.texts,
            "type": f"Milvus {INDEX_TYPE}",
        }

    def attribute_keys(self) -> tuple[int, int]:
        """None are counted, and filters can name all."""
        return 0, 0

    def write_ids(self, product_ids: Sequence[str]) -> dict[str, str]:
        """The write of each product; empty where it is not whole, or other rows are beside it.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
        """
        self._listed_at = time.monotonic()
        found = self._stored.of(product_ids)
        self._listed = {name: found.get(name, []) for name in product_ids}
        return {name: _write_of(rows) for name, rows in found.items()}

    def fields(self, product_ids: Sequence[str]) -> dict[str, dict[str, Scalar]]:
        """What filters see of some products; those not there are left out.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
        """
        found = self._stored.fields(product_ids)
        return {name: untagged(fields) for name, fields in found.items()}

    def kept_fields(self, document: Mapping[str, Any]) -> dict[str, Scalar]:
        """What filters are to see of a stored product: as much as Milvus takes.

        Raises:
            ProductError: it has a field with a value it cannot hold, or too long an id.
        """
        check_ids(document["_id"], document["write_id"])
        return untagged(kept_fields(document))

    def id_ranges(self) -> IdRanges:
        """The ids of which there is any row, also of an interrupted write."""
        return self._stored

    def upsert(self, products: Sequence[IndexedProduct]) -> None:
        """Add products or replace them; each product at most once a call.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
            DatabaseError: the database does not.
            ServiceError: the lease is lost.
        """
        before = self._rows_of([product.product_id for product in products])
        put = self._put(products)
        if before:
            self._remove_others(before, put)
        if products:
            self._changed(len(products))

    def refresh(self, fields: Mapping[str, Mapping[str, Any]]) -> Set[str]:
        """Compare products' fields with what is there, which is not changed.

        Returns:
            Ids of those that have others.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
        """
        found = self._stored.fields(list(fields))
        return {name for name, own in found.items() if own != kept_fields(fields[name])}

    def remove(self, *product_ids: str) -> None:
        """Take products out; one that is not there is no error.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
            ServiceError: the lease is lost.
        """
        found = self._rows_of(product_ids)
        if found:
            self._delete([row for rows in found.values() for row in rows])
            self._changed(len(found))

    def _rows_of(self, product_ids: Sequence[str]) -> dict[str, list[StoredRow]]:
        """The rows of products that have any, of which the caller is about to change some."""
        if time.monotonic() - self._listed_at > LISTED_SECONDS:
            self._listed.clear()
        listed = {name: self._listed.pop(name) for name in product_ids if name in self._listed}
        asked = self._stored.of([name for name in product_ids if name not in listed])
        return {name: rows for name, rows in (listed | asked).items() if rows}

    def _put(self, products: Sequence[IndexedProduct]) -> dict[str, list[StoredRow]]:
        """Put the rows of products, and return those of each."""
        first = (self._fence << COUNTER_BITS) + self._counter + 1
        self._counter += len(products)
        rows: dict[str, list[Row]] = {name: [] for name in self._collections.dims}
        for version, product in enumerate(products, first):
            for own, new in zip(rows.values(), rows_of(product, version), strict=True):
                own += new
        for name, own in rows.items():
            for batch in batches(own):
                self._check()
                self._stored.not_gone(name, [row[ID] for row in batch])
                with self._connection.errors(f"writing to {name}"):
                    self._connection.client.upsert(name, batch, timeout=self._connection.seconds)
                self._stored.wrote(name)
        put: dict[str, list[StoredRow]] = {}
        for name, own in rows.items():
            for row in own:
                put.setdefault(row[PRODUCT_ID], []).append(StoredRow.read(name, row))
        return put

    def _remove_others(
        self, before: Mapping[str, Sequence[StoredRow]], put: Mapping[str, Sequence[StoredRow]]
    ) -> None:
        """Remove rows of products that are not of their stored write, or not of its last state.

        Args:
            before: their rows as they were before; what others put since is theirs to remove.
            put: those that were put now.
        """
        # Read after the rows were listed: what others store meanwhile is not among them, or its
        # write is known.
        stored = self._store.find_products(list(before), ("write_id",))
        others = []
        for name, rows in before.items():
            ours = put[name]
            keys = {(row.collection, row.id) for row in ours}
            write = stored.get(name, {}).get("write_id")
            is_stored = ours[0].write_id == write
            others += [
                row
                for row in (*rows, *ours)
                if row.write_id != write or (is_stored and (row.collection, row.id) not in keys)
            ]
        self._delete(others)

    def _delete(self, rows: Iterable[StoredRow]) -> None:
        """Delete rows, but none that a later holder of the lease has put."""
        ids: dict[str, list[str]] = {}
        for row in rows:
            if row.version >> COUNTER_BITS <= self._fence:
                ids.setdefault(row.collection, []).append(row.id)
        for name, own in ids.items():
            for start in range(0, len(own), DELETED_AT_ONCE):
                some = own[start : start + DELETED_AT_ONCE]
                self._check()
                with self._connection.errors(f"deleting from {name}"):
                    self._connection.client.delete(
                        name, filter=ids_among(ID, some), timeout=self._connection.seconds
                    )
                self._stored.deleted(name, some)

    def _check(self) -> None:
        self._lease.check()
        if self._lease.fence != self._fence:
            raise ConflictError("the lease was lost and taken again; what it was held for is over")

    def _changed(self, count: int) -> None:
        self._version += count
        self._time = datetime.now(UTC)


def _write_of(rows: Sequence[StoredRow]) -> str:
    """The write that has all these rows, and no others; else empty."""
    one = len({row.version for row in rows}) == 1
    return rows[0].write_id if one and len(rows) == sum(row.rows for row in rows) else ""
