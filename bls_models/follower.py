"""Keeps the product index equal to MongoDB: a full read, then the change stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Set
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pymongo.change_stream import ChangeStream
from pymongo.errors import ConnectionFailure, PyMongoError

from bls_models.bundle import Bundle
from bls_models.errors import DatabaseError, ProductError
from bls_models.filter_columns import Columns
from bls_models.index import IndexedProduct, ProductIndex
from bls_models.metrics import (
    INDEX_FOLLOWING,
    INDEX_LAG_SECONDS,
    INDEX_PRODUCTS,
    INDEX_STALE,
    INDEX_VECTORS,
    INDEX_VERSION,
    NO_METRICS,
    Metrics,
)
from bls_models.store import INDEX_FIELDS, Document, Store
from bls_models.vectors import FloatArray, vector_from_binary

logger = logging.getLogger(__name__)

# Changes applied at a time; more only makes the newest wait for the rest.
MAX_EVENTS = 256
# How long the server may hold a change stream read open when nothing happens.
MAX_AWAIT_MS = 500
RETRY_SECONDS = 1.0


class _StreamEndedError(Exception):
    """The collection itself was changed in a way that events do not describe."""


class IndexFollower:
    """Loads the index and follows the database from a thread of its own.

    A lost change stream is resumed where it broke; one that cannot be resumed leads to a full
    read, during which searches go on with what was there before.
    """

    def __init__(
        self,
        index: ProductIndex,
        store: Store,
        bundle: Bundle,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._index = index
        self._store = store
        self._bundle = bundle
        self._metrics = metrics
        self._followed_at = time.monotonic()
        self._lag_seconds = 0.0
        self._stop = threading.Event()
        self._loaded = threading.Event()
        self._following = False
        self._token: Any = None
        self._stale: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="index-follower", daemon=True)

    @property
    def loaded(self) -> bool:
        """Whether the index has been filled since the start."""
        return self._loaded.is_set()

    def info(self) -> dict[str, Any]:
        """What ``details`` says of the index; ``stale_products`` are stored, not searched."""
        return self._index.info() | {
            "following": self._following,
            "stale_products": len(self._stale),
        }

    def start(self, wait_seconds: float) -> None:
        """Start following; returns when the index is filled, or after ``wait_seconds``."""
        self._thread.start()
        self._loaded.wait(wait_seconds)

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join(timeout=2 * MAX_AWAIT_MS / 1000 + 1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                # Opened before the full read, so that no change falls between the two.
                with self._store.products.watch(
                    resume_after=self._token,
                    max_await_time_ms=MAX_AWAIT_MS,
                    batch_size=MAX_EVENTS,
                ) as stream:
                    if self._token is None:
                        self._load()
                    self._following = True
                    self._follow(stream)
            except (ConnectionFailure, DatabaseError) as error:
                logger.warning("product_index lost the database, trying again: %s", error)
            except (PyMongoError, _StreamEndedError) as error:
                # A token that the server no longer knows, or any other refusal.
                self._token = None
                logger.warning("product_index reads everything again: %s", error)
            except Exception:
                self._token = None
                logger.exception("product_index could not apply changes, reading all again")
            self._following = False
            self._report()
            self._stop.wait(RETRY_SECONDS)

    def _follow(self, stream: ChangeStream[Document]) -> None:
        while not self._stop.is_set() and stream.alive:
            event = stream.try_next()
            events = []
            while event is not None:
                events.append(event)
                event = stream.try_next() if len(events) < MAX_EVENTS else None
            if events:
                self._apply(events)
            # Only now, so that what could not be applied comes again.
            self._token = stream.resume_token
            self._followed_at = time.monotonic()
            self._lag_seconds = max((_age(item) for item in events), default=0.0)
            self._report()

    def _report(self) -> None:
        """Bring the metrics up to date."""
        info, report = self.info(), self._metrics
        report.set(INDEX_PRODUCTS, info["products"])
        report.set(INDEX_VECTORS, info["image_vectors"], "image")
        report.set(INDEX_VECTORS, info["text_vectors"], "text")
        report.set(INDEX_VERSION, info["version"])
        report.set(INDEX_STALE, info["stale_products"])
        report.set(INDEX_FOLLOWING, float(self._following))
        lost = time.monotonic() - self._followed_at
        report.set(INDEX_LAG_SECONDS, self._lag_seconds if self._following else lost)

    # --- full read ------------------------------------------------------------------------

    def _load(self) -> None:
        """Bring the index to what the database holds, page by page."""
        seen: set[str] = set()
        for documents in self._store.iterate_products():
            seen.update(document["_id"] for document in documents)
            self._upsert(documents)
        for product_id in self._index.product_ids() - seen:
            self._index.remove(product_id)
        self._stale &= seen
        self._loaded.set()
        info = self._index.info()
        logger.info(
            "product_index holds %d products, %d image and %d text vectors",
            info["products"],
            info["image_vectors"],
            info["text_vectors"],
        )
        if self._stale:
            logger.warning(
                "%d products carry vectors of another bundle than %s (%s) and are not searched; "
                "compute them anew with `make reembed`",
                len(self._stale),
                self._bundle.name,
                self._bundle.fingerprint,
            )

    # --- changes --------------------------------------------------------------------------

    def _apply(self, events: Iterable[Document]) -> None:
        """Apply events in order; of several for one product only the last counts."""
        latest: dict[str, Document | None] = {}
        by_hand: set[str] = set()
        for event in events:
            kind = event["operationType"]
            if kind in ("insert", "replace"):
                latest[event["documentKey"]["_id"]] = event["fullDocument"]
            elif kind == "delete":
                latest[event["documentKey"]["_id"]] = None
            elif kind in ("drop", "rename", "dropDatabase", "invalidate"):
                raise _StreamEndedError(f"the products collection saw a {kind}")
            elif kind == "update":
                # Not written by this project, but by hand: the document must be read, and its
                # write_id tells nothing of the change.
                product_id = event["documentKey"]["_id"]
                by_hand.add(product_id)
                latest[product_id] = self._store.find_products([product_id]).get(product_id)
        for product_id, document in latest.items():
            if document is None:
                self._index.remove(product_id)
                self._stale.discard(product_id)
        documents = [document for document in latest.values() if document is not None]
        self._upsert(documents, by_hand)

    def _upsert(self, documents: list[Document], by_hand: Set[str] = frozenset()) -> None:
        """Put products into the index with the vectors of the write that stored them.

        Args:
            documents: products as stored.
            by_hand: ids of those that may have changed without a new ``write_id``.
        """
        newer = []
        unchanged = []
        for document in documents:
            write_id = document.get("write_id")
            if write_id is None:
                self._leave_out(document, "it was not written by product_ingest")
            elif document["_id"] in by_hand or write_id != self._index.write_id(document["_id"]):
                newer.append(document)
            else:
                unchanged.append(document)
        self._refresh(unchanged)
        if not newer:
            return
        by_write: dict[str, list[Document]] = {item["write_id"]: [] for item in newer}
        for embedding in self._store.find_embeddings(list(by_write)):
            by_write[embedding["write_id"]].append(embedding)
        products = []
        for document in newer:
            embeddings = by_write[document["write_id"]]
            if not embeddings:
                # A later write has replaced them already; its own event follows.
                continue
            current = [
                item for item in embeddings if item["fingerprint"] == self._bundle.fingerprint
            ]
            if not current:
                self._leave_out(document)
                continue
            fields = self._fields_of(document)
            if fields is None:
                continue
            self._stale.discard(document["_id"])
            products.append(
                IndexedProduct(
                    product_id=document["_id"],
                    write_id=document["write_id"],
                    fields=fields,
                    image_vectors=_stack(current, "image", self._bundle.image_dim),
                    text_vectors=_stack(current, "text", self._bundle.text_dim),
                )
            )
        self._index.upsert(products)

    def _refresh(self, documents: list[Document]) -> None:
        """Take over what may have been changed by hand, without a new ``write_id``."""
        for document in documents:
            fields = self._fields_of(document)
            if fields is not None:
                self._index.refresh(document["_id"], fields)

    def _fields_of(self, document: Document) -> dict[str, Any] | None:
        """What the index keeps of a product; None, and it is left out, if that cannot be kept."""
        fields = {name: document[name] for name in INDEX_FIELDS if name in document}
        try:
            Columns().set(0, fields)
        except ProductError as error:
            self._leave_out(document, str(error))
            return None
        return fields

    def _leave_out(self, document: Document, reason: str = "") -> None:
        """Do not search a product; a reason is for what was put into the database by hand."""
        self._stale.add(document["_id"])
        self._index.remove(document["_id"])
        if reason:
            logger.warning("product %s is not searched: %s", document["_id"], reason)


def _age(event: Document) -> float:
    """Seconds since a change was made, by the database's clock; 0 where it does not say."""
    made: datetime | None = event.get("wallTime")
    return 0.0 if made is None else max(0.0, (datetime.now(UTC) - made).total_seconds())


def _stack(embeddings: list[Document], kind: str, dim: int) -> FloatArray:
    """The vectors of one kind, (n, dim)."""
    vectors = [vector_from_binary(item["vector"]) for item in embeddings if item["kind"] == kind]
    return np.stack(vectors) if vectors else np.zeros((0, dim), np.float32)
