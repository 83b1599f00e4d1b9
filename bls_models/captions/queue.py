"""Captions in the background: a bounded queue in front of ``image_captioner``."""

from __future__ import annotations

import collections
import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from bls_models.background import Background
from bls_models.engines.encoders import Caller
from bls_models.errors import CaptionerBusyError, CaptionerError
from bls_models.specs import IMAGE_CAPTIONER
from bls_models.vectors import Pixels

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class GeneratedCaption:
    """What ``image_captioner`` says of one picture.

    Attributes:
        text: may be empty.
        confidence: 0 to 1.
    """

    text: str
    confidence: float


class CaptionQueue:
    """Pictures that wait for captions, and a thread that asks for all of them at once.

    There is one call at a time. While it runs others gather, and Triton batches the calls of
    several queues. A call that never returns holds up this thread only.

    Args:
        call: runs ``image_captioner``.
        size: most pictures that wait; those in the call do not count.
        patience_s: once a call has lasted this long no further pictures are taken until it ends.
    """

    def __init__(self, call: Caller, size: int, patience_s: float) -> None:
        self._call = call
        self._size = size
        self._patience_s = patience_s
        self._waiting: collections.deque[tuple[Pixels, Future[GeneratedCaption]]] = (
            collections.deque()
        )
        self._called_at: float | None = None
        # Started with the first picture.
        self._thread = Background("caption-queue", self._run)
        self._changed = self._thread.changed

    def submit(self, pixels: Pixels) -> Future[GeneratedCaption]:
        """Ask for a caption; returns at once.

        A future that is cancelled before its turn costs nothing. One that fails does so with a
        ``CaptionerError``.

        Args:
            pixels: (S, S, 3) UINT8, RGB, S being the captioner's ``image_size``.

        Raises:
            CaptionerBusyError: the queue is full.
            CaptionerError: the captioner does not answer.
        """
        future: Future[GeneratedCaption] = Future()
        with self._changed:
            lasted = 0.0 if self._called_at is None else time.monotonic() - self._called_at
            if lasted > self._patience_s:
                raise CaptionerError(
                    f"{IMAGE_CAPTIONER.name} has not answered for {lasted:.1f} s; see the "
                    "server's log and load the model again if it hangs"
                )
            if len(self._waiting) >= self._size:
                # Those that nobody waits for any more make room.
                self._waiting = collections.deque(
                    item for item in self._waiting if not item[1].cancelled()
                )
            if len(self._waiting) >= self._size:
                raise CaptionerBusyError(
                    f"the caption queue is full (its size is {self._size}); try again, or raise "
                    "PRODUCT_MATCH_CAPTION_QUEUE"
                )
            self._waiting.append((pixels, future))
            self._thread.start()
            self._changed.notify()
        return future

    def close(self) -> None:
        """Stop; pictures that still wait get no caption."""
        self._thread.close(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._called_at = None
                self._changed.wait_for(lambda: self._waiting or self._thread.stopping)
                if self._thread.stopping:
                    for _, future in self._waiting:
                        future.cancel()
                    return
                batch: list[tuple[Pixels, Future[GeneratedCaption]]] = []
                while self._waiting and len(batch) < IMAGE_CAPTIONER.max_batch_size:
                    item = self._waiting.popleft()
                    if item[1].set_running_or_notify_cancel():
                        batch.append(item)
                self._called_at = time.monotonic()
            if batch:
                self._caption(batch)

    def _caption(self, batch: list[tuple[Pixels, Future[GeneratedCaption]]]) -> None:
        try:
            outputs = self._call(IMAGE_CAPTIONER, {"image": np.stack([item[0] for item in batch])})
            captions = [
                GeneratedCaption(bytes(text).decode(), float(confidence))
                for text, confidence in zip(
                    outputs["caption"].ravel(), outputs["confidence"].ravel(), strict=True
                )
            ]
        except Exception as error:
            if not isinstance(error, CaptionerError):
                logger.exception("a call of %s failed", IMAGE_CAPTIONER.name)
                error = CaptionerError(
                    f"unexpected {type(error).__name__} from {IMAGE_CAPTIONER.name}; "
                    "the server's log has the details"
                )
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), caption in zip(batch, captions, strict=True):
            future.set_result(caption)
