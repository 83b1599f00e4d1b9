"""Idefics3 captioners, SmolVLM among them: a SigLIP tower, pixel shuffle and a Llama."""

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

# A picture that is not split is written like the view of the whole beside the parts of one that is.
IMAGE_TOKENS = ImageTokens(
    placeholder="<image>",
    before=("<fake_token_around_image>", "<global-img>"),
    visual="<image>",
    after=("<fake_token_around_image>",),
)


class Idefics3Vision(PixelModule):
    """UINT8 pixels (B, S, S, 3), RGB, to visual tokens FP32 (B, T, H).

    Args:
        model: an ``Idefics3Model``.
        pixels: S and the normalisation.
    """

    positions: torch.Tensor

    def __init__(self, model: Any, pixels: PixelSettings) -> None:
        super().__init__(pixels)
        self.tower = model.vision_model
        self.connector = model.connector
        self.register_buffer("positions", self._positions(), persistent=False)

    def _positions(self) -> torch.Tensor:
        """Position embeddings (T', width) of a picture without padding.

        The model looks them up by fractions of the picture's sides, so that padded pictures of
        any aspect work. Here nothing is padded, and the ids are always the same.
        """
        embeddings = self.tower.embeddings
        seen: list[torch.Tensor] = []
        hook = embeddings.position_embedding.register_forward_hook(
            lambda _, __, output: seen.append(output)
        )
        side = self.pixels.model_size
        patches = side // embeddings.patch_size
        with torch.no_grad(), hook:
            embeddings(torch.zeros(1, 3, side, side), torch.ones(1, patches, patches) > 0)
        return seen[0][0]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Visual tokens of a batch."""
        patches = self.tower.embeddings.patch_embedding(self.normalised(image))
        states = patches.flatten(2).transpose(1, 2) + self.positions
        states = self.tower.encoder(inputs_embeds=states).last_hidden_state
        return cast(torch.Tensor, self.connector(self.tower.post_layernorm(states)))


def idefics3_captioner_from_checkpoint(config: CaptionerConfig, folder: Path) -> CaptionerModules:
    """Idefics3 on whole pictures of its own size, without parts.

    Raises:
        BundleError: the checkpoint or the bundle's ``[captioner]`` does not fit.
    """
    model = model_from_checkpoint(
        folder, config.family, ["idefics3"], "Idefics3ForConditionalGeneration"
    )
    vision_config = model.config.vision_config
    pixels = whole_picture_settings(config, folder, vision_config.image_size)
    side = vision_config.image_size // vision_config.patch_size
    factor = model.config.scale_factor
    if side % factor:
        raise BundleError(
            f"{folder}: {side} patches a side cannot be shuffled by scale_factor {factor}; "
            "use config.json of the original repository"
        )
    language = causal_language_model(model.model.text_model, model.lm_head, folder, ["llama"])
    vision = Idefics3Vision(model.model, pixels)
    count = (side // factor) ** 2
    return modules_of_checkpoint(config, folder, model, vision, language, IMAGE_TOKENS, count)
