"""Finds products' pictures in the database and keeps what was made of them."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from cachetools import TTLCache

from bls_models.cpus import cpu_count
from bls_models.database.pictures import Pictures, stored_hashes
from bls_models.database.store import Store
from bls_models.errors import (
    ImageError,
    MissingImageError,
    NotFoundError,
    RequestError,
    StoredImageError,
)
from bls_models.images.decoding import ImageLimits
from bls_models.images.memory import MemoryBudget
from bls_models.picture.request import BASE64, PictureQuery
from bls_models.picture.scaling import CONTENT_TYPES, ScaledPicture, scaled_picture
from bls_models.settings import Settings
from bls_models.telemetry.metrics import CACHE_HITS, CACHE_MISSES, NO_METRICS, PICTURES, Metrics

# A file never changes, but it may be deleted: so long it is shown afterwards by those who know its
# hash.
KEPT_SECONDS = 300.0

# sha256, longest side, format.
Key = tuple[str, int | None, str]


@dataclass(frozen=True)
class FoundPicture:
    """A picture as a client gets it.

    Attributes:
        data: the file, or base64 of it.
        content_type: of the file.
        width: in pixels.
        height: in pixels.
        sha256: of the stored file that it was made from, in hex.
    """

    data: bytes
    content_type: str
    width: int
    height: int
    sha256: str


class PictureFinder:
    """Answers requests for pictures; a picture is scaled once and then kept.

    Who asks for one that is just being scaled waits for it.

    Args:
        store: has the products.
        pictures: has their pictures.
        settings: limits, and how much is kept.
        metrics: get outcomes, hits and misses.
    """

    def __init__(
        self, store: Store, pictures: Pictures, settings: Settings, metrics: Metrics = NO_METRICS
    ) -> None:
        self._store = store
        self._pictures = pictures
        self._metrics = metrics
        self._limits = ImageLimits(
            settings.max_image_bytes, settings.max_image_pixels, settings.decode_bytes
        )
        self._budget = MemoryBudget(settings.decode_bytes)
        self._kept: TTLCache[Key, ScaledPicture] = TTLCache(
            settings.picture_cache_bytes, KEPT_SECONDS, getsizeof=lambda item: len(item.data)
        )
        self._making: dict[Key, Future[ScaledPicture]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(settings.decode_threads or cpu_count())

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def run(self, queries: Sequence[PictureQuery | Exception]) -> list[FoundPicture | Exception]:
        """Answer a batch.

        Args:
            queries: or the error that reading one gave.

        Returns:
            For each its picture, or the error that it alone failed with.
        """
        return list(self._pool.map(self._outcome, queries))

    def _outcome(self, query: PictureQuery | Exception) -> FoundPicture | Exception:
        found: FoundPicture | Exception
        try:
            found = query if isinstance(query, Exception) else self.find(query)
        except Exception as error:
            found = error
        self._metrics.add(PICTURES, 1, _outcome_name(found))
        return found

    def find(self, query: PictureQuery) -> FoundPicture:
        """One picture.

        Raises:
            NotFoundError: there is no such product or picture.
            StoredImageError: the stored file cannot be decoded within the limits.
            DatabaseError: the database does not answer in time.
        """
        sha256 = query.sha256 or self._hash_of(query)
        scaled = self._scaled(sha256, query)
        encode = base64.b64encode if query.encoding == BASE64 else bytes
        return FoundPicture(
            encode(scaled.data), CONTENT_TYPES[query.format], scaled.width, scaled.height, sha256
        )

    def _hash_of(self, query: PictureQuery) -> str:
        """The sha256 of a product's picture."""
        document = self._store.find_products([query.product_id], ["images"]).get(query.product_id)
        if document is None:
            raise NotFoundError(
                "product_id", f"{query.product_id!r} is not stored", "a stored product's id"
            )
        hashes = stored_hashes(document)
        if query.number > len(hashes):
            raise NotFoundError(
                "number",
                f"{query.number}",
                f"1 to {len(hashes)}" if hashes else "a product with pictures",
                f"Product {query.product_id!r} has {len(hashes)} pictures.",
            )
        return hashes[query.number - 1]

    def _scaled(self, sha256: str, query: PictureQuery) -> ScaledPicture:
        key = sha256, query.size, query.format
        ours: Future[ScaledPicture] = Future()
        with self._lock:
            kept: ScaledPicture | None = self._kept.get(key)
            making = ours if kept is not None else self._making.setdefault(key, ours)
        is_new = kept is None and making is ours
        self._metrics.add(CACHE_MISSES if is_new else CACHE_HITS, 1, "pictures")
        if kept is not None:
            return kept
        if is_new:
            self._make(key, ours)
        try:
            return making.result()
        except MissingImageError:
            raise NotFoundError(
                "product_id" if query.product_id else "sha256",
                f"picture {sha256} is not stored",
                "a picture of a stored product",
            ) from None
        except ImageError as error:
            raise StoredImageError(
                f"{error} The stored file is beyond this server's limits or damaged: raise the "
                "limits, or send the product again with another file of the picture."
            ) from error

    def _make(self, key: Key, making: Future[ScaledPicture]) -> None:
        """Scale a picture for all who wait for it, and keep it."""
        sha256, size, kind = key
        name = f"stored image {sha256}"
        try:
            data = self._pictures.read(sha256)
            made = scaled_picture(data, name, size, kind, self._limits, self._budget)
            with self._lock:
                # The cache refuses what is larger than all of it.
                if len(made.data) <= self._kept.maxsize:
                    self._kept[key] = made
            making.set_result(made)
        except Exception as error:
            making.set_exception(error)
        finally:
            with self._lock:
                del self._making[key]


def _outcome_name(found: FoundPicture | Exception) -> str:
    """What the metric calls it."""
    if isinstance(found, NotFoundError):
        return "not_found"
    if isinstance(found, RequestError):
        return "client_error"
    return "error" if isinstance(found, Exception) else "ok"
