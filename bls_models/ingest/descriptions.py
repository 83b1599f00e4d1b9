"""Generated descriptions for products that come without one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import wait

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.captions.waiting import CaptionOutcome, PendingCaption, failed_outcome
from bls_models.errors import CaptionerError
from bls_models.images.preprocessing import Preprocess
from bls_models.vectors import Pixels


class Describer:
    """Pictures to descriptions, waited for; a failed captioner fails nothing else.

    Args:
        queue: captions pictures.
        bundle: says which captioner, if any.
        timeout_s: longest wait for a batch.
    """

    def __init__(self, queue: CaptionQueue, bundle: Bundle, timeout_s: float) -> None:
        self._queue = queue
        self._bundle = bundle
        self._timeout_s = timeout_s

    def preprocess(self) -> Preprocess:
        """How pictures become the captioner's pixels.

        Raises:
            CaptionerError: the bundle has no captioner.
        """
        captioner = self._bundle.require_captioner()
        return captioner.preprocess

    @property
    def fingerprint(self) -> str:
        """The captioner's.

        Raises:
            CaptionerError: the bundle has no captioner.
        """
        return self._bundle.require_captioner().fingerprint

    def describe(self, pictures: Sequence[Pixels]) -> list[CaptionOutcome]:
        """What became of each picture's caption.

        Args:
            pictures: as ``preprocess`` makes them.

        Raises:
            CaptionerError: the bundle has no captioner.
        """
        confidence = self._bundle.require_captioner().min_confidence
        asked: list[PendingCaption | CaptionOutcome] = []
        for pixels in pictures:
            try:
                asked.append(PendingCaption(self._queue, pixels, confidence, self._timeout_s))
            except CaptionerError as error:
                asked.append(failed_outcome(error))
        pending = [item for item in asked if isinstance(item, PendingCaption)]
        if pending:
            left = pending[0].deadline - time.monotonic()
            wait([item.future for item in pending], timeout=max(0.0, left))
        return [item if isinstance(item, CaptionOutcome) else item.outcome() for item in asked]
