"""The captioner: a vision model whose tokens a causal language model reads within a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bls_models.errors import BundleError
from builders.caption_prompt import ImageTokens, prompt_from_checkpoint
from builders.config import CaptionerConfig, find_checkpoint
from builders.pixel_module import PixelModule
from builders.tokenizer import tokenizer_json_from_checkpoint


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
        resize: how a picture becomes that square (see ``bls_models.images.Preprocess``).
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


# Each family brings its own libraries, so a family is imported when a bundle has it.
def _efficientnet_llama(config: CaptionerConfig, path: Path) -> CaptionerModules:
    from builders.efficientnet_captioner import efficientnet_captioner_from_checkpoint

    return efficientnet_captioner_from_checkpoint(config, path)


def _idefics3(config: CaptionerConfig, path: Path) -> CaptionerModules:
    from builders.idefics3_captioner import idefics3_captioner_from_checkpoint

    return idefics3_captioner_from_checkpoint(config, path)


def _internvl(config: CaptionerConfig, path: Path) -> CaptionerModules:
    from builders.internvl_captioner import internvl_captioner_from_checkpoint

    return internvl_captioner_from_checkpoint(config, path)


FAMILIES: dict[str, Callable[[CaptionerConfig, Path], CaptionerModules]] = {
    "efficientnet_llama": _efficientnet_llama,
    "idefics3": _idefics3,
    "internvl": _internvl,
}


def captioner_from_config(config: CaptionerConfig) -> CaptionerModules:
    """The torch modules that a bundle's ``[captioner]`` describes.

    Raises:
        BundleError: unknown family, a value out of range, or a checkpoint that is missing or
            does not fit.
    """
    if config.family not in FAMILIES:
        raise BundleError(
            f"unknown captioner family {config.family!r}; known: {', '.join(FAMILIES)}"
        )
    if config.max_new_tokens < 1:
        raise BundleError(
            f"captioner: max_new_tokens is {config.max_new_tokens}, expected 1 or more"
        )
    if not 0 <= config.min_confidence <= 1:
        raise BundleError(f"captioner: min_confidence is {config.min_confidence}, expected 0 to 1")
    modules = FAMILIES[config.family](config, find_checkpoint(config.checkpoint))
    _check_language_model(config, modules)
    _check_vision(config, modules)
    return modules


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


def _check_language_model(config: CaptionerConfig, modules: CaptionerModules) -> None:
    """Check what the decoder's graph takes for granted."""
    found = modules.language.config
    positions = len(modules.prompt_ids) + config.max_new_tokens
    if positions > found.max_position_embeddings:
        raise BundleError(
            f"captioner: the prompt's {len(modules.prompt_ids)} tokens and max_new_tokens "
            f"{config.max_new_tokens} exceed the model's {found.max_position_embeddings} positions"
        )
    layers = set(getattr(found, "layer_types", None) or ["full_attention"])
    if layers != {"full_attention"} or not hasattr(modules.language.model, "rotary_emb"):
        raise BundleError(
            f"captioner: the language model {type(modules.language).__name__} of "
            f"{config.checkpoint} has layers of {', '.join(sorted(layers))}; expected rotary "
            "positions and full attention in every layer"
        )
    rows = modules.language.get_input_embeddings().num_embeddings
    unknown = {*modules.prompt_ids, *modules.stop_ids} - set(range(rows))
    if unknown or not modules.stop_ids:
        raise BundleError(
            f"captioner: prompt and stop tokens must be of the model's {rows}, and one must end "
            f"a caption; unknown are {sorted(unknown)}, stop tokens are {modules.stop_ids}"
        )


def _check_vision(config: CaptionerConfig, modules: CaptionerModules) -> None:
    """Check that the visual tokens fit into the prompt and the language model."""
    image = torch.zeros(1, modules.image_size, modules.image_size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        found = tuple(modules.vision(image).shape[1:])
    expected = (modules.visual_tokens, modules.language.config.hidden_size)
    if found != expected:
        raise BundleError(
            f"captioner: a picture gives visual tokens of shape {found}, prompt and language "
            f"model of {config.checkpoint} take {expected}; use one checkpoint's own files"
        )
