"""InternVL captioners: an InternViT tower, pixel shuffle, a projector and a Qwen or Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from bls_models.errors import BundleError
from builders.captioners.modules import (
    CaptionerModules,
    causal_language_model,
    modules_of_checkpoint,
)
from builders.captioners.prompt import ImageTokens
from builders.checkpoints.pixel_settings import PixelSettings, whole_picture_settings
from builders.checkpoints.pretrained import model_from_checkpoint
from builders.config import CaptionerConfig
from builders.encoders.pixel_module import PixelModule

IMAGE_TOKENS = ImageTokens(
    placeholder="<IMG_CONTEXT>", before=("<img>",), visual="<IMG_CONTEXT>", after=("</img>",)
)
LANGUAGES = ["llama", "qwen2", "qwen3"]


class InternVLVision(PixelModule):
    """UINT8 pixels (B, S, S, 3), RGB, to visual tokens FP32 (B, T, H).

    Args:
        model: an ``InternVLModel``.
        pixels: S and the normalisation.
    """

    def __init__(self, model: Any, pixels: PixelSettings) -> None:
        super().__init__(pixels)
        self.tower = model.vision_tower
        self.projector = model.multi_modal_projector
        self._shuffled = model.pixel_shuffle
        self._ratio = model.config.downsample_ratio

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Visual tokens of a batch."""
        states = self.tower(pixel_values=self.normalised(image)).last_hidden_state
        patches = states[:, 1:]  # (B, side * side, width), without the CLS token
        side = int(patches.shape[1] ** 0.5)
        cells = patches.reshape(patches.shape[0], side, side, patches.shape[2])
        cells = self._shuffled(cells, scale_factor=self._ratio)
        tokens = cells.reshape(cells.shape[0], -1, cells.shape[-1])
        return cast(torch.Tensor, self.projector(tokens))


def internvl_captioner_from_checkpoint(config: CaptionerConfig, folder: Path) -> CaptionerModules:
    """InternVL on whole pictures, as one tile.

    Raises:
        BundleError: the checkpoint or the bundle's ``[captioner]`` does not fit.
    """
    model = model_from_checkpoint(
        folder, config.family, ["internvl"], "InternVLForConditionalGeneration"
    )
    found = model.config
    height, width = found.vision_config.image_size
    features = (found.vision_feature_layer, found.vision_feature_select_strategy)
    if height != width or features != (-1, "default"):
        raise BundleError(
            f"{folder} sees pictures of {width} x {height} pixels and takes features "
            f"{features[1]!r} of layer {features[0]}; {config.family} needs a square and "
            "'default' features of layer -1"
        )
    pixels = whole_picture_settings(config, folder, width)
    count = int((width // found.vision_config.patch_size[0] * found.downsample_ratio) ** 2)
    language = causal_language_model(model.model.language_model, model.lm_head, folder, LANGUAGES)
    vision = InternVLVision(model.model, pixels)
    return modules_of_checkpoint(config, folder, model, vision, language, IMAGE_TOKENS, count)
