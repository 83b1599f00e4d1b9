"""Pictures to captions: greedy decoding with a KV cache over the caption engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bls_models.bundle import (
    CAPTION_TOKENIZER_FILE,
    TOKEN_EMBEDDINGS_FILE,
    Bundle,
    CaptionerBundle,
)
from bls_models.encoders import Caller
from bls_models.errors import CaptionerError
from bls_models.specs import CAPTION_DECODER, CAPTION_VISION

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Caption:
    """One picture's caption.

    Attributes:
        text: without special tokens, stripped.
        confidence: the geometric mean of its tokens' probabilities, 0 to 1; the token that ends
            it counts.
        token_ids: the tokens before the one that ends it.
    """

    text: str
    confidence: float
    token_ids: tuple[int, ...]


class Captioner:
    """Captions a batch of pictures: ``caption_vision`` once, ``caption_decoder`` step by step.

    Args:
        call: runs an engine.
        bundle: the bundle's captioner.
        tokenizer: of its language model.
        embeddings: its token embedding table (vocabulary or more, hidden), float.
    """

    def __init__(
        self,
        call: Caller,
        bundle: CaptionerBundle,
        tokenizer: Tokenizer,
        embeddings: npt.NDArray[Any],
    ) -> None:
        self._call = call
        self._bundle = bundle
        self._tokenizer = tokenizer
        self._embeddings = np.asarray(embeddings, np.float32)
        self._prompt = np.asarray(bundle.prompt_ids, np.int64)
        self._image_slots = np.flatnonzero(self._prompt == bundle.image_token_id)

    @classmethod
    def from_repository(cls, call: Caller, bundle: Bundle, repository: Path) -> Captioner:
        """With the tokenizer and the embedding table that the builders wrote.

        Raises:
            CaptionerError: the bundle has no captioner.
        """
        if bundle.captioner is None:
            raise CaptionerError(
                f"bundle {bundle.name!r} has no captioner; build one that has, or ask for "
                "matches with caption = never"
            )
        return cls(
            call,
            bundle.captioner,
            Tokenizer.from_file(str(repository / CAPTION_TOKENIZER_FILE)),
            np.load(repository / TOKEN_EMBEDDINGS_FILE),
        )

    def caption(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> list[Caption]:
        """Caption pictures.

        Args:
            pixels: pictures (S, S, 3) UINT8, RGB, S being the captioner's ``image_size``.

        Returns:
            A caption a picture, in their order.

        Raises:
            CaptionerError: an engine failed or is not loaded.
        """
        captions: list[Caption] = []
        for start in range(0, len(pixels), CAPTION_VISION.max_batch_size):
            batch = np.stack(pixels[start : start + CAPTION_VISION.max_batch_size])
            captions += self._caption_batch(batch)
        return captions

    def _caption_batch(self, pixels: npt.NDArray[np.uint8]) -> list[Caption]:
        bundle = self._bundle
        visual = self._call(CAPTION_VISION, {"image": pixels})["visual_tokens"]
        prompt = np.repeat(self._embeddings[self._prompt][None], len(pixels), axis=0)
        prompt[:, self._image_slots] = visual
        decoder = _DecoderState(self._call, bundle, len(pixels))
        logits = decoder.step(prompt)
        # Rows that still grow; a finished one leaves the batch and costs nothing more.
        rows = np.arange(len(pixels))
        tokens: list[list[int]] = [[] for _ in rows]
        log_probabilities: list[list[float]] = [[] for _ in rows]
        while True:
            chosen = logits.argmax(axis=1)
            chosen_log = _log_softmax_at(logits, chosen)
            for row, token, value in zip(rows, chosen, chosen_log, strict=True):
                log_probabilities[row].append(float(value))
                if token not in bundle.stop_ids:
                    tokens[row].append(int(token))
            alive = ~np.isin(chosen, bundle.stop_ids)
            if not alive.any() or decoder.new_tokens + 1 >= bundle.max_new_tokens:
                break
            if not alive.all():
                rows, chosen = rows[alive], chosen[alive]
                decoder.keep(alive)
            logits = decoder.step(self._embeddings[chosen][:, None])
        return [
            Caption(self._tokenizer.decode(ids).strip(), float(np.exp(np.mean(values))), tuple(ids))
            for ids, values in zip(tokens, log_probabilities, strict=True)
        ]


class _DecoderState:
    """The decoder's past of a batch whose prompts are of one length."""

    def __init__(self, call: Caller, bundle: CaptionerBundle, rows: int) -> None:
        self._call = call
        # A slot that the mask hides: engines need not take a past of length 0.
        self._past = np.zeros(
            (rows, bundle.kv_planes, bundle.kv_heads, 1, bundle.head_dim), np.float32
        )
        self._length = 0
        self.new_tokens = -1

    def step(self, embeds: FloatArray) -> FloatArray:
        """Feed embeddings (B, N, H); returns the logits (B, V) after the last of them."""
        rows, count, _ = embeds.shape
        mask = np.ones((rows, self._past.shape[3] + count), np.int64)
        mask[:, 0] = 0
        positions = np.arange(self._length, self._length + count, dtype=np.int64)
        outputs = self._call(
            CAPTION_DECODER,
            {
                "inputs_embeds": np.ascontiguousarray(embeds, np.float32),
                "attention_mask": mask,
                "position_ids": np.repeat(positions[None], rows, axis=0),
                "past_kv": self._past,
            },
        )
        self._past = np.concatenate([self._past, outputs["new_kv"]], axis=3)
        self._length += count
        self.new_tokens += 1
        logits: FloatArray = outputs["logits"]
        if not np.isfinite(logits).all():
            raise CaptionerError(
                "caption_decoder gave logits that are not finite; rebuild it with `make models`"
            )
        return logits

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Drop the rows that have ended."""
        self._past = np.ascontiguousarray(self._past[rows])


def _log_softmax_at(logits: FloatArray, chosen: IntArray) -> npt.NDArray[np.float64]:
    """Log-probability of the chosen token of each row (B,)."""
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    picked = values[np.arange(len(values)), chosen]
    total: npt.NDArray[np.float64] = picked - np.log(np.exp(values).sum(axis=1))
    return total
