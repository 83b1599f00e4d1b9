"""The product index: which products match a set of weighted vectors, under a filter.

A product's cosine to a query vector is that of its views together (``index/view_scores.py``), which
is never above that of its best view. The score of a product is the
weighted mean of its cosines to the query's vectors, ``sum(w * cos) / sum(|w|)``, over those
vectors whose modality the product has. ``index/search.py`` finds the best; what is stored, and
how it changes while it is searched, is here and in ``index/storage/rows.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bls_models.errors import SnapshotError
from bls_models.index.filters.columns import Columns
from bls_models.index.filters.language import Scalar, parse_filter
from bls_models.index.growing_arrays import grown
from bls_models.index.lists.device import device_named
from bls_models.index.options import IndexOptions
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.index.search import FrozenIndex
from bls_models.index.snapshot.files import SnapshotReader, SnapshotWriter
from bls_models.index.snapshot.rows import restore_rows, save_rows
from bls_models.index.storage.readers import Readers
from bls_models.index.storage.rows import VectorRows
from bls_models.index.upkeep import IndexUpkeep
from bls_models.vectors import FloatArray

DEFAULT_OPTIONS = IndexOptions()


@dataclass(frozen=True)
class IndexedProduct:
    """What the index keeps of a product.

    Attributes:
        product_id: the product.
        write_id: the write that stored it.
        fields: values that filters can name.
        image_vectors: (views, image_dim).
        text_vectors: (texts, text_dim).
    """

    product_id: str
    write_id: str
    fields: Mapping[str, Any]
    image_vectors: FloatArray
    text_vectors: FloatArray


class ProductIndex:
    """In-memory index; all methods may be called from any thread.

    A search takes what is there when it begins and holds no lock while it computes; changes go on
    meanwhile.

    Args:
        image_dim: length of image vectors.
        text_dim: length of text vectors.
        max_filter_bytes: longest filter JSON.
        options: how to store and search.

    Raises:
        SetupError: the options name a device that is not there.
    """

    def __init__(
        self,
        image_dim: int,
        text_dim: int,
        max_filter_bytes: int,
        options: IndexOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._lock = threading.Lock()
        self._image_dim = image_dim
        self._text_dim = text_dim
        self._max_filter_bytes = max_filter_bytes
        self._options = options
        self._device = device_named(options.device)
        self._readers = Readers()
        self._images = VectorRows(image_dim, self._readers, options.probed_share)
        self._texts = VectorRows(text_dim, self._readers, options.probed_share)
        self._upkeep = IndexUpkeep(self._lock, self._readers, options.flat_rows, self._device)
        self._upkeep.look_after({"image": self._images, "text": self._texts})
        self._columns = Columns()
        self._slots: dict[str, int] = {}
        # By slot. Of a slot without a product they tell the last one, for searches that began
        # when it was there.
        self._ids: list[str] = []
        self._versions = np.zeros(0, np.int64)
        self._write_ids: dict[str, str] = {}
        # No two runs of the index give out the same numbers.
        self._next_product_version = time.time_ns()
        self._free: list[int] = []
        self._version = 0
        self._time = datetime.now(UTC)

    def info(self) -> dict[str, Any]:
        """Version (changes applied), time of the last one, sizes, and the types of index.

        ``type`` is FAISS's name, or an object with ``image`` and ``text`` where they differ.
        """
        with self._lock:
            types = {"image": self._images.type, "text": self._texts.type}
            return {
                "version": self._version,
                "time": self._time.isoformat(),
                "products": len(self._slots),
                "image_vectors": len(self._images),
                "text_vectors": len(self._texts),
                "type": types if types["image"] != types["text"] else types["image"],
            }

    def write_id(self, product_id: str) -> str | None:
        """The write that the index holds of a product, None if it is not there."""
        with self._lock:
            return self._write_ids.get(product_id)

    def fields(self, product_id: str) -> dict[str, Scalar]:
        """What filters see of a product; empty if it is not there."""
        with self._lock:
            slot = self._slots.get(product_id)
            return {} if slot is None else self._columns.get(slot)

    def product_ids(self) -> set[str]:
        """Ids of all products in the index."""
        with self._lock:
            return set(self._slots)

    def wait_for_lists(self, seconds: float) -> bool:
        """Wait until no candidate lists are being made or changed in the background.

        Returns:
            Whether that is so; False if the time is up.
        """
        return self._upkeep.wait_for_lists(seconds)

    def close(self) -> None:
        """End what runs in the background."""
        self._upkeep.stop()

    # --- search ---------------------------------------------------------------------------

    def search(self, queries: Sequence[IndexQuery], exact: bool = False) -> list[list[IndexMatch]]:
        """The best products of each query, best first.

        Args:
            queries: what is wanted.
            exact: score every product, whatever it takes: what approximate answers are measured
                against.

        Raises:
            FilterError: a filter is not valid.
        """
        filters = [
            parse_filter(query.filter, self._max_filter_bytes) if query.filter else None
            for query in queries
        ]
        with self._lock:
            reader, frozen = self._readers.begin(), self._frozen()
            eligible = [
                None if condition is None else self._columns.evaluate(condition, frozen.slot_count)
                for condition in filters
            ]
        try:
            return (frozen.exact() if exact else frozen).search(queries, eligible)
        finally:
            with self._lock:
                self._readers.end(reader)

    def _frozen(self) -> FrozenIndex:
        """What is there now; nothing of it is given to others while the caller reads."""
        return FrozenIndex(
            self._images.frozen(),
            self._texts.frozen(),
            self._ids,
            self._versions,
            len(self._ids),
            self._options.exact_rows,
        )

    # --- snapshots ------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the products as they are at one moment; searches and changes go on meanwhile.

        Args:
            folder: where the files go; made if it is not there. It is a snapshot only when this
                returns: the caller gives it its name then.

        Raises:
            OSError: the files cannot be written.
        """
        with self._lock:
            header: dict[str, Any] = {
                "image_dim": self._image_dim,
                "text_dim": self._text_dim,
                "version": self._version,
                "time": self._time.isoformat(),
            }
            slots, write_ids = dict(self._slots), dict(self._write_ids)
            columns = self._columns.to_save()
            reader, frozen = self._readers.begin(), self._frozen()
        try:
            snapshot = SnapshotWriter(folder)
            by_slot = {slot: product_id for product_id, slot in slots.items()}
            products = map(by_slot.get, range(frozen.slot_count))
            snapshot.lines(
                "products",
                (None if item is None else [item, write_ids.get(item)] for item in products),
            )
            header["image"] = save_rows(snapshot, "image", frozen.images)
            header["text"] = save_rows(snapshot, "text", frozen.texts)
            header["columns"] = columns.save(snapshot)
            snapshot.finish(header)
        finally:
            with self._lock:
                self._readers.end(reader)

    def restore(self, folder: Path) -> None:
        """Fill this empty index with what ``save`` wrote.

        Every product gets a new version: what was given out after the snapshot is not known.

        Raises:
            SnapshotError: files are missing or damaged, or hold vectors of other lengths. The
                index is still empty then.
        """
        snapshot = SnapshotReader(folder)
        header = snapshot.header
        for name, dim in (("image_dim", self._image_dim), ("text_dim", self._text_dim)):
            if header.get(name) != dim:
                raise SnapshotError(f"{folder} has {name} {header.get(name)}, expected {dim}")
        products = snapshot.lines("products")
        columns = Columns.restored(header["columns"], snapshot)
        kinds = {}
        for kind, dim in (("image", self._image_dim), ("text", self._text_dim)):
            kinds[kind] = VectorRows(dim, self._readers, self._options.probed_share)
            restore_rows(snapshot, kind, header[kind], kinds[kind], len(products), self._device)
        with self._lock:
            if self._ids:
                raise SnapshotError("only an empty index can be filled from a snapshot")
            self._ids = ["" if item is None else item[0] for item in products]
            self._slots = {item[0]: slot for slot, item in enumerate(products) if item}
            self._write_ids = {item[0]: item[1] for item in products if item and item[1]}
            self._free = [slot for slot, item in enumerate(products) if item is None]
            self._versions = self._next_product_version + np.arange(len(products), dtype=np.int64)
            self._next_product_version += len(products)
            self._columns, self._images, self._texts = columns, kinds["image"], kinds["text"]
            self._version = header["version"]
            self._time = datetime.fromisoformat(header["time"])
            self._upkeep.look_after(kinds)
            self._upkeep.changed()

    # --- changes --------------------------------------------------------------------------

    def upsert(self, products: Sequence[IndexedProduct]) -> None:
        """Add products or replace them; each product at most once a call."""
        if not products:
            return
        with self._lock:
            for product in products:
                # Known again only when all is in place: what fails half-way must be tried again.
                self._write_ids.pop(product.product_id, None)
            slots = [self._slot(product.product_id) for product in products]
            for slot, product in zip(slots, products, strict=True):
                self._columns.set(slot, product.fields)
                self._renew(slot)
            self._images.replace(slots, [product.image_vectors for product in products])
            self._texts.replace(slots, [product.text_vectors for product in products])
            for product in products:
                self._write_ids[product.product_id] = product.write_id
            self._changed(len(products))

    def refresh(self, product_id: str, fields: Mapping[str, Any]) -> None:
        """Give a product new fields and a new version; one that is not there is no error."""
        with self._lock:
            slot = self._slots.get(product_id)
            if slot is not None:
                self._columns.set(slot, fields)
                self._renew(slot)

    def remove(self, product_id: str) -> None:
        """Take a product out; one that is not there is no error."""
        with self._lock:
            slot = self._slots.pop(product_id, None)
            if slot is None:
                return
            self._images.replace([slot], [np.zeros((0, self._image_dim), np.float32)])
            self._texts.replace([slot], [np.zeros((0, self._text_dim), np.float32)])
            self._columns.clear(slot)
            self._write_ids.pop(product_id, None)
            self._readers.retire(lambda: self._free.append(slot))
            self._changed(1)

    def _slot(self, product_id: str) -> int:
        slot = self._slots.get(product_id)
        if slot is None:
            if self._free:
                slot = self._free.pop()
                self._ids[slot] = product_id
            else:
                slot = len(self._ids)
                self._ids.append(product_id)
                self._versions = grown(self._versions, len(self._ids), 0)
            self._slots[product_id] = slot
        return slot

    def _renew(self, slot: int) -> None:
        self._versions[slot] = self._next_product_version
        self._next_product_version += 1

    def _changed(self, count: int) -> None:
        self._version += count
        self._time = datetime.now(UTC)
        self._upkeep.changed()
