"""What lies in Milvus of products: their rows, by ids, by ranges of ids, and how many there are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bls_models.index.filters.language import Scalar
from bls_models.milvus.collections import (
    FIELDS,
    ID,
    PRODUCT_ID,
    ROWS,
    VERSION,
    WRITE_ID,
    Collections,
)
from bls_models.milvus.connection import MilvusConnection
from bls_models.milvus.filters import ids_among, quoted

# Most rows of one answer about a range; Milvus takes 16,384.
RANGE_ROWS = 8192
# Products in one question, and where their fields are wanted: an answer has 64 MB at most, and
# Milvus looks through all its rows for each.
PRODUCTS = 1000
PRODUCTS_WITH_FIELDS = 250
# Keys of deleted rows that are kept.
MOST_GONE = 10_000
# What others write is seen after this at the latest.
FRESH_SECONDS = 1.0
# Of the rows of a product's write one tells their number. It is a comparison of integers.
FIRST_ROW = f"{ROWS} > 0"


class StoredRow(NamedTuple):
    """A row without its vector and fields.

    Attributes:
        collection: where it lies.
        id: its key.
        write_id: the write that it is of.
        version: of the product as that write was put.
        rows: how many rows the write has in both collections, told by one of them; else 0.
    """

    collection: str
    id: str
    write_id: str
    version: int
    rows: int

    @classmethod
    def read(cls, collection: str, row: Mapping[str, Any]) -> StoredRow:
        """A row as Milvus gives it, or takes it."""
        return cls(collection, row[ID], row[WRITE_ID], row[VERSION], row[ROWS])


@dataclass(frozen=True)
class RowCounts:
    """How much there is, about: products, and vectors of each kind."""

    products: int
    images: int
    texts: int


class StoredRows:
    """Asks Milvus for rows; it sees all that was written here, and soon what others wrote.

    Args:
        connection: to Milvus.
        collections: where the rows are.
    """

    def __init__(self, connection: MilvusConnection, collections: Collections) -> None:
        self._connection = connection
        self._collections = collections
        # Collections to which this process wrote.
        self._written: set[str] = set()
        # By collection, keys of rows that it deleted: Milvus does not say when, so a session may
        # still see them.
        self._gone: dict[str, set[str]] = {name: set() for name in collections.dims}
        # By collection, of when everything was seen last.
        self._seen_at: dict[str, float] = {}

    def not_gone(self, collection: str, ids: Iterable[str]) -> None:
        """Tell that rows are about to be put, perhaps again: they are there from now on."""
        self._gone[collection].difference_update(ids)

    def wrote(self, collection: str) -> None:
        """Tell that rows were put into a collection here, by the one who writes to it."""
        self._written.add(collection)

    def deleted(self, collection: str, ids: Iterable[str]) -> None:
        """Tell that rows were deleted here."""
        self._gone[collection].update(ids)

    def of(self, product_ids: Sequence[str]) -> dict[str, list[StoredRow]]:
        """All rows of some products, of whatever write, by product; those without are left out.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
        """
        found: dict[str, list[StoredRow]] = {}
        wanted = [ID, PRODUCT_ID, WRITE_ID, VERSION, ROWS]
        for start in range(0, len(product_ids), PRODUCTS):
            expression = ids_among(PRODUCT_ID, product_ids[start : start + PRODUCTS])
            for name in self._collections.dims:
                for item in self._query(name, expression, wanted, MOST_GONE):
                    found.setdefault(item[PRODUCT_ID], []).append(StoredRow.read(name, item))
        return found

    def fields(self, product_ids: Sequence[str]) -> dict[str, Mapping[str, Scalar]]:
        """What filters see of some products, by the newest write of each; others are left out.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
        """
        newest: dict[str, tuple[int, Mapping[str, Scalar]]] = {}
        for start in range(0, len(product_ids), PRODUCTS_WITH_FIELDS):
            some = ids_among(PRODUCT_ID, product_ids[start : start + PRODUCTS_WITH_FIELDS])
            for name in self._collections.dims:
                # All rows of a write have the same.
                for item in self._query(
                    name, f"{some} and ({FIRST_ROW})", [PRODUCT_ID, VERSION, FIELDS]
                ):
                    known = newest.get(item[PRODUCT_ID])
                    if known is None or known[0] < item[VERSION]:
                        newest[item[PRODUCT_ID]] = item[VERSION], item[FIELDS]
        return {name: fields for name, (_, fields) in newest.items()}

    def between(self, after: str | None, last: str | None) -> list[str]:
        """Ids of products behind ``after``, up to and with ``last``, in their order.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
        """
        found: set[str] = set()
        for name in self._collections.dims:
            found.update(self._ids(name, after, last))
        return sorted(found)

    def counts(self) -> RowCounts:
        """How much there is, perhaps as of some seconds ago.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
        """
        images, texts = self._collections.images, self._collections.texts
        return RowCounts(
            sum(self._count(name, FIRST_ROW) for name in (images, texts)),
            self._count(images, ""),
            self._count(texts, ""),
        )

    def _ids(self, name: str, after: str | None, last: str | None) -> Iterable[str]:
        """Ids of products in one collection."""
        parts = [] if after is None else [f"{PRODUCT_ID} > {quoted(after)}"]
        if last is not None:
            parts.append(f"{PRODUCT_ID} <= {quoted(last)}")
        rows = self._query(name, " and ".join(parts), [PRODUCT_ID], limit=RANGE_ROWS)
        ids = sorted({row[PRODUCT_ID] for row in rows})
        if len(rows) < RANGE_ROWS:
            return ids
        # Which of the rows were left out is not known: servers differ in their order.
        middle = ids[(len(ids) - 1) // 2]
        return [*self._ids(name, after, middle), *self._ids(name, middle, last)]

    def _count(self, name: str, expression: str) -> int:
        with self._connection.errors(f"counting rows of {name}"):
            answer = self._connection.client.query(
                name, expression, ["count(*)"], timeout=self._connection.seconds
            )
        return int(answer[0]["count(*)"])

    def _query(
        self, name: str, expression: str, fields: list[str], most_gone: int = 0, **options: Any
    ) -> list[dict[str, Any]]:
        """Rows of a collection.

        Args:
            name: the collection.
            expression: which rows.
            fields: what is wanted of them.
            most_gone: how many deleted rows may be told by their keys, which are wanted then: that
                is quicker than to wait until Milvus shows none of them.
            options: further ones of the query.
        """
        # Milvus waits for its next tick, some 0.2 s, where it must be sure that it has everything.
        # In a session it waits only for what this process wrote last, which others wrote before.
        now = time.monotonic()
        gone = self._gone[name]
        if len(gone) > most_gone:
            consistency = "Strong"
        elif name in self._written:
            consistency = "Session"
        elif now - self._seen_at.get(name, float("-inf")) < FRESH_SECONDS:
            consistency = "Bounded"
        else:
            consistency = "Strong"
        with self._connection.errors(f"reading rows of {name}"):
            found: Sequence[dict[str, Any]] = self._connection.client.query(
                name,
                expression,
                fields,
                consistency_level=consistency,
                timeout=self._connection.seconds,
                **options,
            )
        if consistency == "Strong":
            self._seen_at[name] = now
            gone.clear()
        return [row for row in found if row[ID] not in gone] if gone else list(found)
