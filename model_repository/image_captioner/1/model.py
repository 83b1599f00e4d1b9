"""``image_captioner``: pictures to captions, a batch at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from bls_models.captions.captioner import Caption, Captioner
from bls_models.engines.gpu_arrays import cupy_for
from bls_models.errors import CaptionerError
from bls_models.specs import IMAGE_CAPTIONER
from bls_models.triton.bridge import call_captioner, error_response, response, tensors_of
from bls_models.triton.gpu_calls import GpuCaptionEngines
from bls_models.triton.served_model import ServedModel
from bls_models.triton.timed_calls import TimedCalls
from bls_models.triton.traces import trace_of, traced


class TritonPythonModel(ServedModel):
    """Served through the Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the tokenizer and the embedding table."""
        super().initialize(args)
        if self.settings.caption_past_on_gpu:
            cupy = cupy_for("PRODUCT_MATCH_CAPTION_PAST_ON_GPU")
            self._captioner = Captioner.from_repository(
                GpuCaptionEngines(cupy), self.bundle, self.repository, cupy
            )
        else:
            self._captioner = Captioner.from_repository(
                call_captioner, self.bundle, self.repository
            )
        # Nobody waits longer for a caption than an ingest does.
        self._calls = TimedCalls(self.settings.ingest_caption_timeout_ms / 1e3)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Caption the pictures of all requests together."""
        batches = [tensors_of(request)["image"] for request in requests]
        try:
            pixels = np.concatenate(batches)
            with traced(map(trace_of, requests)):
                found = self._calls.run(
                    "the captioner's engines",
                    lambda: self._captioner.caption(pixels),
                    CaptionerError,
                )
            # One after another they have the order of the requests.
            captions = iter(found)
        except Exception as error:
            return [error_response(error) for _ in requests]
        return [_answer([next(captions) for _ in batch]) for batch in batches]


def _answer(captions: list[Caption]) -> Any:
    return response(
        IMAGE_CAPTIONER,
        {
            "caption": np.array([[caption.text.encode()] for caption in captions], np.object_),
            "confidence": np.array([[caption.confidence] for caption in captions], np.float32),
        },
    )
