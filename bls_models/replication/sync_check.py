"""Compares the index with the database product by product, and repairs it on request.

A change takes a moment from the database to the index. So what differs is looked at again, and
only what stays the same on both sides for a while counts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bls_models.background import Background
from bls_models.database.store import INDEX_FIELDS, Document, Store
from bls_models.errors import ConflictError, IndexUnavailableError, ProductError
from bls_models.index.engine import WritableIndex
from bls_models.index.filters.language import Scalar
from bls_models.product import stored_revision
from bls_models.replication.product_loader import STRANGE_ID, LeftOut, product_key, write_of

logger = logging.getLogger(__name__)

# What can differ. The first four are mended by reading the product again.
MISSING = "missing"
GONE = "gone"
OTHER_REVISION = "other_revision"
OTHER_FIELDS = "other_fields"
STALE = "stale"
NOT_SEARCHABLE = "not_searchable"
REPAIRABLE = frozenset({MISSING, GONE, OTHER_REVISION, OTHER_FIELDS})

PAGE = 1000
FIELDS = (*INDEX_FIELDS, "revision")
# Differences named in a report; all are counted.
MAX_LISTED = 1000
LASTING_SECONDS = 2.0
# An index that is further behind than this has changes to apply, which are no differences.
MAX_LAG_SECONDS = 1.0
CATCH_UP_SECONDS = 30.0
REPAIR_SECONDS = 120.0
CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Difference:
    """A product of which index and database do not hold the same.

    Attributes:
        kind: ``missing`` in the index; ``gone`` from the database; ``other_revision``: the index
            has another write; ``other_fields``: the same write, changed by hand since; ``stale``:
            vectors of another bundle; ``not_searchable``: put in or damaged by hand.
        revision: in the database, 0 where there is none.
        detail: both sides in words.
    """

    kind: str
    revision: int
    detail: str


STRANGE = Difference(NOT_SEARCHABLE, 0, STRANGE_ID)


class Followed(Protocol):
    """What keeps the index that is checked."""

    @property
    def lag_seconds(self) -> float:
        """How far the index is behind the database; endless while it does not follow."""
        ...

    @property
    def left_out(self) -> Mapping[str, LeftOut]:
        """Stored products that are not searched now, by id."""
        ...

    def reread(self, product_ids: list[str], seconds: float) -> None:
        """Have products read again, and wait for it."""
        ...


class SyncCheck:
    """Runs one check at a time, in a thread of its own.

    Args:
        index: what is checked.
        store: the database.
        follower: keeps the index; it alone may change it.
        lasting_seconds: how long a difference must last to count.
    """

    def __init__(
        self,
        index: WritableIndex,
        store: Store,
        follower: Followed,
        lasting_seconds: float = LASTING_SECONDS,
    ) -> None:
        self._index = index
        self._store = store
        self._follower = follower
        self._lasting_seconds = lasting_seconds
        self._running = threading.Lock()
        self._stop = threading.Event()
        self._thread: Background | None = None

    def start(self, repair: bool, reply: Callable[[dict[str, Any] | Exception], None]) -> None:
        """Check without waiting for it.

        Args:
            repair: have what differs read again.
            reply: gets the report (see ``run``) or what went wrong, in another thread;
                ``ConflictError`` at once if a check is under way.
        """
        if not self._running.acquire(blocking=False):
            reply(ConflictError("a check of the index is under way; try again when it has ended"))
            return

        def work() -> None:
            try:
                outcome: dict[str, Any] | Exception = self.run(repair)
            except Exception as error:
                outcome = error
            finally:
                self._running.release()
            reply(outcome)

        self._thread = Background("sync-check", work)
        self._thread.start()

    def close(self) -> None:
        """Break off a check that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.close(CLOSE_SECONDS)

    def run(self, repair: bool) -> dict[str, Any]:
        """Check, and repair if wanted.

        Returns:
            ``products_in_database``, ``products_in_index``, ``differences`` (how many of each
            kind), ``repaired`` (how many of them do not differ any more), ``under_way`` (changes
            that the index had yet to apply), ``seconds``, and ``products``: the first
            ``MAX_LISTED`` differences with ``product_id``, ``kind``, ``revision``, ``detail`` and
            ``repaired``.

        Raises:
            IndexUnavailableError: the index does not follow the database, or is far behind.
            DatabaseError: the database does not answer in time.
        """
        start = time.monotonic()
        self._wait_for_index()
        stored, strange, first = self._compare_all()
        found = self._lasting(first, strange)
        self._wait_for_index()
        wanted = [key for key, item in found.items() if item.kind in REPAIRABLE]
        left = found
        if repair and wanted:
            self._follower.reread(wanted, REPAIR_SECONDS)
            logger.warning("the index repaired %d products on request", len(wanted))
            left = self._lasting(self._compare(found, strange), strange)
        return {
            "products_in_database": stored,
            "products_in_index": self._index.info()["products"],
            "differences": dict(Counter(item.kind for item in found.values())),
            "repaired": len(found.keys() - left.keys()),
            "under_way": len(first) - len(found),
            "seconds": round(time.monotonic() - start, 3),
            "products": [
                {
                    "product_id": product_id,
                    "kind": item.kind,
                    "revision": item.revision,
                    "detail": item.detail,
                    "repaired": product_id not in left,
                }
                for product_id, item in sorted(found.items())[:MAX_LISTED]
            ],
        }

    def _wait_for_index(self) -> None:
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while (lag := self._follower.lag_seconds) > MAX_LAG_SECONDS:
            if time.monotonic() > deadline:
                where = "does not follow" if lag == float("inf") else f"is {lag:.0f} s behind"
                raise IndexUnavailableError(
                    f"the index {where} the database, so that they cannot be compared; check that "
                    "MongoDB runs, then try again"
                )
            self._pause(0.1)

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise IndexUnavailableError(
                "the check is broken off, as the server stops or its index is replaced; check again"
            )

    def _lasting(
        self, differences: Mapping[str, Difference], strange: Mapping[str, Any]
    ) -> dict[str, Difference]:
        """Those that are still the same after a while."""
        lasting = dict(differences)
        deadline = time.monotonic() + self._lasting_seconds
        while lasting and time.monotonic() < deadline:
            self._pause(self._lasting_seconds / 4)
            now = self._compare(lasting, strange)
            lasting = {key: item for key, item in lasting.items() if now.get(key) == item}
        return lasting

    def _compare_all(self) -> tuple[int, dict[str, Any], dict[str, Difference]]:
        """How many products are stored, and everything that differs at this moment.

        In between the ids that are no strings, by their ``product_key``.
        """
        differences: dict[str, Difference] = {}
        strange: dict[str, Any] = {}
        count = 0
        last: str | None = None
        # Before the database: what is added meanwhile is in both, or found missing and does not
        # last.
        indexed, left_out = self._index.id_ranges(), set(self._follower.left_out)
        for documents in self._store.iterate_products(PAGE, FIELDS):
            self._pause(0)
            count += len(documents)
            page = {product_key(document["_id"]): document for document in documents}
            strange |= {
                key: document["_id"] for key, document in page.items() if key != document["_id"]
            }
            ids = page.keys() - strange.keys()
            if ids:
                gone = set(indexed.between(last, max(ids))) - ids
                last = max(ids)
                differences |= self._differences(gone, {})
            left_out -= page.keys()
            differences |= self._differences(ids, page)
        differences |= dict.fromkeys(strange, STRANGE)
        left_out.update(indexed.between(last, None))
        differences |= self._differences(left_out, {})
        return count, strange, differences

    def _compare(
        self, product_ids: Iterable[str], strange: Mapping[str, Any]
    ) -> dict[str, Difference]:
        """What differs now of some products."""
        ids = list(product_ids)
        known = [strange[key] for key in ids if key in strange]
        differences = {product_key(item): STRANGE for item in self._store.stored_ids(known)}
        ids = [key for key in ids if key not in strange]
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            differences |= self._differences(page, self._store.find_products(page, FIELDS))
        return differences

    def _differences(
        self, product_ids: Iterable[str], stored: Mapping[str, Document]
    ) -> dict[str, Difference]:
        ids, left_out = list(product_ids), self._follower.left_out
        writes = self._index.write_ids(ids)
        # Of what has another write the fields tell nothing.
        same = [
            key
            for key in ids
            if key in writes and key in stored and writes[key] == stored[key].get("write_id")
        ]
        fields = self._index.fields(same)
        found = {
            key: self._difference(
                stored.get(key), writes.get(key), fields.get(key, {}), left_out.get(key)
            )
            for key in ids
        }
        return {key: item for key, item in found.items() if item is not None}

    def _difference(
        self,
        document: Document | None,
        indexed: str | None,
        fields: Mapping[str, Scalar],
        left_out: LeftOut | None,
    ) -> Difference | None:
        held = f"write {indexed}" if indexed else "a part of it"
        if document is None:
            if indexed is None and left_out is None:
                return None
            return Difference(GONE, 0, f"the index has {held}")
        write_id, revision = document.get("write_id"), stored_revision(document)
        if indexed is None:
            if left_out is None or left_out.write_id != write_of(document):
                return Difference(MISSING, revision, f"stored by write {write_id}")
            if left_out.reason:
                return Difference(NOT_SEARCHABLE, revision, left_out.reason)
            detail = f"vectors of bundle {document.get('fingerprint')}; run `make reembed`"
            return Difference(STALE, revision, detail)
        if indexed != write_id:
            detail = f"stored by write {write_id}, the index has {held}"
            return Difference(OTHER_REVISION, revision, detail)
        names = self._other_fields(fields, document)
        if names:
            return Difference(OTHER_FIELDS, revision, f"the index has other {', '.join(names)}")
        return None

    def _other_fields(self, indexed: Mapping[str, Scalar], document: Document) -> list[str]:
        """The fields for filters that the index has other values of."""
        try:
            kept = self._index.kept_fields(document)
        except ProductError as error:
            return [error.tensor]
        return sorted(
            name for name in kept.keys() | indexed.keys() if kept.get(name) != indexed.get(name)
        )
