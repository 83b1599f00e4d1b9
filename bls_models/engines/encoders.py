"""Pixels and texts to vectors, through the engine models."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bls_models.bundle import TOKENIZER_FILE, Bundle
from bls_models.errors import EncoderError
from bls_models.specs import IMAGE_ENCODER, TEXT_ENCODER, ModelSpec
from bls_models.vectors import Arrays, FloatArray, Pixels


class Caller(Protocol):
    """Runs one model on one batch: inside Triton a BLS call, in a plain process the graph."""

    def __call__(self, model: ModelSpec, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name.

        Raises:
            ServiceError: the model failed or is not loaded.
        """
        ...


class Encoders:
    """The image and the text encoder of a bundle, a whole batch in one call each."""

    def __init__(self, call: Caller, bundle: Bundle, tokenizer: Tokenizer) -> None:
        self._call = call
        self._bundle = bundle
        self._tokenizer = tokenizer
        # Both engines can work at once; one side runs on the caller's own thread.
        self._pool = ThreadPoolExecutor(1)

    @classmethod
    def from_repository(cls, call: Caller, bundle: Bundle, repository: Path) -> Encoders:
        """With the tokenizer that the builders wrote beside the text graph."""
        return cls(call, bundle, Tokenizer.from_file(str(repository / TOKENIZER_FILE)))

    def encode(
        self, pixels: Sequence[Pixels], texts: Sequence[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Encode pictures and texts, both engines at the same time.

        Args:
            pixels: pictures (S, S, 3) UINT8, RGB.
            texts: texts; what exceeds the bundle's ``max_tokens`` is cut.

        Returns:
            Image vectors (len(pixels), image_dim) and text vectors (len(texts), text_dim),
            FP32, L2-normalised.

        Raises:
            EncoderError: an engine failed or is not loaded.
        """
        if pixels and texts:
            # With the context, which says what the calls belong to.
            text_side = self._pool.submit(copy_context().run, self.encode_texts, texts)
            return self.encode_images(pixels), text_side.result()
        return self.encode_images(pixels), self.encode_texts(texts)

    def encode_images(self, pixels: Sequence[Pixels]) -> FloatArray:
        """Pictures (S, S, 3) UINT8 to vectors (n, image_dim)."""
        vectors = [np.zeros((0, self._bundle.image_dim), np.float32)]
        for start in range(0, len(pixels), IMAGE_ENCODER.max_batch_size):
            batch = np.stack(pixels[start : start + IMAGE_ENCODER.max_batch_size])
            vectors.append(self._run(IMAGE_ENCODER, {"image": batch}))
        return np.concatenate(vectors)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Texts to vectors (n, text_dim)."""
        vectors = [np.zeros((0, self._bundle.text_dim), np.float32)]
        for start in range(0, len(texts), TEXT_ENCODER.max_batch_size):
            encodings = self._tokenizer.encode_batch(
                list(texts[start : start + TEXT_ENCODER.max_batch_size])
            )
            inputs = {
                "input_ids": np.array([item.ids for item in encodings], np.int64),
                "attention_mask": np.array([item.attention_mask for item in encodings], np.int64),
            }
            vectors.append(self._run(TEXT_ENCODER, inputs))
        return np.concatenate(vectors)

    def _run(self, model: ModelSpec, inputs: Arrays) -> FloatArray:
        (name,) = model.output_names
        vectors: FloatArray = self._call(model, inputs)[name]
        wanted = len(inputs[model.inputs[0].name])
        if len(vectors) != wanted:
            raise EncoderError(
                f"{model.name} gave {len(vectors)} vectors for {wanted} inputs; its runtime does "
                "not support this CPU"
            )
        if not np.isfinite(vectors).all():
            raise EncoderError(
                f"{model.name} gave a vector that is not finite; rebuild it with `make models`"
            )
        return vectors
