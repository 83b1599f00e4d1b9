"""``text_encoder``: token ids to an L2-normalised vector, with the pooling in the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from bls_models.errors import BundleError
from builders.checkpoints.pretrained import model_from_checkpoint
from builders.checkpoints.references import find_checkpoint
from builders.checkpoints.tokenizer import (
    end_token_id,
    padding_id,
    siglip_tokenizer_from_checkpoint,
    tokenizer_from_checkpoint,
)
from builders.config import TextEncoderConfig

# CLIP configs of before 2023 have this id, which is wrong. transformers then takes the end token
# to be the highest id of a text.
OLD_CLIP_END_ID = 2

Pooling = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]


class TextEncoder(torch.nn.Module):
    """INT64 ids and mask (B, L) to FP32 unit vectors (B, D).

    Args:
        transformer: the pretrained model.
        pooling: from the model, ids and mask to vectors (B, D) of any length.
    """

    def __init__(self, transformer: torch.nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        vectors = self.pooling(self.transformer, input_ids, attention_mask)
        return torch.nn.functional.normalize(vectors, dim=1)


def bert_from_checkpoint(folder: Path, max_tokens: int, tokenizer_json: str) -> TextEncoder:
    """BERT; the mean of the unmasked last states.

    Raises:
        BundleError: the checkpoint does not fit, or texts may be longer than it can read.
    """
    family = "bert_mean_pooling"
    model = model_from_checkpoint(folder, family, ["bert"], "BertModel", add_pooling_layer=False)
    _check_length(family, max_tokens, model.config.max_position_embeddings)
    return TextEncoder(model, _mean_of_states)


def clip_from_checkpoint(folder: Path, max_tokens: int, tokenizer_json: str) -> TextEncoder:
    """The text tower of CLIP, with its projection of the end token's state.

    Raises:
        BundleError: the checkpoint does not fit, texts may be longer than it can read, or its
            tokenizer does not end them as the model expects.
    """
    from tokenizers import Tokenizer

    family = "clip_text"
    types = ["clip", "clip_text_model"]
    model = model_from_checkpoint(folder, family, types, "CLIPTextModelWithProjection")
    _check_length(family, max_tokens, model.config.max_position_embeddings)
    end = end_token_id(tokenizer_json, folder)
    expected = model.config.eos_token_id
    if expected == OLD_CLIP_END_ID:
        expected = max(Tokenizer.from_str(tokenizer_json).get_vocab().values())
    if end != expected:
        # The model would silently pool the first token instead.
        raise BundleError(
            f"{folder}: the tokenizer ends texts with token {end}, the model pools token "
            f"{expected}; use tokenizer and config of the same checkpoint"
        )
    return TextEncoder(model, _text_embeds)


def siglip_from_checkpoint(folder: Path, max_tokens: int, tokenizer_json: str) -> TextEncoder:
    """The text tower of SigLIP or SigLIP 2; its projection of the last position's state.

    Raises:
        BundleError: the checkpoint does not fit, or texts have another length than in training.
    """
    family = "siglip_text"
    types = ["siglip", "siglip_text_model"]
    model = model_from_checkpoint(folder, family, types, "SiglipTextModel")
    positions = model.config.max_position_embeddings
    if max_tokens != positions:
        raise BundleError(
            f"{family}: max_tokens is {max_tokens}, but the model was trained on texts padded to "
            f"{positions}; set max_tokens = {positions}"
        )
    end_token_id(tokenizer_json, folder)
    return TextEncoder(model, _LastPosition(padding_id(tokenizer_json)))


@dataclass(frozen=True)
class TextFamily:
    """A kind of text encoder.

    Attributes:
        model: from folder, ``max_tokens`` and tokenizer JSON to the module.
        tokenizer: from folder and ``max_tokens`` to the tokenizer JSON.
    """

    model: Callable[[Path, int, str], TextEncoder]
    tokenizer: Callable[[Path, int], str] = tokenizer_from_checkpoint


FAMILIES: dict[str, TextFamily] = {
    "bert_mean_pooling": TextFamily(bert_from_checkpoint),
    "clip_text": TextFamily(clip_from_checkpoint),
    "siglip_text": TextFamily(siglip_from_checkpoint, siglip_tokenizer_from_checkpoint),
}


def text_encoder_from_config(config: TextEncoderConfig) -> TextEncoder:
    """The torch module that a bundle's ``[text_encoder]`` describes.

    Raises:
        BundleError: unknown family, or a checkpoint that is missing or does not fit.
    """
    family = _family(config)
    folder = find_checkpoint(config.checkpoint)
    return family.model(folder, config.max_tokens, tokenizer_from_config(config)).eval()


def tokenizer_from_config(config: TextEncoderConfig) -> str:
    """The tokenizer that a bundle's ``[text_encoder]`` describes, as JSON.

    Raises:
        BundleError: unknown family, or a checkpoint that is missing or has no tokenizer.
    """
    return _family(config).tokenizer(find_checkpoint(config.checkpoint), config.max_tokens)


class _LastPosition:
    """SigLIP's pooling. The model takes no mask: padding is read like any other token.

    Args:
        pad_id: the token that stands for what the mask excludes.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # Changes nothing after this tokenizer, and keeps the mask an input of the graph.
        ids = torch.where(mask > 0, ids, self._pad_id)
        return cast(torch.Tensor, model(input_ids=ids).pooler_output)


def _mean_of_states(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, L, D)
    weights = mask.unsqueeze(-1).to(states.dtype)  # (B, L, 1)
    return cast(torch.Tensor, (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0))


def _text_embeds(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, model(input_ids=ids, attention_mask=mask).text_embeds)


def _family(config: TextEncoderConfig) -> TextFamily:
    if config.family not in FAMILIES:
        raise BundleError(
            f"unknown text_encoder family {config.family!r}; known: {', '.join(FAMILIES)}"
        )
    return FAMILIES[config.family]


def _check_length(family: str, max_tokens: int, positions: int) -> None:
    if not 1 <= max_tokens <= positions:
        raise BundleError(
            f"{family}: max_tokens is {max_tokens}, but the model reads 1 to {positions}; "
            "correct it in the bundle file"
        )
