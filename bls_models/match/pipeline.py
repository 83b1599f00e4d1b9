"""Match requests on their way through the stages, each stage in threads of its own.

A request moves on by itself: its pictures are decoded as they come, an engine call takes all that
is decoded by then, and who has an answer gets it. Nobody waits for a batch to end. Those without
a picture to encode have threads of their own, so words do not wait behind photos, and so have
searches that take long, and photos in which objects are looked for: those take many times as much.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from bls_models.captions.waiting import CaptionWaiter
from bls_models.cpus import cpu_count
from bls_models.errors import RefusedError
from bls_models.match.matcher import ProductMatcher
from bls_models.match.record import MatchRequest, fail
from bls_models.settings import Settings
from bls_models.specs import PRODUCT_MATCH
from bls_models.stage import Stage
from bls_models.telemetry.metrics import NO_METRICS, WAITING, Metrics
from bls_models.watchdog import watched

logger = logging.getLogger(__name__)

# Calls of engines under way. What comes while one is under way makes up the next; a second one of
# the image encoder begins with twice as many pictures as there are CPUs.
PHOTO_CALLS = 2
WORD_CALLS = 2
SEARCHES = 2
LONG_SEARCHES = 4
# Requests a CPU whose pictures are decoded and wait for the encoder: more than it takes at once, so
# that it never waits for them. Further ones wait as files, which are smaller than pixels.
DECODED_AHEAD = 4
# Photos of several objects that are encoded in one call.
OBJECT_PHOTOS = 8
# A client is asked for only after it has waited this long: asking is a message to the server.
PATIENT_SECONDS = 0.25

Tracing = Callable[[Sequence[MatchRequest]], AbstractContextManager[None]]


class MatchPipeline:
    """Answers match requests from threads of its own.

    Args:
        matcher: does the work of the stages.
        settings: how many requests may wait, and for how long; threads.
        metrics: get the number of those that wait.
        tracing: what the engine calls for some requests are made within.
    """

    def __init__(
        self,
        matcher: ProductMatcher,
        settings: Settings,
        metrics: Metrics = NO_METRICS,
        tracing: Tracing = lambda _: nullcontext(),
    ) -> None:
        self._matcher = matcher
        self._tracing = tracing
        self._metrics = metrics
        self._lock = threading.Lock()
        self._most = settings.queue_size
        # Photos in which objects are looked for take no more than half of the places.
        self._most_objects = max(1, settings.queue_size // 2)
        self._waiting = self._waiting_objects = 0
        threads = settings.decode_threads or cpu_count()
        most = PRODUCT_MATCH.max_batch_size
        self._photos = Stage("photos", self._encode, PHOTO_CALLS, most, 2 * cpu_count())
        ahead = DECODED_AHEAD * cpu_count()
        self._decoding = Stage("decode", self._decode, threads, onward=self._photos, ahead=ahead)
        self._object_photos = Stage("object-photos", self._encode, most=OBJECT_PHOTOS)
        self._objects = Stage(
            "objects", self._find_objects, threads, onward=self._object_photos, ahead=ahead
        )
        self._words = Stage("words", self._encode, WORD_CALLS, most)
        self._searching = Stage("search", self._search, SEARCHES, most)
        self._long = Stage("long-search", self._search, LONG_SEARCHES)
        self._captions: CaptionWaiter[MatchRequest] = CaptionWaiter(self._captioned)

    def take(self, requests: Iterable[MatchRequest]) -> list[MatchRequest]:
        """Answer requests: by their ``reply``, from another thread.

        Returns:
            Those that are refused, for the caller to answer: a late answer takes a message of its
            own and an acknowledgement, and the next requests would wait for that.
        """
        refused = []
        for request in requests:
            if request.error is None:
                request.error = self._admit(request)
            if request.error is not None:
                refused.append(request)
                continue
            self._matcher.begin(request)
            request.undecoded = len(request.images)
            if request.wants_objects:
                self._objects.put(request)
                continue
            for number in range(len(request.images)):
                self._decoding.put((request, number))
            if not request.images:
                self._decoded(request)
        self._conclude(refused)
        return refused

    def close(self) -> None:
        """Answer all that was taken, those who wait for captions without them."""
        self._decoding.close()
        self._objects.close()
        # What waits here goes on to the stages below.
        self._captions.close()
        for stage in (self._photos, self._object_photos, self._words, self._searching, self._long):
            stage.close()

    def _admit(self, request: MatchRequest) -> RefusedError | None:
        """Let it wait, or say why not."""
        objects = request.wants_objects
        with self._lock:
            full, what, most = self._waiting >= self._most, "requests", self._most
            if objects and self._waiting_objects >= self._most_objects:
                full, what, most = True, "photos with objects", self._most_objects
            if full:
                return RefusedError(
                    f"Exceeds maximum queue size: {most} {what} wait already "
                    "(PRODUCT_MATCH_QUEUE_SIZE); try again later"
                )
            self._waiting += 1
            self._waiting_objects += objects
            self._metrics.set(WAITING, self._waiting)
            request.in_queue = True
            return None

    def _leave_queue(self, requests: Iterable[MatchRequest]) -> None:
        with self._lock:
            for request in requests:
                self._waiting -= request.in_queue
                self._waiting_objects -= request.in_queue and request.wants_objects
                request.in_queue = False
            self._metrics.set(WAITING, self._waiting)

    def _wanted(self, request: MatchRequest) -> bool:
        """Whether somebody still waits for the answer; else it fails."""
        try:
            self._check_wanted(request)
        except Exception as error:
            request.error = error
        return request.error is None

    @staticmethod
    def _check_wanted(request: MatchRequest) -> None:
        waited = time.perf_counter() - request.started
        if time.monotonic() >= request.expires:
            raise RefusedError(
                f"Request timeout expired: it has waited for {waited:.1f} s, the longest wait that "
                "is set or that it asked for; try again later"
            )
        if waited > PATIENT_SECONDS and request.cancelled():
            raise RefusedError("its client waits no more")

    # --- the stages ---------------------------------------------------------------------------

    def _decode(self, jobs: list[tuple[MatchRequest, int]]) -> None:
        for request, number in jobs:
            with watched():
                with self._lock:
                    request.leave_waiting()
                if request.error is None and self._wanted(request):
                    self._matcher.decode(request, number)
            with self._lock:
                request.undecoded -= 1
                last = not request.undecoded
            if last:
                request.note_decoded()
                self._decoded(request)

    def _find_objects(self, requests: list[MatchRequest]) -> None:
        """Decode photos, and find the objects in them."""
        for request in requests:
            with watched(), self._tracing([request]):
                request.leave_waiting()
                if self._wanted(request):
                    self._matcher.decode(request, 0)
                request.note_decoded()
                if request.error is None:
                    began = time.monotonic()
                    self._matcher.find_objects(request)
                    # It did not wait meanwhile; a detector that is late fails no match.
                    request.expires += time.monotonic() - began
            self._decoded(request)

    def _decoded(self, request: MatchRequest) -> None:
        if request.error is None:
            self._matcher.ask_for_caption(request)
        if request.error is not None:
            self._leave_queue([request])
            self._answer([request])
        elif request.waits_for_caption and request.pending is not None:
            self._leave_queue([request])
            request.leave_trace()
            self._captions.add(request.pending, request)
        else:
            self._hand_on(request)

    def _hand_on(self, request: MatchRequest) -> None:
        """To the threads that match it."""
        request.waiting_since = time.perf_counter()
        encodes = any(image.pixels is not None for image in request.pictures)
        photos = self._object_photos if request.wants_objects else self._photos
        (photos if encodes else self._words).put(request)

    def _encode(self, requests: list[MatchRequest]) -> None:
        self._leave_queue(requests)
        for request in requests:
            request.leave_waiting()
        wanted = [request for request in requests if self._wanted(request)]
        with watched(), self._tracing(wanted):
            self._matcher.encode(wanted)
        for request in requests:
            (self._long if self._matcher.takes_long(request) else self._searching).put(request)

    def _search(self, requests: list[MatchRequest]) -> None:
        good = [request for request in requests if request.error is None]
        with watched(), self._tracing(good):
            self._matcher.search(good)
        self._matched(requests)

    def _matched(self, requests: Sequence[MatchRequest]) -> None:
        """Answer them, but those whose captions are under way."""
        done = []
        for request in requests:
            request.matched = True
            request.leave_trace()
            if request.pending is None:
                done.append(request)
            elif request.error is None:
                self._captions.add(request.pending, request)
            else:
                # Its answer is an error, so the caption is not needed.
                request.pending.future.cancel()
                done.append(request)
        self._answer(done)

    def _captioned(self, requests: list[MatchRequest]) -> None:
        """Go on with requests whose captions have an outcome."""
        done = []
        for request in requests:
            assert request.pending is not None
            request.caption, request.pending = request.pending.outcome(), None
            request.milliseconds["caption"] = request.caption.milliseconds or 0.0
            if request.matched:
                done.append(request)
            else:
                # Its caption is a part of the query.
                self._hand_on(request)
        self._answer(done)

    def _conclude(self, requests: Sequence[MatchRequest]) -> None:
        if not requests:
            return
        try:
            self._matcher.conclude(requests)
        except Exception as error:
            fail(requests, error)
        for request in requests:
            request.leave_trace()

    def _answer(self, requests: Sequence[MatchRequest]) -> None:
        self._conclude(requests)
        for request in requests:
            try:
                request.reply(request)
            except Exception:
                logger.exception("an answer was not sent", extra={"request_id": request.request_id})
