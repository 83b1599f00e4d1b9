"""Changes of a catalogue at a fixed rate, and how soon searches see them.

They are written as ``product_ingest`` writes them (vectors, then the product, then the old vectors'
removal), but with vectors that were made before: encoding would take the CPU that is measured.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from bls_models.database.store import Document, Replacement, Store
from bls_models.vectors import FloatArray, binary_from_vector

KINDS = ("new price", "new text", "new picture", "new product", "delete")
CATEGORY = "live"
# Changes are written in batches of so many seconds, as an import's requests arrive in batches.
BATCH_SECONDS = 0.05
# A machine that is busy with matches lets the writer fall behind that far, at most.
MAX_BATCH_SECONDS = 1.0
# Of each batch that many changes are waited for.
PROBES = 1
PROBE_THREADS = 4
PROBE_SECONDS = 0.005
PROBE_TIMEOUT_SECONDS = 60.0

# Whether a search finds a product with at least that change: (product id, number).
Sees = Callable[[str, int], bool]


@dataclass(frozen=True)
class Change:
    """One change that the database has acknowledged.

    Attributes:
        kind: one of ``KINDS``.
        product_id: the product.
        number: of the change, stored in the product's attribute ``change``; of a deleted product
            that of its last one.
        written_at: when it was acknowledged (``time.perf_counter``).
    """

    kind: str
    product_id: str
    number: int
    written_at: float


class Catalogue:
    """Products that only this object writes.

    Args:
        store: the database.
        fingerprint: the bundle's.
        images: vectors (n, image_dim) to choose from.
        texts: vectors (m, text_dim) to choose from.
    """

    def __init__(
        self, store: Store, fingerprint: str, images: FloatArray, texts: FloatArray
    ) -> None:
        self._store = store
        self._fingerprint = fingerprint
        self._images = [binary_from_vector(vector) for vector in images]
        self._texts = [binary_from_vector(vector) for vector in texts]
        self._random = np.random.default_rng(0)
        self._numbers = itertools.count(1)
        self._prefix = f"live-{uuid.uuid4().hex[:8]}"
        self._kinds = itertools.cycle(KINDS)
        self._turns: deque[str] = deque()
        self._products: dict[str, Document] = {}
        self._vectors: dict[str, tuple[bytes, bytes]] = {}

    def add(self, count: int) -> list[Change]:
        """Write new products."""
        return self._write(["new product"] * count)

    def change(self, count: int, keep: Container[str] = ()) -> list[Change]:
        """Write changes of all kinds in turn, to fewer products than there are.

        Args:
            count: how many.
            keep: products that are not deleted, because somebody waits to see them.
        """
        return self._write([next(self._kinds) for _ in range(count)], keep)

    def _write(self, kinds: Sequence[str], keep: Container[str] = ()) -> list[Change]:
        """Write a batch, in one round trip for each of the steps."""
        embeddings: list[Document] = []
        replacements = []
        removed: list[str] = []
        deleted = []
        planned = []
        for kind in kinds:
            number = next(self._numbers)
            if kind == "new product":
                product_id, stored = f"{self._prefix}-{number}", None
            else:
                # Whatever was not changed for the longest time.
                product_id = next(key for key in self._turns if kind != "delete" or key not in keep)
                self._turns.remove(product_id)
                stored = self._products[product_id]
                removed.append(stored["write_id"])
            if kind == "delete":
                assert stored is not None
                number = stored["attributes"]["change"]
                deleted.append(product_id)
            else:
                document = self._document(product_id, stored, number)
                embeddings += self._embeddings(kind, document)
                replacements.append(Replacement(document, stored))
            planned.append((kind, product_id, number))
            if kind != "delete":
                self._turns.append(product_id)
        self._store.insert_embeddings(embeddings)
        if replacements:
            conflicts = self._store.replace_products(replacements)
            assert not conflicts, f"somebody else writes {conflicts}"
        if deleted:
            self._store.products.delete_many({"_id": {"$in": deleted}})
        written_at = time.perf_counter()
        self._store.delete_embeddings(removed)
        self._products |= {item.document["_id"]: item.document for item in replacements}
        for product_id in deleted:
            del self._products[product_id], self._vectors[product_id]
        return [Change(*item, written_at) for item in planned]

    def _document(self, product_id: str, stored: Document | None, number: int) -> Document:
        now = datetime.now(UTC)
        return {
            "_id": product_id,
            "name": f"Product {product_id}",
            "category": CATEGORY,
            "price": float(self._random.integers(1, 10_000)) / 100,
            "currency": "EUR",
            "attributes": {"change": number},
            "images": [],
            "created": stored["created"] if stored else now,
            "updated": now,
            "revision": stored["revision"] + 1 if stored else 1,
            "fingerprint": self._fingerprint,
            "content_hash": uuid.uuid4().hex,
            "write_id": uuid.uuid4().hex,
        }

    def _embeddings(self, kind: str, document: Document) -> list[Document]:
        image, text = self._vectors.get(document["_id"], (None, None))
        if image is None or kind == "new picture":
            image = self._images[self._random.integers(len(self._images))]
        if text is None or kind == "new text":
            text = self._texts[self._random.integers(len(self._texts))]
        self._vectors[document["_id"]] = image, text
        common = {
            "product_id": document["_id"],
            "write_id": document["write_id"],
            "revision": document["revision"],
            "fingerprint": self._fingerprint,
        }
        write_id = document["write_id"]
        return [
            common | {"_id": f"{write_id}:text", "kind": "text", "vector": text},
            common | {"_id": f"{write_id}:image:0", "kind": "image", "vector": image},
        ]


@dataclass
class ChangesResult:
    """What a run of changes gave.

    Attributes:
        seconds: its length.
        cpu_ms: of this process, milliseconds.
        made: changes by kind.
        visible_ms: from a change's acknowledgement to the first search that sees it, by kind.
    """

    seconds: float = 0.0
    cpu_ms: float = 0.0
    made: Counter[str] = field(default_factory=Counter)
    visible_ms: dict[str, list[float]] = field(default_factory=dict)


class PacedChanges:
    """Makes changes from a thread of its own until it is closed.

    Args:
        catalogue: what is changed.
        rate: changes a second.
        sees: asks the index; called from several threads.
        threads: so many, each of which waits for one change.
    """

    def __init__(
        self, catalogue: Catalogue, rate: float, sees: Sees, threads: int = PROBE_THREADS
    ) -> None:
        self._catalogue = catalogue
        self._rate = rate
        self._sees = sees
        self._result = ChangesResult()
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._probes = ThreadPoolExecutor(threads)
        self._waiting: list[tuple[Change, Future[float]]] = []
        self._probed: Counter[str] = Counter()
        self._cpu_start = time.process_time()
        self._start = time.perf_counter()
        self._thread = threading.Thread(target=self._run, name="changes")
        self._thread.start()

    @property
    def seen(self) -> Counter[str]:
        """How many changes of each kind have been waited for, and seen, so far."""
        return Counter(
            change.kind
            for change, probe in list(self._waiting)
            if probe.done() and probe.exception() is None
        )

    def close(self) -> ChangesResult:
        """Stop and wait until the last change is seen.

        Raises:
            Exception: a write failed, or a change was not seen for ``PROBE_TIMEOUT_SECONDS``.
        """
        self._stop.set()
        try:
            self._thread.join()
            if self._error is not None:
                raise self._error
            self._result.seconds = time.perf_counter() - self._start
            self._result.cpu_ms = (time.process_time() - self._cpu_start) * 1e3
            for change, probe in self._waiting:
                self._result.visible_ms.setdefault(change.kind, []).append(probe.result())
        finally:
            self._probes.shutdown()
        return self._result

    def _run(self) -> None:
        made = 0
        try:
            while not self._stop.wait(BATCH_SECONDS):
                due = int(self._rate * (time.perf_counter() - self._start)) - made
                # After a stall the rate is lower, not the batch endless.
                due = min(due, int(self._rate * MAX_BATCH_SECONDS) + 1)
                if due < 1:
                    continue
                changes = self._catalogue.change(due, self._unseen())
                made += due
                self._result.made.update(item.kind for item in changes)
                for change in self._chosen(changes):
                    probe = self._probes.submit(self._visible_ms, change)
                    self._waiting.append((change, probe))
        except Exception as error:
            self._error = error

    def _unseen(self) -> set[str]:
        """The products that are waited for; one that is deleted first would never be seen."""
        return {change.product_id for change, probe in self._waiting if not probe.done()}

    def _chosen(self, changes: Sequence[Change]) -> list[Change]:
        """Some of a batch, of the kinds that were waited for the least so far."""
        left = list(changes)
        chosen: list[Change] = []
        while left and len(chosen) < PROBES:
            change = min(left, key=lambda item: self._probed[item.kind])
            left.remove(change)
            self._probed[change.kind] += 1
            chosen.append(change)
        return chosen

    def _visible_ms(self, change: Change) -> float:
        gone = change.kind == "delete"
        while self._sees(change.product_id, change.number) == gone:
            if time.perf_counter() - change.written_at > PROBE_TIMEOUT_SECONDS:
                raise TimeoutError(f"{change} was not seen in {PROBE_TIMEOUT_SECONDS:.0f} s")
            time.sleep(PROBE_SECONDS)
        return (time.perf_counter() - change.written_at) * 1e3
