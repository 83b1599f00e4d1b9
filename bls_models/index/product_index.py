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
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bls_models.errors import SnapshotError
from bls_models.index.answering import Answering
from bls_models.index.asked_query import AskedQuery
from bls_models.index.engine import IdRanges, IndexedProduct, SortedIds
from bls_models.index.filters.columns import Columns, declared_values, save_columns
from bls_models.index.filters.evaluation import FrozenColumns
from bls_models.index.filters.language import Scalar
from bls_models.index.growing_arrays import grown
from bls_models.index.lists.device import device_named
from bls_models.index.options import IndexOptions
from bls_models.index.query import IndexAnswer, IndexMatch, IndexQuery, any_reads_fields
from bls_models.index.scored_query import MAX_WANTED
from bls_models.index.search import FrozenIndex
from bls_models.index.snapshot.files import SnapshotReader, SnapshotWriter
from bls_models.index.snapshot.rows import restore_rows, save_rows
from bls_models.index.storage.frozen_rows import BLOCK_ROWS
from bls_models.index.storage.pages import FrozenPages, PagedArray
from bls_models.index.storage.readers import Readers
from bls_models.index.storage.rows import VectorRows
from bls_models.index.upkeep import IndexUpkeep
from bls_models.index.words.postings import Postings
from bls_models.index.words.shares import FrozenWords
from bls_models.index.words.tokens import product_keys
from bls_models.vectors import FloatArray

# Write of a product that is being put into place.
UNKNOWN_WRITE = ""
# From so many vectors of one kind on, a look at all of them may take tens of milliseconds.
LONG_ROWS = 50_000

DEFAULT_OPTIONS = IndexOptions()


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
        self._columns = Columns(options.max_attribute_keys)
        # Of every product, after what its columns hold (``_keys_of``).
        self._words = Postings()
        self._slots: dict[str, int] = {}
        # By slot. Of a slot without a product they tell the last one, for searches that began
        # when it was there.
        self._ids: list[str] = []
        self._versions = np.zeros(0, np.int64)
        # By slot: the write that is held, None without a product.
        self._write_ids = PagedArray(None, np.object_, self._readers)
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

    def attribute_keys(self) -> tuple[int, int]:
        """How many attribute keys filters can name, and how many are beyond the limit."""
        with self._lock:
            return self._columns.attribute_keys, self._columns.unindexed_keys

    def write_ids(self, product_ids: Sequence[str]) -> dict[str, str]:
        """The writes that the index holds of some products; those not there are left out."""
        with self._lock:
            slots = {name: self._slots[name] for name in product_ids if name in self._slots}
            writes = self._write_ids[np.array(list(slots.values()), np.int32)]
            return {name: write for name, write in zip(slots, writes, strict=True) if write}

    def fields(self, product_ids: Sequence[str]) -> dict[str, dict[str, Scalar]]:
        """What filters see of some products; those not there are left out."""
        with self._lock:
            return {
                name: self._columns.get(self._slots[name])
                for name in product_ids
                if name in self._slots
            }

    def kept_fields(self, document: Mapping[str, Any]) -> dict[str, Scalar]:
        """What filters are to see of a stored product.

        Raises:
            ProductError: a declared field with a value it cannot hold.
        """
        return declared_values(document)

    def product_ids(self) -> set[str]:
        """Ids of all products in the index."""
        with self._readers.reading(
            self._lock, lambda: (self._write_ids.frozen(), len(self._ids))
        ) as (writes, count):
            held = np.flatnonzero(writes.part(0, count) != np.array(None))
            return {self._ids[slot] for slot in held.tolist()}

    def id_ranges(self) -> IdRanges:
        """The ids that are in the index now, to be taken by ranges."""
        return SortedIds(sorted(self.product_ids()))

    def wait_for_lists(self, seconds: float) -> bool:
        """Wait until no candidate lists are being made or changed in the background.

        Returns:
            Whether that is so; False if the time is up.
        """
        return self._upkeep.wait_for_lists(seconds)

    @property
    def has_first_lists(self) -> bool:
        """Whether searches have the candidate lists that so many vectors need to be fast.

        It is also so where the lists could not be made, which the log says.
        """
        return self._upkeep.has_first_lists

    @property
    def vector_bytes(self) -> int:
        """Bytes of all vectors, most of what ``save`` writes."""
        with self._lock:
            return 4 * (len(self._images) * self._image_dim + len(self._texts) * self._text_dim)

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
            RequestError: a query is refused; see ``answers``.
        """
        answers = self.answers(queries, exact)
        for answer in answers:
            if answer.refusal is not None:
                raise answer.refusal
        return [answer.matches for answer in answers]

    def answers(self, queries: Sequence[IndexQuery], exact: bool = False) -> list[IndexAnswer]:
        """What each query finds, or why it is refused: each for itself.

        A filter that is not valid, or takes more than filters may, refuses its query, and so does
        a search that takes more than searches may.

        Args:
            queries: see ``search``.
            exact: see ``search``; there is no limit then.
        """
        asked = [AskedQuery.of(query, self._max_filter_bytes) for query in queries]
        ids = frozenset().union(*(item.ids for item in asked))
        liked: list[list[int]] = []

        def take() -> tuple[FrozenIndex, FrozenColumns]:
            liked.extend(self._slots_of(dict(query.like)) for query in queries)
            columns = self._columns.frozen(frozenset().union(*(item.fields for item in asked)))
            if ids:
                known = ids & self._slots.keys()
                columns = columns.with_ids({name: self._slots[name] for name in known})
            return self._frozen(), columns

        with self._readers.reading(self._lock, take) as (frozen, columns):
            most = None if exact else self._options.max_filter_work
            first: dict[bytes, AskedQuery] = {}
            for item, slots in zip(asked, liked, strict=True):
                if item.refusal is None:
                    same = first.setdefault(item.query.filter, item)
                    if same is item:
                        item.evaluate(columns, frozen.slot_count, most)
                    else:
                        item.evaluate_as(same)
                    item.leave_out(slots, frozen.slot_count)
            return Answering(frozen.exact() if exact else frozen, columns, most).answers(asked)

    def mean_vectors(
        self, product_ids: Sequence[str]
    ) -> list[tuple[FloatArray, FloatArray] | None]:
        """What stands for each of these products in a query.

        Returns:
            The mean of its views (0 or 1, image_dim) and of its texts (0 or 1, text_dim); None for
            a product that is not there.
        """
        slots: dict[str, int] = {}

        def take() -> FrozenIndex:
            slots.update((name, self._slots[name]) for name in product_ids if name in self._slots)
            return self._frozen()

        with self._readers.reading(self._lock, take) as frozen:
            return [
                (frozen.images.mean_of(slots[name]), frozen.texts.mean_of(slots[name]))
                if name in slots
                else None
                for name in product_ids
            ]

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these: a look at fields, or at many vectors."""
        if any_reads_fields(queries):
            return True
        with self._lock:
            rows = max(len(self._images), len(self._texts))
            lists = self._images.main is not None or self._texts.main is not None
        return rows >= LONG_ROWS and any(
            not lists or query.offset + query.top_k > MAX_WANTED for query in queries
        )

    def _slots_of(self, product_ids: Iterable[str]) -> list[int]:
        return [self._slots[name] for name in product_ids if name in self._slots]

    def _frozen(self) -> FrozenIndex:
        """What is there now; nothing of it is given to others while the caller reads."""
        return FrozenIndex(
            self._images.frozen(),
            self._texts.frozen(),
            FrozenWords(self._words.frozen(), len(self._slots)),
            self._ids,
            self._versions,
            len(self._ids),
            self._options.exact_rows,
            self._options.max_search_work,
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

        def take() -> tuple[dict[str, Any], FrozenIndex, FrozenColumns, FrozenPages[np.object_]]:
            header: dict[str, Any] = {
                "image_dim": self._image_dim,
                "text_dim": self._text_dim,
                "version": self._version,
                "time": self._time.isoformat(),
            }
            return header, self._frozen(), self._columns.frozen(), self._write_ids.frozen()

        with self._readers.reading(self._lock, take) as (header, frozen, columns, write_ids):
            snapshot = SnapshotWriter(folder)
            snapshot.lines(
                "products",
                (
                    None if write_id is None else [frozen.ids[begin + at], write_id]
                    for begin in range(0, frozen.slot_count, BLOCK_ROWS)
                    for at, write_id in enumerate(
                        write_ids.part(begin, min(begin + BLOCK_ROWS, frozen.slot_count))
                    )
                ),
            )
            header["image"] = save_rows(snapshot, "image", frozen.images)
            header["text"] = save_rows(snapshot, "text", frozen.texts)
            header["columns"] = save_columns(columns, snapshot)
            snapshot.finish(header)

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
        columns = Columns.restored(header["columns"], snapshot, self._options.max_attribute_keys)
        words = Postings.of(
            (slot, product_keys(item[0], columns.get(slot)))
            for slot, item in enumerate(products)
            if item
        )
        kinds = {}
        for kind, dim in (("image", self._image_dim), ("text", self._text_dim)):
            kinds[kind] = VectorRows(dim, self._readers, self._options.probed_share)
            restore_rows(snapshot, kind, header[kind], kinds[kind], len(products), self._device)
        with self._lock:
            if self._ids:
                raise SnapshotError("only an empty index can be filled from a snapshot")
            self._ids = ["" if item is None else item[0] for item in products]
            self._slots = {item[0]: slot for slot, item in enumerate(products) if item}
            self._write_ids.extend(len(products))
            held = np.array(list(self._slots.values()), np.int32)
            self._write_ids[held] = [products[slot][1] for slot in held]
            self._free = [slot for slot, item in enumerate(products) if item is None]
            self._versions = self._next_product_version + np.arange(len(products), dtype=np.int64)
            self._next_product_version += len(products)
            self._columns, self._words = columns, words
            self._images, self._texts = kinds["image"], kinds["text"]
            self._version = header["version"]
            self._time = datetime.fromisoformat(header["time"])
            self._upkeep.look_after(kinds)
            self._upkeep.changed()

    # --- changes --------------------------------------------------------------------------

    def upsert(self, products: Sequence[IndexedProduct]) -> None:
        """Add products or replace them; each product at most once a call."""
        if not products:
            return
        self._upkeep.wait_for_room()
        with self._lock:
            slots = [self._slot(product.product_id) for product in products]
            places = np.array(slots, np.int32)
            # Known again only when all is in place: what fails half-way must be tried again.
            self._write_ids[places] = UNKNOWN_WRITE
            for slot, product in zip(slots, products, strict=True):
                self._renew(slot, product.fields)
            self._images.replace(slots, [product.image_vectors for product in products])
            self._texts.replace(slots, [product.text_vectors for product in products])
            self._write_ids[places] = [product.write_id for product in products]
            self._changed(len(products))

    def refresh(self, fields: Mapping[str, Mapping[str, Any]]) -> Set[str]:
        """Give products new fields and a new version; one that is not there is no error.

        Args:
            fields: by product id.

        Returns:
            None of them: all keep their vectors.
        """
        with self._lock:
            for product_id, own in fields.items():
                slot = self._slots.get(product_id)
                if slot is not None:
                    self._renew(slot, own)
        return frozenset()

    def remove(self, *product_ids: str) -> None:
        """Take products out; one that is not there is no error."""
        with self._lock:
            for product_id in product_ids:
                slot = self._slots.pop(product_id, None)
                if slot is None:
                    continue
                self._images.replace([slot], [np.zeros((0, self._image_dim), np.float32)])
                self._texts.replace([slot], [np.zeros((0, self._text_dim), np.float32)])
                self._words.replace(slot, self._keys_of(slot), ())
                self._columns.clear(slot)
                self._write_ids[np.array([slot], np.int32)] = None
                self._readers.retire(partial(self._free.append, slot))
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
                self._write_ids.extend(len(self._ids))
            self._slots[product_id] = slot
            self._words.replace(slot, (), self._keys_of(slot))
        return slot

    def _keys_of(self, slot: int) -> list[int]:
        return product_keys(self._ids[slot], self._columns.get(slot))

    def _renew(self, slot: int, fields: Mapping[str, Any]) -> None:
        before = self._keys_of(slot)
        self._columns.set(slot, fields)
        self._words.replace(slot, before, self._keys_of(slot))
        self._versions[slot] = self._next_product_version
        self._next_product_version += 1

    def _changed(self, count: int) -> None:
        self._version += count
        self._time = datetime.now(UTC)
        self._upkeep.changed()
