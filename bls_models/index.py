"""The product index: which products match a set of weighted vectors, under a filter.

A product's cosine to a query vector is that of its best view. The score of a product is the
weighted mean of its cosines to the query's vectors, ``sum(w * cos) / sum(|w|)``, over those
vectors whose modality the product has. FAISS proposes candidates for each vector; they are then
scored exactly, and the search goes deeper until no other product can be better.
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
import numpy.typing as npt

from bls_models.errors import SnapshotError
from bls_models.filter_columns import Columns
from bls_models.filters import Node, parse_filter
from bls_models.index_snapshot import SnapshotReader, SnapshotWriter
from bls_models.vector_rows import DEAD, BoolArray, IntArray, VectorRows
from bls_models.vectors import FloatArray

# Candidate rows a vector at first, and at least four a wanted match, so that several views of one
# product leave enough; each round that does not suffice takes this times more.
FIRST_CANDIDATES = 16
GROWTH = 8
# Beyond this number, or this share of the products, scoring every eligible product at once is the
# cheaper way.
MAX_CANDIDATES = 4096
MAX_CANDIDATE_SHARE = 0.25
# Cosines that differ by less are equal: FAISS and the scoring here round differently.
SCORE_DECIMALS = 6
ROUNDING = 10.0**-SCORE_DECIMALS


@dataclass(frozen=True)
class IndexQuery:
    """One query: vectors with weights, and which part of the ranking is wanted.

    Attributes:
        image_vectors: (n, image_dim) FP32, L2-normalised.
        image_weights: (n,) FP32, any sign.
        text_vectors: (m, text_dim) FP32, L2-normalised.
        text_weights: (m,) FP32, any sign.
        top_k: matches wanted.
        offset: matches to skip.
        min_score: least score of a match.
        filter: filter JSON; empty for none.
    """

    image_vectors: FloatArray
    image_weights: FloatArray
    text_vectors: FloatArray
    text_weights: FloatArray
    top_k: int
    offset: int = 0
    min_score: float = float("-inf")
    filter: bytes = b""


@dataclass(frozen=True)
class IndexMatch:
    """One product that matches; a score is NaN where the modality takes no part.

    Attributes:
        product_id: the product.
        product_version: another number after each change of the product, also across restarts.
        score: weighted mean of the cosines.
        image_score: that of the image vectors alone.
        text_score: that of the text vectors alone.
    """

    product_id: str
    product_version: int
    score: float
    image_score: float
    text_score: float


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


@dataclass(frozen=True)
class _Modality:
    """The part of a query that concerns images, or texts, and the vectors it searches."""

    rows: VectorRows
    vectors: FloatArray
    weights: npt.NDArray[np.float64]

    @property
    def total(self) -> float:
        return float(np.abs(self.weights).sum())

    @classmethod
    def of(cls, rows: VectorRows, vectors: FloatArray, weights: FloatArray) -> _Modality:
        """Double precision, because weights may be as large or small as float32 goes."""
        return cls(rows, vectors, weights.astype(np.float64))

    def bound(self, last_scores: FloatArray) -> float:
        """The best mean of a product outside the lists that end at these cosines (n,)."""
        if np.isneginf(last_scores).any():
            # The list holds every product of this modality.
            return float("-inf")
        return float(self.weights @ last_scores) / self.total


class ProductIndex:
    """In-memory index; all methods may be called from any thread."""

    def __init__(self, image_dim: int, text_dim: int, max_filter_bytes: int) -> None:
        self._lock = threading.Lock()
        self._image_dim = image_dim
        self._text_dim = text_dim
        self._max_filter_bytes = max_filter_bytes
        self._images = VectorRows(image_dim)
        self._texts = VectorRows(text_dim)
        self._columns = Columns()
        self._slots: dict[str, int] = {}
        self._ids: list[str | None] = []
        self._write_ids: dict[str, str] = {}
        self._product_versions: dict[str, int] = {}
        # No two runs of the index give out the same numbers.
        self._next_product_version = time.time_ns()
        self._free: list[int] = []
        self._version = 0
        self._time = datetime.now(UTC)

    def info(self) -> dict[str, Any]:
        """Version (changes applied), time of the last one, and sizes."""
        with self._lock:
            return {
                "version": self._version,
                "time": self._time.isoformat(),
                "products": len(self._slots),
                "image_vectors": len(self._images),
                "text_vectors": len(self._texts),
                "type": "Flat",
            }

    def write_id(self, product_id: str) -> str | None:
        """The write that the index holds of a product, None if it is not there."""
        with self._lock:
            return self._write_ids.get(product_id)

    def product_ids(self) -> set[str]:
        """Ids of all products in the index."""
        with self._lock:
            return set(self._slots)

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
            header = {
                "image_dim": self._image_dim,
                "text_dim": self._text_dim,
                "version": self._version,
                "time": self._time.isoformat(),
            }
            ids = list(self._ids)
            write_ids = dict(self._write_ids)
            columns = self._columns.copy()
            vectors = {"image": self._images.living(), "text": self._texts.living()}
        snapshot = SnapshotWriter(folder)
        snapshot.lines(
            "products",
            (None if item is None else [item, write_ids.get(item)] for item in ids),
        )
        for kind, (rows, owners) in vectors.items():
            snapshot.array(f"{kind}_vectors", rows)
            snapshot.array(f"{kind}_owners", owners)
        snapshot.finish(header | {"columns": columns.save(snapshot)})

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
        try:
            version, saved_at = int(header["version"]), datetime.fromisoformat(header["time"])
            names = [str(name) for name in header["columns"]]
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError(f"{folder} has a damaged header: {error!r}") from error
        products = snapshot.lines("products")
        columns = Columns.restored(names, snapshot)
        images = self._restored_rows(snapshot, "image", self._image_dim, len(products))
        texts = self._restored_rows(snapshot, "text", self._text_dim, len(products))
        with self._lock:
            if self._ids:
                raise SnapshotError("only an empty index can be filled from a snapshot")
            self._ids = [None if item is None else item[0] for item in products]
            self._slots = {item[0]: slot for slot, item in enumerate(products) if item}
            self._write_ids = {item[0]: item[1] for item in products if item and item[1]}
            self._free = [slot for slot, item in enumerate(products) if item is None]
            for product_id in self._slots:
                self._renew(product_id)
            self._columns, self._images, self._texts = columns, images, texts
            self._version, self._time = version, saved_at

    @staticmethod
    def _restored_rows(
        snapshot: SnapshotReader, kind: str, dim: int, slot_count: int
    ) -> VectorRows:
        vectors = snapshot.array(f"{kind}_vectors", np.float32, (None, dim))
        owners = snapshot.array(f"{kind}_owners", np.int64, (len(vectors),))
        if len(owners) and not 0 <= owners.min() <= owners.max() < slot_count:
            raise SnapshotError(f"the snapshot's {kind} vectors belong to products it has not")
        rows = VectorRows(dim)
        starts = np.flatnonzero(np.diff(owners, prepend=DEAD))
        rows.replace(owners[starts].tolist(), np.split(vectors, starts[1:]) if len(starts) else [])
        return rows

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
                self._renew(product.product_id)
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
                self._renew(product_id)

    def remove(self, product_id: str) -> None:
        """Take a product out; one that is not there is no error."""
        with self._lock:
            slot = self._slots.pop(product_id, None)
            if slot is None:
                return
            self._images.replace([slot], [np.zeros((0, self._image_dim), np.float32)])
            self._texts.replace([slot], [np.zeros((0, self._text_dim), np.float32)])
            self._columns.clear(slot)
            self._ids[slot] = None
            self._write_ids.pop(product_id, None)
            del self._product_versions[product_id]
            self._free.append(slot)
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
            self._slots[product_id] = slot
        return slot

    def _renew(self, product_id: str) -> None:
        self._product_versions[product_id] = self._next_product_version
        self._next_product_version += 1

    def _changed(self, count: int) -> None:
        self._version += count
        self._time = datetime.now(UTC)

    # --- search ---------------------------------------------------------------------------

    def search(self, queries: Sequence[IndexQuery]) -> list[list[IndexMatch]]:
        """Exact matches of each query, best first.

        Raises:
            FilterError: a filter is not valid.
        """
        filters = [
            parse_filter(query.filter, self._max_filter_bytes) if query.filter else None
            for query in queries
        ]
        with self._lock:
            return [
                self._search_one(query, self._eligible(condition))
                for query, condition in zip(queries, filters, strict=True)
            ]

    def _eligible(self, condition: Node | None) -> BoolArray | None:
        return None if condition is None else self._columns.evaluate(condition, len(self._ids))

    def _search_one(self, query: IndexQuery, slots: BoolArray | None) -> list[IndexMatch]:
        images = _Modality.of(self._images, query.image_vectors, query.image_weights)
        texts = _Modality.of(self._texts, query.text_vectors, query.text_weights)
        modalities = [part for part in (images, texts) if part.total > 0]
        wanted = query.offset + query.top_k
        count = max(FIRST_CANDIDATES, 4 * wanted)
        while True:
            candidates, bound = self._candidates(modalities, count, slots)
            image_scores = self._modality_scores(images, candidates)
            text_scores = self._modality_scores(texts, candidates)
            scores = _fuse(images, image_scores, texts, text_scores)
            # Equal scores stand in the order of slots, on every page alike.
            order = np.argsort(-scores.round(SCORE_DECIMALS), kind="stable")[:wanted]
            # Nothing outside the candidates can score above the bound. At the bound there may
            # be equals of the last one, which would be missing from the next page.
            complete = len(order) == wanted and scores[order[-1]] > bound + ROUNDING
            if complete or bound == float("-inf") or bound + ROUNDING < query.min_score:
                break
            count *= GROWTH
        return [
            self._match(int(candidates[at]), scores[at], image_scores[at], text_scores[at])
            for at in order[query.offset :]
            if scores[at] >= query.min_score
        ]

    def _match(self, slot: int, score: float, image_score: float, text_score: float) -> IndexMatch:
        product_id = str(self._ids[slot])
        return IndexMatch(
            product_id,
            self._product_versions[product_id],
            float(score),
            float(image_score),
            float(text_score),
        )

    def _candidates(
        self, modalities: list[_Modality], count: int, slots: BoolArray | None
    ) -> tuple[IntArray, float]:
        """Slots worth scoring, and the best score that any other eligible slot could have."""
        # A pushing (negative) weight prefers what is far away, which no near list tells.
        pushes = any((part.weights < 0).any() for part in modalities)
        many = count > max(FIRST_CANDIDATES, MAX_CANDIDATE_SHARE * len(self._slots))
        if pushes or count > MAX_CANDIDATES or many:
            alive = np.sort(np.fromiter(self._slots.values(), np.int64, len(self._slots)))
            eligible = alive if slots is None else alive[slots[alive]]
            comparable = np.any([part.rows.have(eligible) for part in modalities], axis=0)
            return eligible[comparable], float("-inf")
        owners = []
        bounds = []
        for part in modalities:
            scores, found = part.rows.nearest(part.vectors, count, slots)
            owners.append(found.ravel())
            bounds.append(part.bound(scores[:, -1]))
        slots_found = np.unique(np.concatenate(owners))
        return slots_found[slots_found != DEAD], self._joint_bound(modalities, bounds)

    def _joint_bound(self, modalities: list[_Modality], bounds: list[float]) -> float:
        """The best score of a product outside all lists, from the best in each modality."""
        complete = all(part.rows.owner_count == len(self._slots) for part in modalities)
        if not complete:
            # One that lacks a modality is scored by the other alone.
            return max(bounds)
        weights = [part.total for part in modalities]
        return sum(w * b for w, b in zip(weights, bounds, strict=True)) / sum(weights)

    @staticmethod
    def _modality_scores(part: _Modality, slots: IntArray) -> FloatArray:
        """Weighted mean of the cosines (m,); NaN where a product lacks the modality."""
        if part.total == 0:
            return np.full(len(slots), np.nan, np.float32)
        best = part.rows.best_views(part.vectors, slots)  # (n, m)
        scores: FloatArray = (part.weights @ best / part.total).astype(np.float32)
        return scores


def _fuse(
    images: _Modality, image_scores: FloatArray, texts: _Modality, text_scores: FloatArray
) -> FloatArray:
    """``sum(w * cos) / sum(|w|)`` over the modalities that each product has."""
    image_total = np.where(np.isnan(image_scores), 0.0, images.total)
    text_total = np.where(np.isnan(text_scores), 0.0, texts.total)
    weighted = np.nan_to_num(image_scores) * image_total + np.nan_to_num(text_scores) * text_total
    fused: FloatArray = (weighted / (image_total + text_total)).astype(np.float32)
    return fused
