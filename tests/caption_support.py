"""A captioner for tests without models: what it says follows from the pixels."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from serving_support import SMALL_BUNDLE

from bls_models.bundle import CaptionerBundle
from bls_models.specs import IMAGE_CAPTIONER, ModelSpec

SMALL_CAPTIONER = CaptionerBundle(
    fingerprint="c" * 16,
    image_size=SMALL_BUNDLE.image_size,
    resize=SMALL_BUNDLE.resize,
    visual_tokens=1,
    hidden=4,
    kv_planes=2,
    kv_heads=1,
    head_dim=4,
    vocabulary=8,
    prompt_ids=[2, 0],
    image_token_id=2,
    stop_ids=[1],
    max_new_tokens=4,
    min_confidence=0.5,
)
CAPTIONED_BUNDLE = replace(SMALL_BUNDLE, name="captioned", captioner=SMALL_CAPTIONER)


def caption_of(pixels: npt.NDArray[np.uint8]) -> str:
    """Words for the mean colour of a picture (S, S, 3)."""
    return "colour " + "-".join(str(round(value)) for value in pixels.mean(axis=(0, 1)))


class PixelCaptioner:
    """Stands in for the call of ``image_captioner``.

    Attributes:
        text: said of every picture; None: what ``caption_of`` says.
        confidence: of every caption.
        error: raised instead of an answer.
        batches: pixels of each call.
    """

    def __init__(self) -> None:
        self.text: str | None = None
        self.confidence = 0.75
        self.error: Exception | None = None
        self.batches: list[npt.NDArray[np.uint8]] = []
        self._go_on = threading.Event()
        self._go_on.set()
        self._in_call = threading.Event()

    def hold(self) -> None:
        """Let calls hang from now on, until ``go_on``."""
        self._go_on.clear()
        self._in_call.clear()

    def go_on(self) -> None:
        """Let calls end."""
        self._go_on.set()

    def wait_for_call(self) -> None:
        """Wait until a call hangs."""
        assert self._in_call.wait(60)

    def __call__(
        self, model: ModelSpec, inputs: Mapping[str, npt.NDArray[Any]]
    ) -> dict[str, npt.NDArray[Any]]:
        assert model is IMAGE_CAPTIONER
        pixels = inputs["image"]
        assert pixels.dtype == np.uint8
        self.batches.append(pixels)
        self._in_call.set()
        assert self._go_on.wait(120)
        if self.error is not None:
            raise self.error
        texts = [caption_of(item) if self.text is None else self.text for item in pixels]
        return {
            "caption": np.array([[text.encode()] for text in texts], np.object_),
            "confidence": np.full((len(pixels), 1), self.confidence, np.float32),
        }


def no_caption_wanted(model: ModelSpec, inputs: object) -> dict[str, npt.NDArray[Any]]:
    """Stands in for ``image_captioner`` where it must not be called."""
    raise AssertionError("no caption is wanted here")
