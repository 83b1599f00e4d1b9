"""What Milvus proposes: rows that are probably the nearest of a query's vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from bls_models.milvus.collections import (
    ALONE,
    ID,
    METRIC_TYPE,
    PRODUCT_ID,
    VECTOR,
    VERSION,
    WRITE_ID,
)
from bls_models.milvus.connection import MilvusConnection
from bls_models.vectors import FloatArray

# Of the lists into which Milvus divides a segment, a search looks through so many at first, and
# through one for so many rows that are wanted: of a full segment, a list has some 100 rows.
PROBED_LISTS = 64
ROWS_A_LIST = 8
# As many as Milvus takes for a number; where there are fewer, it looks through all.
ALL_LISTS = 65_536
# No answer of Milvus has more for one vector.
MOST_ROWS = 16_384
# Rows of one call, for all of its vectors.
ROWS_A_CALL = 65_536
# Of a row that no list had, though there is no other: more than any cosine.
UNKNOWN = 1e6
OUTPUT = [ID, PRODUCT_ID, WRITE_ID, VERSION, ALONE]


class FoundRow(NamedTuple):
    """A row of a list.

    Attributes:
        row_id: its key.
        product_id: its product.
        write_id: the write that stored it.
        version: of the product, as that write has it.
        alone: whether the product has no vectors of the other kind.
        cosine: to the vector that was asked for, approximately, or ``UNKNOWN``.
    """

    row_id: str
    product_id: str
    write_id: str
    version: int
    alone: bool
    cosine: float


@dataclass(frozen=True)
class RowList:
    """The rows that are nearest to a vector, as far as Milvus knows.

    Attributes:
        rows: of products that match the filter, nearest first.
        whole: these are all that there are; those of ``UNKNOWN`` cosines stand first.
    """

    rows: Sequence[FoundRow]
    whole: bool


@dataclass(frozen=True)
class WantedList:
    """What a list is to have.

    Attributes:
        collection: where its rows are.
        vector: (dim,).
        count: rows, at most ``MOST_ROWS``.
        expression: what they match; empty: all do.
        thorough: look through all lists.
    """

    collection: str
    vector: FloatArray
    count: int
    expression: str
    thorough: bool


class NearestRows:
    """Asks Milvus, with as few calls as can be; for any thread.

    Args:
        connection: to Milvus.
        consistency: how new what Milvus answers must be, by its own name.
    """

    def __init__(self, connection: MilvusConnection, consistency: str) -> None:
        self._connection = connection
        self._consistency = consistency

    def of(self, wanted: Sequence[WantedList]) -> list[RowList]:
        """The list that each wants.

        One that comes back shorter is asked for again through all lists. If it is still short, that
        may be all there is, or Milvus may not tell all: for some seconds after it has closed a
        segment it searches that by an index of its own choice, few of whose lists it looks through.
        So the rows themselves are asked for.

        Raises:
            IndexUnavailableError: Milvus does not answer.
        """
        found = self._asked(wanted)
        short = [
            number
            for number, (item, rows) in enumerate(zip(wanted, found, strict=True))
            if len(rows) < item.count and not item.thorough
        ]
        again = self._asked([replace(wanted[number], thorough=True) for number in short])
        for number, rows in zip(short, again, strict=True):
            found[number] = rows
        known: dict[tuple[str, str, int], list[FoundRow] | None] = {}
        return [
            self._completed(item, rows, known) for item, rows in zip(wanted, found, strict=True)
        ]

    def _completed(
        self,
        wanted: WantedList,
        rows: list[FoundRow],
        known: dict[tuple[str, str, int], list[FoundRow] | None],
    ) -> RowList:
        """A list with the rows that it lacks, where these are few.

        Args:
            wanted: what was asked for.
            rows: what was found.
            known: what ``_all_rows`` gave before.
        """
        if len(rows) >= wanted.count:
            return RowList(rows, False)
        key = (wanted.collection, wanted.expression, wanted.count)
        if key not in known:
            known[key] = self._all_rows(*key)
        every = known[key]
        if every is None:
            return RowList(rows, False)
        there = {row.row_id for row in rows}
        lacking = [row for row in every if row.row_id not in there]
        return RowList([*lacking, *rows], True)

    def _all_rows(self, collection: str, expression: str, count: int) -> list[FoundRow] | None:
        """All rows of a filter; None if they are so many or more."""
        with self._connection.errors(f"reading {collection}"):
            rows = self._connection.client.query(
                collection,
                expression,
                OUTPUT,
                limit=count,
                consistency_level=self._consistency,
                timeout=self._connection.seconds,
            )
        if len(rows) >= count:
            return None
        return [_row(item, UNKNOWN) for item in rows]

    def _asked(self, wanted: Sequence[WantedList]) -> list[list[FoundRow]]:
        alike: dict[tuple[str, int, str, bool], list[int]] = {}
        for number, item in enumerate(wanted):
            key = (item.collection, item.count, item.expression, item.thorough)
            alike.setdefault(key, []).append(number)
        found: list[list[FoundRow]] = [[] for _ in wanted]
        for numbers in alike.values():
            step = max(1, ROWS_A_CALL // wanted[numbers[0]].count)
            for start in range(0, len(numbers), step):
                some = numbers[start : start + step]
                rows = self._call(wanted[some[0]], [wanted[number].vector for number in some])
                for number, own in zip(some, rows, strict=True):
                    found[number] = own
        return found

    def _call(self, like: WantedList, vectors: Sequence[FloatArray]) -> list[list[FoundRow]]:
        """The rows of each vector; all else is as in ``like``."""
        lists = ALL_LISTS if like.thorough else max(PROBED_LISTS, like.count // ROWS_A_LIST)
        with self._connection.errors(f"searching {like.collection}"):
            answer = self._connection.client.search(
                like.collection,
                data=list(vectors),
                anns_field=VECTOR,
                filter=like.expression,
                limit=like.count,
                output_fields=OUTPUT,
                search_params={"metric_type": METRIC_TYPE, "params": {"nprobe": lists}},
                consistency_level=self._consistency,
                timeout=self._connection.seconds,
            )
        return [[_row(hit["entity"], hit["distance"]) for hit in hits] for hits in answer]


def _row(fields: Mapping[str, Any], cosine: float) -> FoundRow:
    return FoundRow(
        fields[ID], fields[PRODUCT_ID], fields[WRITE_ID], fields[VERSION], fields[ALONE], cosine
    )
