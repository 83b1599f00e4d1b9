"""``image_encoder``: pixels to an L2-normalised vector, with the normalisation in the graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from bls_models.errors import BundleError
from builders.config import ImageEncoderConfig, find_checkpoint

# EfficientNet-Lite was trained on (x - 127) / 128 of 0..255 pixels.
PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0


class EfficientNetLiteEncoder(torch.nn.Module):
    """UINT8 pixels (B, S, S, 3), RGB, to FP32 unit vectors (B, 1280): pooled last features."""

    def __init__(self, trunk: torch.nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        pixels = (image.permute(0, 3, 1, 2).float() - PIXEL_MEAN) / PIXEL_SCALE  # (B, 3, S, S)
        extract = cast(Callable[[torch.Tensor], torch.Tensor], self.trunk.extract_features)
        features = extract(pixels)  # (B, 1280, S/32, S/32)
        return torch.nn.functional.normalize(features.mean(dim=(2, 3)), dim=1)


def efficientnet_lite0_from_checkpoint(path: Path) -> EfficientNetLiteEncoder:
    """EfficientNet-Lite0 with the weights of a ``.pth`` state dict.

    Raises:
        BundleError: the file's tensors are not those of EfficientNet-Lite0.
    """
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(
            f"{path} does not hold EfficientNet-Lite0 weights: {str(error)[:300]}"
        ) from error
    return EfficientNetLiteEncoder(model).eval()


FAMILIES: dict[str, Callable[[Path], torch.nn.Module]] = {
    "efficientnet_lite0": efficientnet_lite0_from_checkpoint,
}


def image_encoder_from_config(config: ImageEncoderConfig) -> torch.nn.Module:
    """The torch module that a bundle's ``[image_encoder]`` describes.

    Raises:
        BundleError: unknown family, or a checkpoint that is missing or does not fit.
    """
    if config.family not in FAMILIES:
        raise BundleError(
            f"unknown image_encoder family {config.family!r}; known: {', '.join(FAMILIES)}"
        )
    return FAMILIES[config.family](find_checkpoint(config.checkpoint))
