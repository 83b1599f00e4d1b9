"""Which captioner families there are, and what must hold of each one's modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from bls_models.errors import BundleError
from builders.captioners.modules import CaptionerModules
from builders.checkpoints.references import find_checkpoint
from builders.config import CaptionerConfig


# Each family brings its own libraries, so a family is imported when a bundle has it.
def _efficientnet_llama(config: CaptionerConfig, path: Path) -> CaptionerModules:
    from builders.captioners.efficientnet import efficientnet_captioner_from_checkpoint

    return efficientnet_captioner_from_checkpoint(config, path)


def _idefics3(config: CaptionerConfig, path: Path) -> CaptionerModules:
    from builders.captioners.idefics3 import idefics3_captioner_from_checkpoint

    return idefics3_captioner_from_checkpoint(config, path)


def _internvl(config: CaptionerConfig, path: Path) -> CaptionerModules:
    from builders.captioners.internvl import internvl_captioner_from_checkpoint

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
