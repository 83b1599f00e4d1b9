"""Checkpoint folders of heads that were trained here on another model's trunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bls_models.errors import BundleError
from builders.checkpoints.pretrained import read_settings

if TYPE_CHECKING:
    import torch

SETTINGS_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

S = TypeVar("S")


def settings_of(folder: Path, family: str, kind: type[S], remedy: str) -> S:
    """What ``config.json`` of a folder says.

    Args:
        folder: the checkpoint.
        family: its ``model_type`` must be this.
        kind: a dataclass of all that stands there.
        remedy: what to do with a damaged one, for messages.

    Raises:
        BundleError: it is missing, damaged or of another model.
    """
    content = read_settings(folder, SETTINGS_FILE)
    found = content.get("model_type")
    if found != family:
        raise BundleError(
            f"{folder} is a {found!r} checkpoint; {family} needs {family!r}: "
            "correct the bundle's family or its checkpoint"
        )
    try:
        return kind(**content)
    except TypeError as error:
        raise BundleError(f"{folder / SETTINGS_FILE} is damaged ({error}); {remedy}") from error


def load_weights(
    folder: Path, load: Callable[[dict[str, torch.Tensor]], object], remedy: str
) -> None:
    """Give a folder's weights to ``load``, which raises RuntimeError where they do not fit.

    Raises:
        BundleError: they are missing, damaged or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS_FILE
    try:
        load(load_file(path))
    # Damaged files raise SafetensorError.
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BundleError(
            f"{path} does not hold the weights that {SETTINGS_FILE} describes: "
            f"{str(error)[:300]}; {remedy}"
        ) from error


def write_head(folder: Path, settings: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Write settings, a dataclass, and weights, in FP16."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(settings), indent=2) + "\n"
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
    halves = {name: value.half().contiguous() for name, value in weights.items()}
    (folder / WEIGHTS_FILE).write_bytes(save(halves))
