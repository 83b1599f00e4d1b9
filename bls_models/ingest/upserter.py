"""Writes a batch of products with their images and vectors into MongoDB.

A write notes its intent (``bls_models.database.write_journal``), holds and stores its pictures
(``bls_models.database.pictures``), stores the embeddings under a fresh ``write_id``, and then, as
the one step that makes it count, the product document with that ``write_id`` if nobody else changed
the product since it was read. A crash at any point leaves the old product or the new one, never a
mixture: embeddings whose ``write_id`` no product carries are ignored. What is useless afterwards is
removed as the intent is settled, by this server or, after a crash, by any.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from bls_models.captions.waiting import failed_outcome
from bls_models.cpus import cpu_count
from bls_models.database.pictures import stored_hashes
from bls_models.database.store import Document, Replacement
from bls_models.database.write_journal import WriteJournal
from bls_models.errors import (
    CaptionerError,
    ConflictError,
    MissingImageError,
    ProductError,
    RequestError,
)
from bls_models.images.decoding import ImageLimits, open_image
from bls_models.images.memory import MemoryBudget
from bls_models.images.preprocessing import Preprocess, prepare_pixels
from bls_models.ingest.descriptions import Describer
from bls_models.ingest.upsert_item import CREATED, UNCHANGED, UPDATED, Upsert
from bls_models.product import embedding_text, stored_images, stored_revision
from bls_models.services import Services
from bls_models.vectors import Pixels, binary_from_vector, vector_of_length

# Attempts to write a product that others change at the same time.
WRITE_ATTEMPTS = 5


def changed_by_others(product_id: str) -> ConflictError:
    """The error of a write that never finds a product as it was read."""
    return ConflictError(
        f"product {product_id!r} is being changed by others at the same time; "
        "send the request again"
    )


class Upserter:
    """Writes batches of upserts.

    Args:
        services: what computes vectors and descriptions.
        journal: the intents of writes, with the database.
    """

    def __init__(self, services: Services, journal: WriteJournal) -> None:
        bundle, settings = services.bundle, services.settings
        self._journal = journal
        self._store = journal.store
        self._pictures = journal.pictures
        self._encoders = services.encoders
        self._describer = Describer(
            services.captions, bundle, settings.ingest_caption_timeout_ms / 1e3
        )
        self._fingerprint = bundle.fingerprint
        self._image_dim = bundle.image_dim
        self._limits = ImageLimits(
            settings.max_image_bytes, settings.max_image_pixels, settings.decode_bytes
        )
        self._memory = MemoryBudget(settings.decode_bytes)
        self._preprocess = bundle.preprocess
        self._pool = ThreadPoolExecutor(settings.decode_threads or cpu_count())

    def write(self, upserts: list[Upsert]) -> list[Upsert]:
        """Write upserts of different products; each ends with a status or an error."""
        pending = upserts
        try:
            for _ in range(WRITE_ATTEMPTS):
                pending = self._attempt(pending)
                if not pending:
                    break
        except Exception as error:
            # The encoder or the database failed for the batch; nothing of it counts.
            for upsert in upserts:
                if not upsert.status and upsert.error is None:
                    upsert.error = error
            return upserts
        for upsert in pending:
            upsert.error = changed_by_others(upsert.product_id)
        return upserts

    def _attempt(self, upserts: list[Upsert]) -> list[Upsert]:
        """Write once; returns the upserts whose product somebody else changed meanwhile."""
        if not upserts:
            return []
        stored = self._store.find_products([upsert.product_id for upsert in upserts])
        changed = []
        for upsert in upserts:
            try:
                upsert.read_from(stored.get(upsert.product_id))
            except ProductError as error:
                upsert.error = error
        self._add_descriptions([item for item in upserts if item.describe])
        for upsert in upserts:
            if upsert.error is not None:
                continue
            if self._is_unchanged(upsert):
                assert upsert.stored is not None
                upsert.status, upsert.revision = UNCHANGED, stored_revision(upsert.stored)
            else:
                changed.append(upsert)
        changed = self._add_vectors(changed)
        conflicts = self._store_all(changed) if changed else set()
        for upsert in changed:
            if upsert.product_id not in conflicts:
                upsert.status = UPDATED if upsert.stored else CREATED
        lost = self._changed_meanwhile(
            [item for item in upserts if isinstance(item.error, MissingImageError)]
        )
        return [item for item in changed if item.product_id in conflicts] + lost

    def _store_all(self, upserts: list[Upsert]) -> set[str]:
        """Write products with all that belongs to them; ids of those that others changed."""
        stored = [upsert.stored for upsert in upserts if upsert.stored is not None]
        data = {key: data for item in upserts for key, data in (item.data or {}).items()}
        intent = self._journal.begin(
            [upsert.product_id for upsert in upserts],
            [item.get("write_id") for item in stored] + [upsert.write_id for upsert in upserts],
            [
                *(sha256 for upsert in upserts for sha256 in upsert.hashes),
                *(sha256 for document in stored for sha256 in stored_hashes(document)),
            ],
            data,
        )
        # Where the database does not answer to a step, it may still carry it out: only when the
        # lease has passed can what it leaves be removed, and `WriteRecovery` does that.
        shared = self._pictures.hold(
            intent.intent_id,
            [key for upsert in upserts for key in upsert.hashes if key not in data],
            {key: (intent.files[key], content) for key, content in data.items()},
        )
        for upsert in upserts:
            upsert.shared_hashes = shared.intersection(upsert.hashes)
        self._store.insert_embeddings(
            [document for upsert in upserts for document in self._embeddings(upsert)]
        )
        self._journal.check_lease(intent)
        conflicts = self._store.replace_products(
            [Replacement(self._document(item), item.stored) for item in upserts]
        )
        self._journal.settle_or_leave(intent)
        return conflicts

    def _changed_meanwhile(self, upserts: list[Upsert]) -> list[Upsert]:
        """Those whose product has been written since it was read, to be tried again.

        Pictures that a product had when it was read may go with such a write.
        """
        if not upserts:
            return []
        found = self._store.find_products([item.product_id for item in upserts], ("write_id",))
        changed = [item for item in upserts if not item.is_of(found.get(item.product_id))]
        for upsert in changed:
            upsert.error = None
        return changed

    def _add_descriptions(self, upserts: list[Upsert]) -> None:
        """Describe products that lack a description; without a captioner they stay as they are."""
        wanted = [item for item in upserts if item.lacks_description]
        if not wanted:
            return
        try:
            preprocess = self._describer.preprocess()
        except CaptionerError as error:
            for upsert in wanted:
                upsert.caption = failed_outcome(error)
            return
        pictures = self._pool.map(
            lambda item: self._pixels(item, item.hashes[0], preprocess), wanted
        )
        readable = [
            (upsert, picture)
            for upsert, picture in zip(wanted, pictures, strict=True)
            if picture is not None
        ]
        captions = self._describer.describe([picture for _, picture in readable])
        for (upsert, _), caption in zip(readable, captions, strict=True):
            upsert.set_description(
                caption,
                {
                    "sha256": upsert.hashes[0],
                    "captioner": self._describer.fingerprint,
                    "confidence": caption.confidence,
                },
            )

    def _is_unchanged(self, upsert: Upsert) -> bool:
        return (
            upsert.stored is not None
            and not upsert.reembed
            and upsert.stored.get("content_hash") == upsert.content_hash(self._fingerprint)
        )

    def _add_vectors(self, upserts: list[Upsert]) -> list[Upsert]:
        """Compute the vectors that are not stored yet; returns the upserts that can be written."""
        self._reuse_vectors([item for item in upserts if item.stored and not item.reembed])
        jobs = [
            (upsert, sha256)
            for upsert in upserts
            for sha256 in upsert.hashes
            if sha256 not in upsert.vectors
        ]
        pixels = list(self._pool.map(self._decode, jobs))
        wanted = [
            (upsert, sha256, picture)
            for (upsert, sha256), picture in zip(jobs, pixels, strict=True)
            if picture is not None and upsert.error is None
        ]
        good = [upsert for upsert in upserts if upsert.error is None]
        image_vectors, text_vectors = self._encoders.encode(
            [picture for _, _, picture in wanted],
            [embedding_text(upsert.product) for upsert in good],
        )
        for (upsert, sha256, _), vector in zip(wanted, image_vectors, strict=True):
            upsert.vectors[sha256] = vector
        for upsert, vector in zip(good, text_vectors, strict=True):
            upsert.text_vector = vector
        return good

    def _decode(self, job: tuple[Upsert, str]) -> Pixels | None:
        return self._pixels(*job, self._preprocess)

    def _pixels(self, upsert: Upsert, sha256: str, preprocess: Preprocess) -> Pixels | None:
        """Pixels (S, S, 3) of one picture; an unreadable one fails its own upsert only."""
        tensor = upsert.tensor(sha256)
        try:
            data = upsert.data[sha256] if upsert.data else self._pictures.read(sha256)
            opened = open_image(data, tensor, self._limits)
            with self._memory.hold(opened.memory):
                image = opened.decode()
                height, width = image.shape[:2]
                pixels = prepare_pixels(image, preprocess)
                # Not only when this returns: by then others may hold what it takes.
                del image
        except (RequestError, MissingImageError) as error:
            upsert.error = error
            return None
        upsert.records[sha256] = {"sha256": sha256, "width": width, "height": height}
        return pixels

    def _reuse_vectors(self, upserts: list[Upsert]) -> None:
        """Take over the stored vectors of pictures that a product keeps."""
        by_write = {
            upsert.stored["write_id"]: upsert
            for upsert in upserts
            # One that was put there by hand may have anything for it.
            if upsert.stored and isinstance(upsert.stored.get("write_id"), str)
        }
        if not by_write:
            return
        for upsert in by_write.values():
            assert upsert.stored is not None
            upsert.records = {image["sha256"]: image for image in stored_images(upsert.stored)}
        for embedding in self._store.find_embeddings(list(by_write)):
            upsert, sha256 = by_write[embedding["write_id"]], embedding.get("sha256")
            if not isinstance(sha256, str) or sha256 not in upsert.records:
                continue
            if embedding.get("fingerprint") == self._fingerprint:
                # A damaged one is computed anew.
                with contextlib.suppress(ValueError):
                    upsert.vectors[sha256] = vector_of_length(
                        embedding.get("vector"), self._image_dim
                    )

    def _embeddings(self, upsert: Upsert) -> list[Document]:
        common = {
            "product_id": upsert.product_id,
            "write_id": upsert.write_id,
            "revision": upsert.revision,
            "fingerprint": self._fingerprint,
        }
        assert upsert.text_vector is not None
        text = {
            "_id": f"{upsert.write_id}:text",
            "kind": "text",
            "vector": binary_from_vector(upsert.text_vector),
        }
        images = [
            {
                "_id": f"{upsert.write_id}:image:{number}",
                "kind": "image",
                "sha256": sha256,
                "vector": binary_from_vector(upsert.vectors[sha256]),
            }
            for number, sha256 in enumerate(upsert.hashes)
        ]
        return [common | part for part in (text, *images)]

    def _document(self, upsert: Upsert) -> Document:
        now = datetime.now(UTC)
        fields = {key: value for key, value in upsert.product.items() if key != "product_id"}
        if upsert.description_source is not None:
            fields |= {
                "description_generated": True,
                "description_source": upsert.description_source,
            }
        return {
            "_id": upsert.product_id,
            **fields,
            "images": [upsert.records[sha256] for sha256 in upsert.hashes],
            "created": upsert.stored.get("created", now) if upsert.stored else now,
            "updated": now,
            "revision": upsert.revision,
            "fingerprint": self._fingerprint,
            "content_hash": upsert.content_hash(self._fingerprint),
            "write_id": upsert.write_id,
        }
