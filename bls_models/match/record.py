"""A match request on its way: what is known of it so far, how long it took, its log entry."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bls_models.captions.waiting import NOT_ASKED, CaptionOutcome, PendingCaption
from bls_models.database.store import Document
from bls_models.errors import RefusedError, RequestError
from bls_models.images.preprocessing import Crop
from bls_models.index.ordering import BY_SCORE
from bls_models.index.query import IndexAnswer, IndexMatch, IndexQuery
from bls_models.match.request import MatchQuery
from bls_models.match.variants import DEFAULT, Variant
from bls_models.objects.detector import NEVER
from bls_models.objects.outcome import NO_IMAGE, ObjectsOutcome
from bls_models.telemetry.metrics import (
    CAPTIONS,
    DEGRADED,
    NO_METRICS,
    OBJECT_SEARCHES,
    REQUESTS,
    STAGE_SECONDS,
    Metrics,
)
from bls_models.vectors import FloatArray, Pixels

# Each request goes through these by itself; through the others with those that are there.
OWN_STAGES = frozenset({"queue", "decode", "caption", "objects", "total"})

Reply = Callable[["MatchRequest"], None]


# Compared by identity: two requests may carry the same, and == of arrays is no single bool.
@dataclass(eq=False)
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
    pixels: Pixels | None = None

    @property
    def key(self) -> tuple[str, Crop | None]:
        """Pictures of the same key have the same vector, but for the size they were decoded at."""
        return self.sha256, self.crop


@dataclass(eq=False)
class MatchedObject:
    """An object of a photo that is matched for itself.

    Attributes:
        box: x0, y0, x1, y1 in shares of the upright photo.
        score: the detector's, 0 to 1.
        image: what is cut out of the photo for it.
    """

    box: Crop
    score: float
    image: QueryImage


@dataclass(eq=False)
class MatchRequest:
    """One request on its way.

    Attributes:
        request_id: the client's id, or one made here.
        reply: sends the answer; called once, with the request, from any thread.
        query: the checked query; None where checking failed.
        error: what the request fails with.
        variant: how the parts of its query are weighed.
        expires: when nobody wants the answer any more, on the monotonic clock.
        cancelled: whether the client has gone; asking takes a message to the server.
        trace: of Triton, which the calls of other models join; None where it is not traced.
        untraced: set when no call joins its trace any more.
        is_probe: whether a health check asks (``bls_models.match.probes``).
        images: its pictures; None for one that is not decoded yet.
        undecoded: how many of them are not.
        photo: (H, W, 3) UINT8, RGB, in which objects are looked for, until they are found.
        objects: those that are matched for themselves.
        objects_outcome: what became of looking for them.
        in_queue: whether it counts among those that wait.
        waiting_since: since when nobody works on it, by ``time.perf_counter``; None while somebody
            does.
        caption_pixels: of the first picture, for the captioner; (S, S, 3) UINT8.
        pending: its caption, where that is under way.
        caption: what became of its caption.
        caption_used: whether the caption is one of the query's texts.
        searches: what the index is asked, once it is encoded: for the whole query, then for each of
            the objects.
        matched: whether ``found`` is there, or an error.
        found: what each of the searches found, best first.
        products: JSON of each match's document.
        answers: the index's answers to the searches.
        index_info: what the index said of itself.
        degraded: parts that the answer lacks.
        milliseconds: of each stage.
        details: see docs/api.md.
        started: when it was read, by ``time.perf_counter``.
        header_request_id: see ``RequestId.header``.
    """

    request_id: str
    reply: Reply
    query: MatchQuery | None = None
    error: Exception | None = None
    variant: Variant = field(default_factory=lambda: Variant(DEFAULT))
    expires: float = math.inf
    cancelled: Callable[[], bool] = lambda: False
    trace: Any = None
    untraced: threading.Event | None = None
    is_probe: bool = False
    images: list[QueryImage | None] = field(default_factory=list)
    undecoded: int = 0
    photo: Pixels | None = None
    objects: list[MatchedObject] = field(default_factory=list)
    objects_outcome: ObjectsOutcome = field(default_factory=ObjectsOutcome)
    in_queue: bool = False
    waiting_since: float | None = field(default_factory=time.perf_counter)
    caption_pixels: Pixels | None = None
    pending: PendingCaption | None = None
    caption: CaptionOutcome = field(default_factory=lambda: CaptionOutcome(NOT_ASKED))
    caption_used: bool = False
    searches: list[IndexQuery] = field(default_factory=list)
    matched: bool = False
    found: list[list[IndexMatch]] = field(default_factory=list)
    products: list[bytes] = field(default_factory=list)
    answers: list[IndexAnswer] = field(default_factory=list)
    index_info: dict[str, Any] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)
    details: Document = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    header_request_id: str = ""

    def __post_init__(self) -> None:
        self.request_id = self.request_id or uuid.uuid4().hex
        if self.trace is not None:
            self.untraced = threading.Event()
        if self.query is not None:
            self.images = [None] * len(self.query.images)
            if self.query.objects != NEVER:
                self.objects_outcome = ObjectsOutcome(NO_IMAGE)

    @property
    def decoded(self) -> list[QueryImage]:
        """Its pictures, those that are decoded."""
        return [image for image in self.images if image is not None]

    @property
    def wants_objects(self) -> bool:
        """Whether objects are looked for in its photo."""
        return self.query is not None and self.query.wants_objects

    @property
    def pictures(self) -> list[QueryImage]:
        """All that is encoded for it: its pictures, then what is cut out for each object."""
        return [*self.decoded, *(item.image for item in self.objects)]

    @property
    def matches(self) -> list[IndexMatch]:
        """The answer's rows."""
        return [match for matches in self.found for match in matches]

    @property
    def object_numbers(self) -> list[int]:
        """The object of each row; 0 is the whole photo."""
        return [number for number, matches in enumerate(self.found) for _ in matches]

    @property
    def waits_for_caption(self) -> bool:
        """Whether its caption will be a part of the query."""
        return self.pending is not None and self.variant.caption_weight > 0

    def leave_trace(self) -> None:
        """Let no further call join its trace."""
        if self.untraced is not None:
            self.trace = None
            self.untraced.set()

    def leave_waiting(self) -> None:
        """Somebody works on it from now on: add to the milliseconds that it has waited."""
        if self.waiting_since is not None:
            waited = (time.perf_counter() - self.waiting_since) * 1e3
            self.milliseconds["queue"] = round(self.milliseconds.get("queue", 0.0) + waited, 3)
            self.waiting_since = None

    def note_decoded(self) -> None:
        """Set the milliseconds since decoding began: all until now but those before it."""
        so_far = (time.perf_counter() - self.started) * 1e3
        self.milliseconds["decode"] = round(so_far - self.milliseconds["queue"], 3)

    def note_total(self) -> None:
        """Set the milliseconds since the request was read."""
        self.milliseconds["total"] = round((time.perf_counter() - self.started) * 1e3, 3)


class StageClock:
    """Writes the milliseconds of each stage into all requests that share it.

    Args:
        requests: that go through the stages together.
        metrics: get each stage's seconds.
    """

    def __init__(self, requests: Sequence[MatchRequest], metrics: Metrics = NO_METRICS) -> None:
        self._requests = requests
        self._metrics = metrics
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self._metrics.observe(STAGE_SECONDS, now - self._last, stage)
        for request in self._requests:
            request.milliseconds[stage] = round((now - self._last) * 1e3, 3)
        self._last = now


def fail(requests: Sequence[MatchRequest], error: Exception) -> None:
    """Fail with the error what has not failed with one of its own."""
    for request in requests:
        request.error = request.error or error


def report_outcome(request: MatchRequest, metrics: Metrics) -> None:
    """Count a request that is answered now."""
    if request.error is None:
        outcome = "ok" if request.matches else "empty"
    elif isinstance(request.error, RefusedError):
        outcome = "refused"
    else:
        outcome = "client_error" if isinstance(request.error, RequestError) else "error"
    metrics.add(REQUESTS, 1, outcome)
    for stage in OWN_STAGES & request.milliseconds.keys():
        metrics.observe(STAGE_SECONDS, request.milliseconds[stage] / 1e3, stage)
    for part in request.degraded:
        metrics.add(DEGRADED, 1, part)
    if request.caption.status != NOT_ASKED:
        metrics.add(CAPTIONS, 1, request.caption.status)
    if request.query is not None and request.query.objects != NEVER:
        metrics.add(OBJECT_SEARCHES, 1, request.objects_outcome.status)


def match_log_entry(request: MatchRequest, now: datetime) -> Document:
    """One ``match_log`` document; images are named by their hash, never stored."""
    query, error = request.query, request.error
    entry: Document = {
        "time": now,
        "request_id": request.request_id,
        "variant": request.variant.name,
        "status": "ok" if error is None else "error",
        "milliseconds": request.milliseconds,
    }
    if request.header_request_id:
        entry["header_request_id"] = request.header_request_id
    if request.is_probe:
        entry["probe"] = True
    if query is not None:
        entry["inputs"] = {
            "images": [{"bytes": item.size, "sha256": item.sha256} for item in request.decoded],
            "texts": list(query.texts),
            "top_k": query.top_k,
            "offset": query.offset,
            "filter": query.filter.decode(),
        }
        if query.sort != BY_SCORE:
            entry["inputs"]["sort"] = query.sort
        if query.facets:
            entry["inputs"]["facets"] = query.facets.decode()
        if query.like:
            entry["inputs"]["like"] = [product_id for product_id, _ in query.like]
        if query.objects != NEVER:
            entry["inputs"]["objects"] = query.objects
    if error is None:
        entry["matches"] = [
            {"product_id": item.product_id, "score": item.score}
            | ({"object": number} if number else {})
            for number, item in zip(request.object_numbers, request.matches, strict=True)
        ]
        if request.objects:
            entry["objects"] = [
                {"box": list(item.box), "score": item.score} for item in request.objects
            ]
        entry["bundle"] = request.details["bundle"]
        entry["caption"] = request.caption.details(request.caption_used)
        entry["degraded"] = request.degraded
    else:
        entry["error"] = {"type": type(error).__name__, "message": str(error)}
    return entry
