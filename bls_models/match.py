"""``product_match``: photos and words to products, a batch of queries at a time."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bls_models.bundle import Bundle
from bls_models.documents import ClientDocuments
from bls_models.encoders import Encoders
from bls_models.errors import RequestError
from bls_models.images import (
    ImageLimits,
    Preprocess,
    decode_image,
    encoded_bytes,
    prepare_pixels,
)
from bls_models.index import IndexMatch, IndexQuery
from bls_models.logs import LogWriter
from bls_models.match_request import Crop, MatchQuery
from bls_models.product import json_bytes
from bls_models.settings import Settings, cpu_count
from bls_models.store import Document, Store
from bls_models.vector_cache import VectorCache
from bls_models.vectors import FloatArray


class Search(Protocol):
    """The product index, wherever it runs."""

    def __call__(
        self, queries: Sequence[IndexQuery]
    ) -> tuple[list[list[IndexMatch]], dict[str, Any]]:
        """Matches of each query, and the index's version, time and state.

        Raises:
            IndexUnavailableError: the index cannot answer now.
        """
        ...


@dataclass
class QueryImage:
    """One picture of a request.

    Attributes:
        size: bytes of the encoded file.
        sha256: of the encoded file, in hex.
        crop: the part that is searched for, None for all of it.
        vector: (image_dim,) FP32, once it is known.
        pixels: (S, S, 3) UINT8; None where the vector was known before decoding.
    """

    size: int
    sha256: str
    crop: Crop | None
    vector: FloatArray | None = None
    pixels: npt.NDArray[np.uint8] | None = None

    @property
    def key(self) -> tuple[str, Crop | None]:
        """Pictures of the same key have the same vector."""
        return self.sha256, self.crop


@dataclass
class MatchRequest:
    """One request on its way through a batch.

    Attributes:
        request_id: the client's id, or one made here.
        query: the checked query; None where checking failed.
        error: what the request fails with.
        images: its pictures, decoded.
        matches: the answer, best first.
        products: JSON of each match's document.
        details: see docs/api.md.
    """

    request_id: str
    query: MatchQuery | None = None
    error: Exception | None = None
    images: list[QueryImage] = field(default_factory=list)
    matches: list[IndexMatch] = field(default_factory=list)
    products: list[bytes] = field(default_factory=list)
    details: Document = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.request_id = self.request_id or uuid.uuid4().hex


class StageClock:
    """Milliseconds of each stage of a batch."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.stages[stage] = round((now - self._last) * 1e3, 3)
        self._last = now

    def finish(self) -> dict[str, float]:
        """The stages with their total."""
        total = round((time.perf_counter() - self._start) * 1e3, 3)
        return self.stages | {"total": total}


class ProductMatcher:
    """Answers match requests; a bad one in a batch fails alone."""

    def __init__(
        self,
        store: Store,
        encoders: Encoders,
        search: Search,
        log: LogWriter,
        bundle: Bundle,
        settings: Settings,
    ) -> None:
        self._documents = ClientDocuments(store, settings.document_cache)
        self._vectors = VectorCache(settings.vector_cache)
        self._encoders = encoders
        self._search = search
        self._log = log
        self._bundle = bundle
        # Only where text and image vectors can be compared.
        self._cross_modal_weight = np.float32(
            settings.cross_modal_weight if bundle.shared_space else 0.0
        )
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._preprocess = Preprocess(bundle.image_size, bundle.resize)
        self._pool = ThreadPoolExecutor(settings.decode_threads or cpu_count())

    def run(self, requests: Sequence[MatchRequest]) -> None:
        """Answer a batch: fills in ``matches``, ``products`` and ``details``, or ``error``."""
        clock = StageClock()
        try:
            self._answer(requests, clock)
        except Exception as error:
            # A part that all of the batch needs failed, or the code did.
            for request in requests:
                request.error = request.error or error
        finally:
            self._log_batch(requests, clock.finish())

    def _answer(self, requests: Sequence[MatchRequest], clock: StageClock) -> None:
        jobs = [
            (request, number)
            for request in requests
            if request.query is not None
            for number in range(len(request.query.images))
        ]
        for (request, _), result in zip(jobs, self._pool.map(self._decode, jobs), strict=True):
            if isinstance(result, RequestError):
                request.error = request.error or result
            else:
                request.images.append(result)
        clock.lap("decode")
        good = [item for item in requests if item.query is not None and item.error is None]
        if not good:
            return
        queries = self._encode(good)
        clock.lap("encode")
        found, index_info = self._search(queries)
        for request, matches in zip(good, found, strict=True):
            request.matches = matches
        clock.lap("search")
        degraded = self._add_documents(good, index_info["following"])
        clock.lap("documents")
        milliseconds = clock.finish()
        for request in good:
            request.details = {
                "request_id": request.request_id,
                "bundle": {"name": self._bundle.name, "fingerprint": self._bundle.fingerprint},
                "index": index_info,
                "degraded": degraded,
                "milliseconds": milliseconds,
            }

    def _decode(self, job: tuple[MatchRequest, int]) -> QueryImage | RequestError:
        request, number = job
        query = request.query
        assert query is not None
        tensor, crop = f"image[{number}]", query.crops[number]
        try:
            data = encoded_bytes(query.images[number], tensor, self._limits)
            image = QueryImage(len(data), hashlib.sha256(data).hexdigest(), crop)
            image.vector = self._vectors.get(image.key)
            if image.vector is None:
                picture = decode_image(data, tensor, self._limits, self._preprocess, crop)
                image.pixels = prepare_pixels(picture, self._preprocess, crop)
        except RequestError as error:
            return error
        return image

    def _encode(self, requests: list[MatchRequest]) -> list[IndexQuery]:
        """Every picture and text of the batch in one call to each engine."""
        queries = [request.query for request in requests if request.query is not None]
        images = [image for request in requests for image in request.images]
        texts = [text for query in queries for text in query.texts]
        new = {image.key: image.pixels for image in images if image.pixels is not None}
        vectors, words = self._encoders.encode(list(new.values()), texts)
        fresh = dict(zip(new, vectors, strict=True))
        for key, vector in fresh.items():
            self._vectors.put(key, vector)
        image_vectors = np.zeros((len(images), self._bundle.image_dim), np.float32)
        for row, image in zip(image_vectors, images, strict=True):
            row[:] = fresh[image.key] if image.vector is None else image.vector
        index_queries = []
        image_at = text_at = 0
        for query in queries:
            index_queries.append(
                self._index_query(
                    query,
                    image_vectors[image_at : image_at + len(query.images)],
                    words[text_at : text_at + len(query.texts)],
                )
            )
            image_at += len(query.images)
            text_at += len(query.texts)
        return index_queries

    def _index_query(self, query: MatchQuery, images: FloatArray, words: FloatArray) -> IndexQuery:
        """The query for the index; in a shared space its texts search the pictures too."""
        image_weights, text_weights = query.image_weights, query.text_weights
        if self._cross_modal_weight and len(words):
            # Only proportions count. Of the smallest floats, shares would be 0.
            largest = np.abs(np.append(image_weights, text_weights)).max()
            image_weights, text_weights = image_weights / largest, text_weights / largest
            images = np.concatenate([images, words])
            image_weights = np.append(image_weights, text_weights * self._cross_modal_weight)
            text_weights = text_weights * (1 - self._cross_modal_weight)
        return IndexQuery(
            image_vectors=images,
            image_weights=image_weights,
            text_vectors=words,
            text_weights=text_weights,
            top_k=query.top_k,
            offset=query.offset,
            min_score=query.min_score,
            filter=query.filter,
        )

    def _add_documents(self, requests: list[MatchRequest], following: bool) -> list[str]:
        """Put the documents of all matches into the answers; returns the degraded parts."""
        found = self._documents.find(
            (match for request in requests for match in request.matches), following
        )
        for request in requests:
            if found.complete:
                # A product deleted a moment ago may still be in the index.
                request.matches = [
                    item for item in request.matches if item.product_id in found.json
                ]
            # Without the database the matches are still right; they go out with their ids alone.
            request.products = [
                found.json.get(item.product_id) or json_bytes({"product_id": item.product_id})
                for item in request.matches
            ]
        return [] if found.complete else ["documents"]

    def _log_batch(self, requests: Sequence[MatchRequest], milliseconds: dict[str, float]) -> None:
        now = datetime.now(UTC)
        self._log.write([_log_entry(request, now, milliseconds) for request in requests])


def _log_entry(request: MatchRequest, now: datetime, milliseconds: dict[str, float]) -> Document:
    """One ``match_log`` document; images are named by their hash, never stored."""
    query, error = request.query, request.error
    entry: Document = {
        "time": now,
        "request_id": request.request_id,
        "status": "ok" if error is None else "error",
        "milliseconds": milliseconds,
    }
    if query is not None:
        entry["inputs"] = {
            "images": [{"bytes": item.size, "sha256": item.sha256} for item in request.images],
            "texts": list(query.texts),
            "top_k": query.top_k,
            "offset": query.offset,
            "filter": query.filter.decode(),
        }
    if error is None:
        entry["matches"] = [
            {"product_id": item.product_id, "score": item.score} for item in request.matches
        ]
        entry["degraded"] = request.details.get("degraded", [])
    else:
        entry["error"] = {"type": type(error).__name__, "message": str(error)}
    return entry
