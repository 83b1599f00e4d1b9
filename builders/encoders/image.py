"""``image_encoder``: pixels to an L2-normalised vector, with the normalisation in the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch

from bls_models.errors import BundleError
from builders.checkpoints.pixel_settings import PixelSettings, pixel_settings
from builders.checkpoints.pretrained import model_from_checkpoint
from builders.checkpoints.references import find_checkpoint
from builders.config import ImageEncoderConfig
from builders.encoders.pixel_module import PixelModule

# EfficientNet-Lite was trained on (x - 127) / 128 of 0..255 pixels.
EFFICIENTNET_MEAN = (127 / 128,) * 3
EFFICIENTNET_RESCALE = 1 / 128
# Pixels a side of what one cell of the last feature map stands for.
EFFICIENTNET_CELL = 32

Pooling = Callable[[Any, torch.Tensor], torch.Tensor]


class ImageEncoder(PixelModule):
    """UINT8 pixels (B, S, S, 3), RGB, to FP32 unit vectors (B, D).

    Args:
        trunk: the pretrained model.
        pooling: from the trunk and normalised pixels (B, 3, M, M) to vectors (B, D) of any length.
        pixels: S, M and the normalisation.
    """

    def __init__(self, trunk: torch.nn.Module, pooling: Pooling, pixels: PixelSettings) -> None:
        super().__init__(pixels)
        self.trunk = trunk
        self.pooling = pooling

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        vectors = self.pooling(self.trunk, self.normalised(image))
        return torch.nn.functional.normalize(vectors, dim=1)


class CentreWeightedMean(torch.nn.Module):
    """Pools a feature map (B, D, S, S), cells near the centre counting more.

    What is photographed stands in the middle; at the border are its neighbours.

    Args:
        side: S, cells a side.
        sigma: standard deviation of the Gaussian weight, in cells, above 0.

    Raises:
        BundleError: sigma is not above 0.
    """

    weights: torch.Tensor

    def __init__(self, side: int, sigma: float) -> None:
        super().__init__()
        if not sigma > 0:
            raise BundleError(
                f"pooling_sigma {sigma} is not above 0; leave it out for a plain mean"
            )
        distance = torch.arange(side) - (side - 1) / 2
        line = torch.exp(-(distance**2) / (2 * sigma**2))
        weights = torch.outer(line, line)
        self.register_buffer("weights", weights / weights.sum(), persistent=False)

    def forward(self, trunk: Any, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors (B, D)."""
        features = cast(torch.Tensor, trunk.extract_features(pixels))  # (B, D, S, S)
        return (features * self.weights).sum(dim=(2, 3))


def efficientnet_lite0_from_config(config: ImageEncoderConfig) -> ImageEncoder:
    """EfficientNet-Lite0 with the weights of a ``.pth`` state dict; pooled last features.

    Raises:
        BundleError: the file's tensors are not those of EfficientNet-Lite0, or the bundle file
            lacks the sizes, which such a checkpoint does not name.
    """
    from efficientnet_lite_pytorch import EfficientNet

    if config.image_size is None or config.resize is None:
        raise BundleError(
            "efficientnet_lite0 needs image_size and resize in the bundle's [image_encoder]; "
            "it was trained with 224"
        )
    path = find_checkpoint(config.checkpoint)
    model = EfficientNet.from_name("efficientnet-lite0")
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    # Other tensors raise RuntimeError, another kind of file errors of the pickle and zip readers.
    except Exception as error:
        raise BundleError(
            f"{path} does not hold EfficientNet-Lite0 weights: {str(error)[:300]}"
        ) from error
    pixels = PixelSettings(
        image_size=config.image_size,
        model_size=config.image_size,
        resize=config.resize,
        rescale=EFFICIENTNET_RESCALE,
        mean=EFFICIENTNET_MEAN,
        std=(1.0, 1.0, 1.0),
        keep=config.keep,
    )
    if config.pooling_sigma is None:
        return ImageEncoder(model, _mean_of_features, pixels).eval()
    pooling = CentreWeightedMean(config.image_size // EFFICIENTNET_CELL, config.pooling_sigma)
    return ImageEncoder(model, pooling, pixels).eval()


def dinov2_from_config(config: ImageEncoderConfig) -> ImageEncoder:
    """DINOv2; the CLS token after the last layer norm.

    Raises:
        BundleError: the checkpoint does not fit, or the size is no multiple of the patches'.
    """
    folder = find_checkpoint(config.checkpoint)
    model = model_from_checkpoint(folder, config.family, ["dinov2"], "Dinov2Model")
    pixels = pixel_settings(config, folder)
    _check_patches(config.family, pixels.model_size, model.config.patch_size)
    # The model interpolates its position embeddings to the size of each input. The size is fixed
    # here, so it is done once, and no engine needs to know bicubic interpolation.
    embeddings = model.embeddings
    side = pixels.model_size
    patches = torch.empty(1, (side // model.config.patch_size) ** 2 + 1, model.config.hidden_size)
    with torch.no_grad():
        positions = embeddings.interpolate_pos_encoding(patches, side, side)
    embeddings.position_embeddings = torch.nn.Parameter(positions)
    return ImageEncoder(model, _first_token, pixels).eval()


def siglip_from_config(config: ImageEncoderConfig) -> ImageEncoder:
    """The vision tower of SigLIP, or of SigLIP 2 with fixed resolution; its pooling head.

    Raises:
        BundleError: the checkpoint does not fit, or the size is not the model's.
    """
    folder = find_checkpoint(config.checkpoint)
    types = ["siglip", "siglip_vision_model"]
    model = model_from_checkpoint(folder, config.family, types, "SiglipVisionModel")
    if not model.config.vision_use_head:
        raise BundleError(
            f"{folder} has no attention-pooling head (vision_use_head is false), which "
            "siglip_vision needs; use a checkpoint of the whole model"
        )
    pixels = pixel_settings(config, folder)
    _check_fixed_size(config.family, pixels.model_size, model.config.image_size)
    return ImageEncoder(model, _pooler_output, pixels).eval()


def clip_from_config(config: ImageEncoderConfig) -> ImageEncoder:
    """The vision tower of CLIP, with its projection.

    Raises:
        BundleError: the checkpoint does not fit, or the size is not the model's.
    """
    folder = find_checkpoint(config.checkpoint)
    types = ["clip", "clip_vision_model"]
    model = model_from_checkpoint(folder, config.family, types, "CLIPVisionModelWithProjection")
    pixels = pixel_settings(config, folder)
    _check_fixed_size(config.family, pixels.model_size, model.config.image_size)
    return ImageEncoder(model, _image_embeds, pixels).eval()


FAMILIES: dict[str, Callable[[ImageEncoderConfig], ImageEncoder]] = {
    "efficientnet_lite0": efficientnet_lite0_from_config,
    "dinov2": dinov2_from_config,
    "siglip_vision": siglip_from_config,
    "clip_vision": clip_from_config,
}


def image_encoder_from_config(config: ImageEncoderConfig) -> ImageEncoder:
    """The torch module that a bundle's ``[image_encoder]`` describes.

    Raises:
        BundleError: unknown family, or a checkpoint that is missing or does not fit.
    """
    if config.family not in FAMILIES:
        raise BundleError(
            f"unknown image_encoder family {config.family!r}; known: {', '.join(FAMILIES)}"
        )
    if config.pooling_sigma is not None and config.family != "efficientnet_lite0":
        raise BundleError(
            f"pooling_sigma is for efficientnet_lite0, whose features are pooled; {config.family} "
            "pools by itself, so leave it out"
        )
    return FAMILIES[config.family](config)


def _mean_of_features(trunk: Any, pixels: torch.Tensor) -> torch.Tensor:
    features = cast(torch.Tensor, trunk.extract_features(pixels))  # (B, D, M/32, M/32)
    return features.mean(dim=(2, 3))


def _first_token(trunk: Any, pixels: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, trunk(pixel_values=pixels).last_hidden_state[:, 0])


def _pooler_output(trunk: Any, pixels: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, trunk(pixel_values=pixels).pooler_output)


def _image_embeds(trunk: Any, pixels: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, trunk(pixel_values=pixels).image_embeds)


def _check_patches(family: str, size: int, patch: int) -> None:
    if size % patch:
        low = size // patch * patch
        raise BundleError(
            f"{family}: image_size {size} is no multiple of the model's patches of {patch} "
            f"pixels; set image_size = {low or patch} or {low + patch}"
        )


def _check_fixed_size(family: str, size: int, model_size: int) -> None:
    if size != model_size:
        raise BundleError(
            f"{family}: image_size {size}, but the model's position embeddings are for "
            f"{model_size} and are not interpolated; set image_size = {model_size}, leave it "
            "out, or use a checkpoint of that size (only dinov2 takes other sizes)"
        )
