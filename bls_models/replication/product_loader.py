"""Puts stored products into the index: all of them, those that changed, or some by their ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import pymongo

from bls_models.bundle import Bundle
from bls_models.database.change_stream import StreamEndedError
from bls_models.database.embeddings import stored_vectors
from bls_models.database.store import INDEX_FIELDS, PAGE_SECONDS, Document, Store
from bls_models.errors import ProductError
from bls_models.index.engine import IndexedProduct, WritableIndex
from bls_models.metric.metric import Metric

logger = logging.getLogger(__name__)

# How often products are read again that others write while they are read; their events follow.
READ_ATTEMPTS = 3
STRANGE_ID = "its id is not a string"

# What takes the place of a document that must be read from the database.
_UNREAD: Document = {}


@dataclass(frozen=True)
class LeftOut:
    """A stored product that is not searched.

    Attributes:
        write_id: the write that stored it, None if it was not written by ``product_ingest``.
        reason: what is wrong with it; empty: it has vectors of another bundle.
    """

    write_id: str | None
    reason: str


class ProductLoader:
    """Brings the index to what the database holds; to be used from one thread.

    Args:
        index: what is filled.
        store: where products and their vectors are read.
        bundle: whose vectors are searched.
        metric: what image vectors become in the index; None: they stay as they are.
    """

    def __init__(
        self, index: WritableIndex, store: Store, bundle: Bundle, metric: Metric | None = None
    ) -> None:
        self._index = index
        self._store = store
        self._bundle = bundle
        self._metric = metric
        self._left_out: dict[str, LeftOut] = {}

    @property
    def left_out(self) -> dict[str, LeftOut]:
        """Stored products that are not searched, by id; it changes with the index."""
        return self._left_out

    def restore(self, left_out: Mapping[str, LeftOut]) -> None:
        """Take over what a snapshot of the index left out."""
        self._left_out = dict(left_out)

    def load_all(self, taken: Callable[[int], None]) -> None:
        """Bring the index to what the database holds, page by page.

        Products that the index has in their present write keep their vectors.

        Args:
            taken: called after each page, with the number of products taken so far; what it raises
                ends the reading.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        count = 0
        last: str | None = None
        stored: set[str] = set()
        held = self._index.id_ranges()
        for documents in self._store.iterate_products():
            ids = [item["_id"] for item in documents if isinstance(item["_id"], str)]
            if ids:
                self._index.remove(*(set(held.between(last, ids[-1])) - set(ids)))
                last = ids[-1]
            # A page of many pictures may take longer than a request may wait.
            with pymongo.timeout(PAGE_SECONDS):
                self._put(documents)
            stored |= self._left_out.keys() & {product_key(item["_id"]) for item in documents}
            count += len(documents)
            taken(count)
        self._index.remove(*held.between(last, None))
        for product_id in self._left_out.keys() - stored:
            del self._left_out[product_id]
        info = self._index.info()
        logger.info(
            "the index holds %d products, %d image and %d text vectors",
            info["products"],
            info["image_vectors"],
            info["text_vectors"],
        )
        stale = sum(not item.reason for item in self._left_out.values())
        if stale:
            logger.warning(
                "%d products carry vectors of another bundle than %s (%s) and are not searched; "
                "compute them anew with `make reembed`",
                stale,
                self._bundle.name,
                self._bundle.fingerprint,
            )

    def apply(self, events: Iterable[Document]) -> None:
        """Apply change events in order; of several for one product only the last counts.

        Raises:
            DatabaseError: the database does not answer in time.
            StreamEndedError: a change concerned the whole collection.
        """
        latest: dict[str, Document | None] = {}
        for event in events:
            kind = event["operationType"]
            if kind in ("drop", "rename", "dropDatabase", "invalidate"):
                raise StreamEndedError(f"the products collection saw a {kind}")
            if kind not in ("insert", "replace", "update", "delete"):
                continue
            product_id = event["documentKey"]["_id"]
            if not isinstance(product_id, str):
                if kind == "delete":
                    self._left_out.pop(product_key(product_id), None)
                else:
                    self._leave_out({"_id": product_id}, STRANGE_ID)
            elif kind == "delete":
                latest[product_id] = None
            else:
                # An update is not of this project's writing: it was made by hand.
                latest[product_id] = event["fullDocument"] if kind != "update" else _UNREAD
        by_hand = {key for key, document in latest.items() if document is _UNREAD}
        self._remove(*(key for key, document in latest.items() if document is None))
        self._put([document for document in latest.values() if document])
        self.reread(by_hand)

    def reread(self, product_ids: Iterable[str]) -> None:
        """Bring some products to what the database holds now, whatever the index has of them.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        wanted = list(product_ids)
        for start in range(0, len(wanted), self._store.PAGE):
            page = wanted[start : start + self._store.PAGE]
            found = self._store.find_products(page, INDEX_FIELDS)
            self._remove(*(key for key in page if key not in found))
            self._put(list(found.values()), set(found))

    def _remove(self, *product_ids: str) -> None:
        self._index.remove(*product_ids)
        for product_id in product_ids:
            self._left_out.pop(product_id, None)

    def _put(self, documents: list[Document], anew: Set[str] = frozenset()) -> None:
        """Put products into the index with the vectors of the write that stored them.

        Args:
            documents: products as stored.
            anew: ids of those whose vectors are read again though the index has that write:
                what was changed by hand has no new ``write_id``.
        """
        for start in range(0, len(documents), self._store.PAGE):
            self._put_page(documents[start : start + self._store.PAGE], anew)

    def _put_page(self, documents: list[Document], anew: Set[str]) -> None:
        for _ in range(READ_ATTEMPTS):
            without = self._put_once(documents, anew)
            if not without:
                return
            # Vectors are stored before their product and removed after the next write or delete.
            found = self._store.find_products(list(without), INDEX_FIELDS)
            documents = []
            for product_id, write_id in without.items():
                document = found.get(product_id)
                if document is None:
                    self._remove(product_id)
                elif document.get("write_id") == write_id:
                    self._leave_out(
                        document, "its vectors are not stored; send the product again, or reembed"
                    )
                else:
                    documents.append(document)

    def _put_once(self, documents: list[Document], anew: Set[str]) -> dict[str, str]:
        """Put products into the index.

        Returns:
            The ``write_id`` of each product whose vectors were not there, by its id.
        """
        newer = []
        known: dict[str, dict[str, Any]] = {}
        by_id = {item["_id"]: item for item in documents}
        held = self._index.write_ids([item for item in by_id if isinstance(item, str)])
        for document in documents:
            write_id = document.get("write_id")
            if not isinstance(document["_id"], str):
                self._leave_out(document, STRANGE_ID)
            elif not isinstance(write_id, str):
                self._leave_out(document, "it was not written by product_ingest")
            elif document["_id"] in anew or write_id != held.get(document["_id"]):
                newer.append(document)
            elif (fields := self._fields_of(document)) is not None:
                known[document["_id"]] = fields
        newer += [by_id[product_id] for product_id in self._index.refresh(known)]
        if not newer:
            return {}
        by_write: dict[str, list[Document]] = {item["write_id"]: [] for item in newer}
        for embedding in self._store.find_embeddings(list(by_write)):
            by_write[embedding["write_id"]].append(embedding)
        products = []
        without = {}
        for document in newer:
            embeddings = by_write[document["write_id"]]
            if not embeddings:
                without[document["_id"]] = document["write_id"]
                continue
            product = self._indexed(document, embeddings)
            if product is not None:
                self._left_out.pop(document["_id"], None)
                products.append(product)
        self._index.upsert(products)
        return without

    def _indexed(self, document: Document, embeddings: list[Document]) -> IndexedProduct | None:
        """What the index keeps of a product; None where it cannot be searched."""
        try:
            vectors = stored_vectors(embeddings, self._bundle)
        except ValueError as error:
            self._leave_out(document, f"a stored vector is damaged ({error}); reembed it")
            return None
        if vectors is None:
            self._leave_out(document)
            return None
        fields = self._fields_of(document)
        if fields is None:
            return None
        images = vectors.images
        return IndexedProduct(
            product_id=document["_id"],
            write_id=document["write_id"],
            fields=fields,
            image_vectors=images if self._metric is None else self._metric.rows(images),
            text_vectors=vectors.texts,
        )

    def _fields_of(self, document: Document) -> dict[str, Any] | None:
        """What the index keeps of a product; None, and it is left out, if that cannot be kept."""
        fields = {name: document[name] for name in INDEX_FIELDS if name in document}
        try:
            self._index.kept_fields(document)
        except ProductError as error:
            self._leave_out(document, str(error))
            return None
        return fields

    def _leave_out(self, document: Document, reason: str = "") -> None:
        """Do not search a product; a reason is for what was put into the database by hand."""
        product_id = product_key(document["_id"])
        item = LeftOut(write_of(document), reason)
        self._index.remove(product_id)
        if reason and self._left_out.get(product_id) != item:
            logger.warning("product %s is not searched: %s", product_id, reason)
        self._left_out[product_id] = item


def write_of(document: Document) -> str | None:
    """The write that stored a product, None if ``product_ingest`` did not."""
    write_id = document.get("write_id")
    return write_id if isinstance(write_id, str) else None


def product_key(product_id: object) -> str:
    """A product's id; a name for one that is no string, as one that was stored by hand may have."""
    if isinstance(product_id, str):
        return product_id
    return f"{type(product_id).__name__} {product_id!r}"
