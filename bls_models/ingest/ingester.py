"""``product_ingest``: checks requests and carries out their operations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bls_models.database.pictures import stored_hashes
from bls_models.database.store import Document
from bls_models.database.write_journal import WriteJournal
from bls_models.errors import ProductError, RequestError
from bls_models.images.decoding import ImageLimits, encoded_bytes
from bls_models.ingest.duplicates import DuplicateFinder, duplicate_details
from bls_models.ingest.upsert_item import Upsert
from bls_models.ingest.upserter import WRITE_ATTEMPTS, Upserter, changed_by_others
from bls_models.product import (
    check_product,
    check_product_id,
    client_document,
    parse_product_json,
)
from bls_models.request_tensors import choice, inputs_from_tensors
from bls_models.services import Services
from bls_models.specs import DESCRIPTION_MODES, DUPLICATE_MODES, PRODUCT_INGEST
from bls_models.telemetry.metrics import INGESTS
from bls_models.telemetry.request_ids import RequestId
from bls_models.vectors import Arrays

OPERATIONS = ("upsert", "delete", "get", "reembed")
NEVER, _ = DESCRIPTION_MODES
REPORT, _ = DUPLICATE_MODES
LOGGED_DETAILS = ("caption", "duplicates", "degraded")


@dataclass(frozen=True)
class IngestRequest:
    """One request, or the error that reading its tensors gave.

    Attributes:
        request_id: the client's id, or one made here.
        operation: one of ``OPERATIONS``.
        product: the product as JSON; all but upsert need only its ``product_id``.
        images: encoded images, None where the tensor was left out (a stored product then
            keeps its images).
        caption: one of ``DESCRIPTION_MODES``.
        duplicates: one of ``DUPLICATE_MODES``.
        error: what reading its tensors gave.
        header_request_id: see ``RequestId.header``.
    """

    request_id: str
    operation: str = ""
    product: bytes = b""
    images: tuple[bytes, ...] | None = None
    caption: str = NEVER
    duplicates: str = REPORT
    error: Exception | None = None
    header_request_id: str = ""


def ingest_request_from_tensors(tensors: Arrays, name: RequestId) -> IngestRequest:
    """Read a request's tensors, which carry a batch dimension of 1."""
    try:
        inputs = inputs_from_tensors(PRODUCT_INGEST, tensors)
        caption = choice(inputs, "caption", NEVER, DESCRIPTION_MODES)
        duplicates = choice(inputs, "duplicates", REPORT, DUPLICATE_MODES)
    except RequestError as error:
        return IngestRequest(name.value, error=error, header_request_id=name.header)
    return IngestRequest(
        name.value,
        operation=bytes(inputs["operation"][0]).decode(errors="replace"),
        product=bytes(inputs["product"][0]),
        images=tuple(inputs["image"]) if "image" in inputs else None,
        caption=caption,
        duplicates=duplicates,
        header_request_id=name.header,
    )


@dataclass(frozen=True)
class IngestResult:
    """What became of one request.

    Attributes:
        product_id: the product.
        status: created, updated, unchanged, deleted, not_found or found.
        revision: the product's revision after the operation; 0 where it is not stored.
        details: for ``get`` the document, under ``product``; where a description was asked for
            what became of it, under ``caption``; of a product that was written ``duplicates``;
            with either of the two, ``degraded``.
    """

    product_id: str
    status: str
    revision: int
    details: dict[str, Any] = field(default_factory=dict)


Outcome = IngestResult | Exception


class ProductIngester:
    """Carries out ingest requests, a batch at a time; a bad one fails alone.

    Args:
        services: what it calls; the log takes ``ingest_log`` entries.
        journal: the intents of writes, with the database.
        check_indexes: raises ``DatabaseError`` while the database's indexes are not there.
    """

    def __init__(
        self, services: Services, journal: WriteJournal, check_indexes: Callable[[], None]
    ) -> None:
        settings = services.settings
        self._metrics = services.metrics
        self._log = services.log
        self._journal = journal
        self._store = journal.store
        self._check_indexes = check_indexes
        self._max_product_bytes = settings.max_product_bytes
        self._max_images = settings.max_product_images
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._duplicates = DuplicateFinder(
            self._store, services.search, settings.duplicate_cosine, services.bundle.text_dim
        )
        self._upserter = Upserter(services, journal)

    def run(self, requests: Sequence[IngestRequest]) -> list[Outcome]:
        """Carry out a batch, in order where requests concern the same product.

        Returns:
            For each request its result, or the error that it alone failed with.
        """
        start = time.perf_counter()
        try:
            outcomes = self._carry_out(requests)
        except Exception as error:
            outcomes = [error for _ in requests]
        milliseconds = round((time.perf_counter() - start) * 1e3, 3)
        for request, outcome in zip(requests, outcomes, strict=True):
            # Clients could otherwise make any number of series.
            operation = request.operation if request.operation in OPERATIONS else "unknown"
            self._metrics.add(INGESTS, 1, operation, _status(outcome))
        now = datetime.now(UTC)
        self._log.write(
            [
                _log_entry(request, outcome, now, milliseconds)
                for request, outcome in zip(requests, outcomes, strict=True)
            ]
        )
        return outcomes

    def _carry_out(self, requests: Sequence[IngestRequest]) -> list[Outcome]:
        self._check_indexes()
        outcomes: dict[int, Outcome] = {}
        group: dict[str, tuple[int, Upsert]] = {}

        def finish_group() -> None:
            positions = [position for position, _ in group.values()]
            done = self._upserter.write([upsert for _, upsert in group.values()])
            self._duplicates.find(done)
            for position, upsert in zip(positions, done, strict=True):
                outcomes[position] = upsert.error or IngestResult(
                    upsert.product_id, upsert.status, upsert.revision, _details(upsert)
                )
            group.clear()

        for position, request in enumerate(requests):
            try:
                prepared = self._prepare(request)
                if isinstance(prepared, Upsert):
                    if prepared.product_id in group:
                        finish_group()
                    group[prepared.product_id] = (position, prepared)
                else:
                    if prepared in group:
                        finish_group()
                    outcomes[position] = self._delete_or_get(request.operation, prepared)
            except Exception as error:
                outcomes[position] = error
        finish_group()
        return [outcomes[position] for position in range(len(requests))]

    def _prepare(self, request: IngestRequest) -> Upsert | str:
        """Check a request: an upsert to write, or the product id that a get or delete means."""
        if request.error is not None:
            raise request.error
        if request.operation not in OPERATIONS:
            raise RequestError("operation", repr(request.operation)[:80], " | ".join(OPERATIONS))
        value = parse_product_json(request.product, self._max_product_bytes)
        product_id = check_product_id(value.get("product_id"))
        if request.operation != "upsert" and request.images is not None:
            raise RequestError("image", "given", f"none for operation {request.operation!r}")
        if request.operation != "upsert" and request.caption != NEVER:
            raise RequestError(
                "caption", repr(request.caption), f"{NEVER!r} for operation {request.operation!r}"
            )
        if request.operation == "reembed":
            return Upsert({"product_id": product_id}, images=None, reembed=True)
        if request.operation != "upsert":
            return product_id
        images = request.images
        if images is not None:
            if len(images) > self._max_images:
                raise ProductError(
                    "image", f"{len(images)} images", f"at most {self._max_images} a product"
                )
            images = tuple(
                encoded_bytes(data, f"image[{number}]", self._limits)
                for number, data in enumerate(images)
            )
        return Upsert(
            check_product(value),
            images,
            describe=request.caption != NEVER,
            returns_generated=value.get("description_generated") is True,
            find_duplicates=request.duplicates == REPORT,
        )

    def _delete_or_get(self, operation: str, product_id: str) -> IngestResult:
        if operation == "get":
            found = self._store.find_products([product_id]).get(product_id)
            if found is None:
                return IngestResult(product_id, "not_found", 0)
            details = {"product": client_document(found)}
            revision = details["product"]["revision"]
            return IngestResult(product_id, "found", revision, details)
        return IngestResult(product_id, "deleted" if self._delete(product_id) else "not_found", 0)

    def _delete(self, product_id: str) -> bool:
        """Remove a product with all that belongs to it; whether there was one."""
        for _ in range(WRITE_ATTEMPTS):
            stored = self._store.find_products([product_id]).get(product_id)
            if stored is None:
                return False
            intent = self._journal.begin(
                [product_id], [stored.get("write_id")], stored_hashes(stored)
            )
            deleted = self._store.delete_product(stored)
            self._journal.settle_or_leave(intent)
            if deleted:
                return True
        raise changed_by_others(product_id)


def _status(outcome: Outcome) -> str:
    if isinstance(outcome, RequestError):
        return "client_error"
    return "error" if isinstance(outcome, Exception) else outcome.status


def _details(upsert: Upsert) -> dict[str, Any]:
    """What became of a description that was asked for, and which duplicates were found."""
    details: dict[str, Any] = {}
    degraded = []
    if upsert.describe:
        details["caption"] = upsert.caption.details(used=upsert.description_source is not None)
        if upsert.caption.failed:
            degraded.append("caption")
    if upsert.duplicates is not None:
        details["duplicates"] = duplicate_details(upsert.duplicates)
        if upsert.duplicates_failed:
            degraded.append("duplicates")
    return details | {"degraded": degraded} if details else {}


def _log_entry(
    request: IngestRequest, outcome: Outcome, now: datetime, milliseconds: float
) -> Document:
    """One ``ingest_log`` document; the time is that of the whole batch."""
    entry: Document = {
        "time": now,
        "request_id": request.request_id,
        **({"header_request_id": request.header_request_id} if request.header_request_id else {}),
        "operation": request.operation[:80],
        "images": None if request.images is None else len(request.images),
        "milliseconds": milliseconds,
    }
    if isinstance(outcome, Exception):
        error = {"type": type(outcome).__name__, "message": str(outcome)}
        return entry | {"status": "error", "error": error}
    return entry | {
        "status": "ok",
        "result": outcome.status,
        "product_id": outcome.product_id,
        "revision": outcome.revision,
        **{key: outcome.details[key] for key in LOGGED_DETAILS if key in outcome.details},
    }
