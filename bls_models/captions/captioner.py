"""Pictures to captions: greedy decoding with a KV cache over the caption engines."""

from __future__ import annotations

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
from bls_models.engines.encoders import Caller
from bls_models.errors import CaptionerError, RequestError
from bls_models.specs import CAPTION_DECODER, CAPTION_VISION
from bls_models.vectors import BoolArray, FloatArray, LongArray, Pixels

# The past grows by this many slots at a time.
PAST_BLOCK = 32


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
        arrays: numpy, or another library of Python's array API, such as CuPy, for the decoder's
            past; ``call`` takes its arrays as ``past_kv`` and returns them as ``new_kv``.
    """

    def __init__(
        self,
        call: Caller,
        bundle: CaptionerBundle,
        tokenizer: Tokenizer,
        embeddings: npt.NDArray[np.floating[Any]],
        arrays: Any = np,
    ) -> None:
        self._call = call
        self._arrays = arrays
        self._bundle = bundle
        self._tokenizer = tokenizer
        self._embeddings = embeddings
        self._prompt = np.asarray(bundle.prompt_ids, np.int64)
        self._image_slots = np.flatnonzero(self._prompt == bundle.image_token_id)

    @classmethod
    def from_repository(
        cls, call: Caller, bundle: Bundle, repository: Path, arrays: Any = np
    ) -> Captioner:
        """With the tokenizer and the embedding table that the builders wrote.

        Raises:
            CaptionerError: the bundle has no captioner.
        """
        return cls(
            call,
            bundle.require_captioner(),
            Tokenizer.from_file(str(repository / CAPTION_TOKENIZER_FILE)),
            # Some are large, and a caption needs few of their rows.
            np.load(repository / TOKEN_EMBEDDINGS_FILE, mmap_mode="r"),
            arrays,
        )

    def caption(self, pixels: Pixels) -> list[Caption]:
        """Caption pictures.

        Args:
            pixels: pictures (B, S, S, 3) UINT8, RGB, S being the captioner's ``image_size``.

        Returns:
            A caption a picture, in their order.

        Raises:
            RequestError: pictures of another size.
            CaptionerError: an engine failed or is not loaded.
        """
        side = self._bundle.image_size
        if pixels.shape[1:] != (side, side, 3):
            raise RequestError(
                "image", f"shape {list(pixels.shape)}", f"shape [n, {side}, {side}, 3]"
            )
        captions: list[Caption] = []
        for start in range(0, len(pixels), CAPTION_VISION.max_batch_size):
            captions += self._caption_batch(pixels[start : start + CAPTION_VISION.max_batch_size])
        return captions

    def _caption_batch(self, pixels: Pixels) -> list[Caption]:
        bundle = self._bundle
        visual = self._call(CAPTION_VISION, {"image": pixels})["visual_tokens"]
        prompt = np.repeat(self._embeddings_of(self._prompt)[None], len(pixels), axis=0)
        prompt[:, self._image_slots] = visual
        decoder = _DecoderState(self._call, bundle, len(pixels), self._arrays)
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
            logits = decoder.step(self._embeddings_of(chosen)[:, None])
        return [
            Caption(self._tokenizer.decode(ids).strip(), float(np.exp(np.mean(values))), tuple(ids))
            for ids, values in zip(tokens, log_probabilities, strict=True)
        ]

    def _embeddings_of(self, tokens: LongArray) -> FloatArray:
        """Rows of the table, (len(tokens), H)."""
        return self._embeddings[tokens].astype(np.float32)


class _DecoderState:
    """The decoder's past of a batch whose prompts are of one length.

    The past is a buffer with room for more slots than are filled, and the mask hides the others.
    So it goes to the engine as it is, and the engine sees few different shapes; of each new one
    it would have to prepare its kernels.
    """

    def __init__(self, call: Caller, bundle: CaptionerBundle, rows: int, arrays: Any) -> None:
        self._call = call
        self._arrays = arrays
        # One slot at first, which stays hidden: engines need not take a past of length 0.
        self._past = self._zeros((rows, bundle.kv_planes, bundle.kv_heads, 1, bundle.head_dim))
        self._length = 0
        self._most = len(bundle.prompt_ids) + bundle.max_new_tokens
        self.new_tokens = -1

    def step(self, embeds: FloatArray) -> FloatArray:
        """Feed embeddings (B, N, H); returns the logits (B, V) after the last of them."""
        rows, count, _ = embeds.shape
        room = self._past.shape[3]
        mask = np.zeros((rows, room + count), np.int64)
        mask[:, : self._length] = 1
        mask[:, room:] = 1
        positions = np.arange(self._length, self._length + count, dtype=np.int64)
        outputs = self._call(
            CAPTION_DECODER,
            {
                "inputs_embeds": embeds,
                "attention_mask": mask,
                "position_ids": np.repeat(positions[None], rows, axis=0),
                "past_kv": self._past,
            },
        )
        self._append(outputs["new_kv"])
        self.new_tokens += 1
        logits: FloatArray = outputs["logits"]
        if not np.isfinite(logits).all():
            raise CaptionerError(
                "caption_decoder gave logits that are not finite; rebuild it with `make models`"
            )
        return logits

    def _zeros(self, shape: tuple[int, ...]) -> Any:
        return self._arrays.zeros(shape, dtype=self._arrays.float32)

    def _append(self, new_kv: Any) -> None:
        """Add slots (B, planes, heads, N, d) to the past."""
        end = self._length + new_kv.shape[3]
        if end > self._past.shape[3]:
            room = min(-(-end // PAST_BLOCK) * PAST_BLOCK, self._most)
            longer = self._zeros((*new_kv.shape[:3], room, new_kv.shape[4]))
            longer[:, :, :, : self._length, :] = self._past[:, :, :, : self._length, :]
            self._past = longer
        self._past[:, :, :, self._length : end, :] = new_kv
        self._length = end

    def keep(self, rows: BoolArray) -> None:
        """Drop the rows that have ended."""
        self._past = self._past[self._arrays.asarray(rows)]


def _log_softmax_at(logits: FloatArray, chosen: LongArray) -> npt.NDArray[np.float64]:
    """Log-probability of the chosen token of each row (B,)."""
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    picked = values[np.arange(len(values)), chosen]
    total: npt.NDArray[np.float64] = picked - np.log(np.exp(values).sum(axis=1))
    return total
