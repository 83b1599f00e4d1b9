"""What lies in Milvus of products: their rows, by ids, by ranges of ids, and how many there are."""

from __future__ import annotations

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
from bls_models.milvus.filters import EVERYTHING, ids_among, quoted

# Most rows of one answer about a range; Milvus takes 16,384.
RANGE_ROWS = 8192
# Products in one question, and where their fields are wanted: an answer has 64 MB at most.
PRODUCTS = 64
PRODUCTS_WITH_FIELDS = 16


class StoredRow(NamedTuple):
    """A row without its vector.

    Attributes:
        collection: where it lies.
        id: its key.
        write_id: the write that it is of.
        version: of the product as that write was put.
        rows: how many rows the write has in both collections, told by one of them; else 0.
        fields: what filters see; empty where that was not asked for.
    """

    collection: str
    id: str
    write_id: str
    version: int
    rows: int
    fields: Mapping[str, Scalar]


@dataclass(frozen=True)
class RowCounts:
    """How much there is, about: products, and vectors of each kind."""

    products: int
    images: int
    texts: int


class StoredRows:
    """Asks Milvus for rows; it sees all that was written before.

    Args:
        connection: to Milvus.
        collections: where the rows are.
    """

    def __init__(self, connection: MilvusConnection, collections: Collections) -> None:
        self._connection = connection
        self._collections = collections
        self._written: set[str] = set()

    def wrote(self, collection: str) -> None:
        """Tell that something was written to a collection here, by the one who writes to it."""
        self._written.add(collection)

    def of(
        self, product_ids: Sequence[str], with_fields: bool = False
    ) -> dict[str, list[StoredRow]]:
        """All rows of some products, of whatever write, by product; those without are left out.

        Raises:
            IndexUnavailableError: Milvus does not answer in time.
        """
        found: dict[str, list[StoredRow]] = {}
        wanted = [ID, PRODUCT_ID, WRITE_ID, VERSION, ROWS, *([FIELDS] if with_fields else [])]
        step = PRODUCTS_WITH_FIELDS if with_fields else PRODUCTS
        for start in range(0, len(product_ids), step):
            expression = ids_among(PRODUCT_ID, product_ids[start : start + step])
            for name in self._collections.dims:
                for item in self._query(name, expression, wanted):
                    found.setdefault(item[PRODUCT_ID], []).append(
                        StoredRow(
                            name,
                            item[ID],
                            item[WRITE_ID],
                            item[VERSION],
                            item[ROWS],
                            item.get(FIELDS, {}),
                        )
                    )
        return found

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
            # Of the rows of a product's write one tells their number.
            sum(self._count(name, f"{ROWS} > 0") for name in (images, texts)),
            self._count(images, EVERYTHING),
            self._count(texts, EVERYTHING),
        )

    def _ids(self, name: str, after: str | None, last: str | None) -> Iterable[str]:
        """Ids of products in one collection."""
        parts = [] if after is None else [f"{PRODUCT_ID} > {quoted(after)}"]
        if last is not None:
            parts.append(f"{PRODUCT_ID} <= {quoted(last)}")
        expression = " and ".join(parts) or EVERYTHING
        rows = self._query(name, expression, [PRODUCT_ID], limit=RANGE_ROWS)
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
        self, name: str, expression: str, fields: list[str], **options: Any
    ) -> list[dict[str, Any]]:
        # Milvus waits for its next tick where it must be sure that it has everything. In a session
        # it waits only for what this process wrote last, which others wrote before.
        consistency = "Session" if name in self._written else "Strong"
        with self._connection.errors(f"reading rows of {name}"):
            found: Sequence[dict[str, Any]] = self._connection.client.query(
                name,
                expression,
                fields,
                consistency_level=consistency,
                timeout=self._connection.seconds,
                **options,
            )
            return list(found)
