"""What every captioner family gives: its torch modules, tokenizer and prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bls_models.errors import BundleError
from builders.captioners.prompt import ImageTokens, prompt_from_checkpoint
from builders.checkpoints.tokenizer import tokenizer_json_from_checkpoint
from builders.config import CaptionerConfig
from builders.encoders.pixel_module import PixelModule


@dataclass(frozen=True)
class CaptionerModules:
    """What a captioner's graphs are made from, in evaluation mode and FP32.

    Attributes:
        vision: UINT8 pixels (B, S, S, 3), RGB, to visual tokens FP32 (B, T, H), with the
            normalisation inside.
        language: a causal language model of transformers (``LlamaForCausalLM``,
            ``Qwen2ForCausalLM``, ...) that takes ``inputs_embeds`` (B, N, H).
        tokenizer_json: the language model's tokenizer.
        image_size: side S of the pixels.
        resize: how a picture becomes that square (see
            ``bls_models.images.preprocessing.Preprocess``).
        prompt_ids: the prompt's tokens; ``image_token_id`` stands T times where the visual
            tokens go.
        image_token_id: see ``prompt_ids``.
        stop_ids: tokens that end a caption.
    """

    vision: torch.nn.Module
    language: Any
    tokenizer_json: str
    image_size: int
    resize: str
    prompt_ids: list[int]
    image_token_id: int
    stop_ids: list[int]

    @property
    def visual_tokens(self) -> int:
        """Tokens T that stand for a picture."""
        return self.prompt_ids.count(self.image_token_id)


def causal_language_model(
    trunk: Any, head: torch.nn.Module, folder: Path, model_types: Sequence[str]
) -> Any:
    """The language model within a vision-language model, as transformers' class for it alone.

    Args:
        trunk: its layers; their weights are shared, not copied.
        head: from states to logits.
        folder: the checkpoint, for the message.
        model_types: language models that may be in it.

    Raises:
        BundleError: it is another one.
    """
    from transformers import AutoModelForCausalLM

    if trunk.config.model_type not in model_types:
        raise BundleError(
            f"the language model of {folder} is a {trunk.config.model_type!r}, expected "
            f"{' or '.join(repr(name) for name in model_types)}"
        )
    with torch.device("meta"):
        language = AutoModelForCausalLM.from_config(trunk.config, attn_implementation="eager")
    language.model, language.lm_head = trunk, head
    return language.eval()


def modules_of_checkpoint(
    config: CaptionerConfig,
    folder: Path,
    model: Any,
    vision: PixelModule,
    language: Any,
    image_tokens: ImageTokens,
    count: int,
) -> CaptionerModules:
    """The modules of a transformers checkpoint, with its own tokenizer and prompt.

    Args:
        config: the bundle's ``[captioner]``.
        folder: the checkpoint.
        model: the whole vision-language model.
        vision: its vision part.
        language: its language model, from ``causal_language_model``.
        image_tokens: how its prompts write a picture.
        count: visual tokens T of a picture.

    Raises:
        BundleError: a file is missing or does not fit.
    """
    image_token_id = model.config.image_token_id
    return CaptionerModules(
        vision=vision.eval(),
        language=language,
        tokenizer_json=tokenizer_json_from_checkpoint(folder),
        image_size=vision.pixels.image_size,
        resize=vision.pixels.resize,
        prompt_ids=prompt_from_checkpoint(config, folder, image_tokens, count, image_token_id),
        image_token_id=image_token_id,
        stop_ids=_stop_ids_of(model, folder),
    )


def _stop_ids_of(model: Any, folder: Path) -> list[int]:
    """The tokens at which a checkpoint's own ``generate()`` ends.

    Raises:
        BundleError: it names none.
    """
    found = model.generation_config.eos_token_id
    if found is None:
        raise BundleError(
            f"{folder} names no eos_token_id (generation_config.json, config.json), so no caption "
            "would end; download the files of the original repository"
        )
    return sorted(found) if isinstance(found, list) else [int(found)]
