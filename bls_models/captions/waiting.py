"""Captions that are waited for: for how long, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bls_models.background import Background
from bls_models.captions.queue import CaptionQueue, GeneratedCaption
from bls_models.errors import CaptionerBusyError, CaptionerError
from bls_models.specs import CAPTION_MODES
from bls_models.vectors import Pixels

_, AUTO, ALWAYS = CAPTION_MODES

NOT_ASKED = "not_asked"
NO_IMAGE = "no_image"
OK = "ok"
LOW_CONFIDENCE = "low_confidence"
UNAVAILABLE = "unavailable"
BUSY = "busy"
TIMEOUT = "timeout"
FAILURES = frozenset({UNAVAILABLE, BUSY, TIMEOUT})

CLOSE_SECONDS = 5.0

T = TypeVar("T")


@dataclass(frozen=True)
class CaptionOutcome:
    """What became of a caption.

    Attributes:
        status: ``ok``; ``low_confidence`` (a caption, not to be relied on); ``not_asked``;
            ``no_image`` (asked for, and there is nothing to caption); ``unavailable``, ``busy``
            or ``timeout`` (there is none, ``reason`` says why).
        text: empty where there is none.
        confidence: None where there is none.
        milliseconds: between asking and the outcome; None where nobody was asked.
        reason: of a failure.
    """

    status: str
    text: str = ""
    confidence: float | None = None
    milliseconds: float | None = None
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether a caption was wanted and there is none."""
        return self.status in FAILURES

    def details(self, used: bool) -> dict[str, Any]:
        """For an answer's ``details``; ``used``: the query or the product has it as a text."""
        details: dict[str, Any] = {
            "status": self.status,
            "text": self.text,
            "confidence": self.confidence,
            "used": used,
            "milliseconds": self.milliseconds,
        }
        return details | ({"reason": self.reason} if self.reason else {})


def failed_outcome(error: CaptionerError, milliseconds: float | None = None) -> CaptionOutcome:
    """The outcome that a captioner's error stands for."""
    status = BUSY if isinstance(error, CaptionerBusyError) else UNAVAILABLE
    return CaptionOutcome(status, milliseconds=milliseconds, reason=str(error))


class PendingCaption:
    """A caption that was asked for.

    Args:
        queue: whom to ask.
        pixels: see ``CaptionQueue.submit``.
        min_confidence: a caption of less has the status ``low_confidence``.
        timeout_s: longest wait.

    Raises:
        CaptionerError: the queue does not take it.
    """

    def __init__(
        self, queue: CaptionQueue, pixels: Pixels, min_confidence: float, timeout_s: float
    ) -> None:
        self._min_confidence = min_confidence
        self._timeout_s = timeout_s
        self._start = time.monotonic()
        self.deadline = self._start + timeout_s
        self._end: float | None = None
        self.future: Future[GeneratedCaption] = queue.submit(pixels)
        self.future.add_done_callback(self._note_end)

    def _note_end(self, _: Future[GeneratedCaption]) -> None:
        self._end = time.monotonic()

    def outcome(self) -> CaptionOutcome:
        """What became of it by now; one that is still under way has run out of time."""
        ended = self.future.done()
        milliseconds = round(((self._end or time.monotonic()) - self._start) * 1e3, 3)
        if not ended:
            self.future.cancel()
            reason = f"no caption came within {self._timeout_s:g} s, the longest wait that is set"
            return CaptionOutcome(TIMEOUT, milliseconds=milliseconds, reason=reason)
        try:
            caption = self.future.result()
        except CaptionerError as error:
            return failed_outcome(error, milliseconds)
        # An empty text is no caption, whatever its confidence.
        sure = bool(caption.text) and caption.confidence >= self._min_confidence
        return CaptionOutcome(
            OK if sure else LOW_CONFIDENCE,
            caption.text,
            round(caption.confidence, 4),
            milliseconds,
        )


class CaptionWaiter(Generic[T]):
    """Hands on what waits for captions, as soon as they are there or time has run out.

    Args:
        finish: called with all that is ready at that moment, in the waiter's one thread, or after
            ``close`` in that of ``add``; must not raise.
    """

    def __init__(self, finish: Callable[[list[T]], None]) -> None:
        self._finish = finish
        self._pending: list[tuple[PendingCaption, T]] = []
        # Started with the first item.
        self._thread = Background("caption-waiter", self._run)
        self._changed = self._thread.changed

    def add(self, pending: PendingCaption, item: T) -> None:
        """Hand on ``item`` when its caption has an outcome; at once after ``close``."""
        with self._changed:
            closed = self._thread.stopping
            if not closed:
                self._pending.append((pending, item))
                self._thread.start()
        if closed:
            self._finish([item])
            return
        pending.future.add_done_callback(self._thread.wake)
        self._thread.wake()

    def close(self) -> None:
        """Hand on what still waits, and stop."""
        self._thread.close(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (ready := self._take_ready()):
                    if self._thread.stopping and not self._pending:
                        return
                    self._changed.wait(self._seconds_left())
            self._finish(ready)

    def _take_ready(self) -> list[T]:
        now = time.monotonic()
        ready: list[T] = []
        rest: list[tuple[PendingCaption, T]] = []
        for pending, item in self._pending:
            if pending.future.done() or pending.deadline <= now or self._thread.stopping:
                ready.append(item)
            else:
                rest.append((pending, item))
        self._pending = rest
        return ready

    def _seconds_left(self) -> float | None:
        if not self._pending:
            return None
        return max(0.0, min(pending.deadline for pending, _ in self._pending) - time.monotonic())
