"""Checkpoint folders in the layout of Hugging Face transformers: checked, then loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bls_models.errors import BundleError
from builders.checkpoints.hub import has_weights

# Most names of weights that a message lists.
LISTED = 3


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint folder.

    Raises:
        BundleError: it is missing or no JSON object.
    """
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"checkpoint {folder} has no {name}; give a folder in the layout of the Hugging Face "
            "hub, with the files of the original repository"
        ) from error
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds no JSON object; download it again")
    return content


def model_from_checkpoint(
    folder: Path, family: str, model_types: Sequence[str], model_class: str, **options: Any
) -> Any:
    """Load a transformers model in float32, only if the folder really holds all of it.

    Args:
        folder: config and weights.
        family: the bundle's family, for messages.
        model_types: values of the config's ``model_type`` that the family can load.
        model_class: name of the class in ``transformers``.
        options: further arguments of ``from_pretrained``.

    Returns:
        The model in evaluation mode, with plain (exportable) attention.

    Raises:
        BundleError: another architecture, or weights that are missing, damaged or of other sizes.
    """
    _check_folder(folder, family, model_types)
    # Reading settings needs neither, and they take seconds to import.
    import torch
    import transformers
    from transformers.utils import logging

    # What it would report about weights is checked below.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, model_class).from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    # Damaged files raise errors of the safetensors and pickle readers, wrong sizes RuntimeError.
    except Exception as error:
        raise BundleError(
            f"the weights of {folder} cannot be loaded as {model_class} "
            f"({type(error).__name__}: {str(error)[:300]}); download the checkpoint again"
        ) from error
    # Missing weights would be random ones.
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        listed = ", ".join(missing[:LISTED]) + (", ..." if len(missing) > LISTED else "")
        raise BundleError(
            f"{folder} lacks {len(missing)} weights that {family} needs ({listed}); "
            "use a checkpoint of the whole model"
        )
    return model.eval()


def _check_folder(folder: Path, family: str, model_types: Sequence[str]) -> None:
    """Refuse a folder without weights, or of another architecture."""
    config = read_settings(folder, "config.json")
    found = config.get("model_type")
    if found not in model_types:
        architectures = ", ".join(config.get("architectures") or ["no architecture named"])
        raise BundleError(
            f"{folder} is a {found!r} checkpoint ({architectures}); {family} needs "
            f"{' or '.join(repr(name) for name in model_types)}: "
            "correct the bundle's family or its checkpoint"
        )
    if not has_weights(folder):
        raise BundleError(
            f"checkpoint {folder} has no weights (model.safetensors); "
            "download them from the original repository"
        )
