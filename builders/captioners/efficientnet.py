"""A small captioner on the EfficientNet-Lite0 trunk of the mini bundle.

The checkpoint folder holds a projector and a Llama decoder; the trunk comes from its own
checkpoint, which ``config.json`` names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn import functional

from bls_models.errors import BundleError
from builders.captioners.modules import CaptionerModules
from builders.checkpoints.own_heads import SETTINGS_FILE, load_weights, settings_of, write_head
from builders.config import CaptionerConfig, ImageEncoderConfig
from builders.encoders.image import ImageEncoder, efficientnet_lite0_from_config

FAMILY = "efficientnet_llama"
TOKENIZER_FILE = "tokenizer.json"
RETRAIN = "restore the folder, or train it anew with `python -m builders.caption_training`"

# Two names of one tensor.
EMBEDDINGS = "language.model.embed_tokens.weight"
TIED = "language.lm_head.weight"

# The trunk's last map has 7 x 7 cells of 32 pixels. Windows of 3 cells, 2 apart, overlap by one.
IMAGE_SIZE = 224
CHANNELS = 1280
WINDOW, STRIDE = 3, 2
REGIONS = 9
VISUAL_TOKENS = REGIONS + 1

# Colours are counted on a picture of 56 x 56, where a cell of the map is 8 pixels wide.
COLOUR_SHRINK = 4
CELL = 8

# Makes shares of colours as large as the trunk's features, so that both are learnt as fast.
COLOUR_GAIN = 10.0


@dataclass(frozen=True)
class CaptionerSettings:
    """``config.json`` of a checkpoint folder.

    Attributes:
        model_type: ``efficientnet_llama``.
        trunk: the trunk's checkpoint (see ``builders.checkpoints.references.find_checkpoint``).
        resize: how a picture becomes the 224 x 224 square.
        colours: what the colour histogram counts, as six hex digits of sRGB.
        colour_spread: a pixel counts half for a colour at 1.18 times this distance, in units of
            the whole range of a channel.
        language: arguments of ``transformers.LlamaConfig``.
        prompt_ids: the prompt's tokens, with ``image_token_id`` for each visual token.
        image_token_id: see ``prompt_ids``.
        stop_ids: tokens that end a caption.
    """

    model_type: str
    trunk: str
    resize: str
    colours: list[str]
    colour_spread: float
    language: dict[str, Any]
    prompt_ids: list[int]
    image_token_id: int
    stop_ids: list[int]

    @property
    def features(self) -> int:
        """Length F of a visual token before the projector."""
        return CHANNELS + len(self.colours)


class VisualFeatures(torch.nn.Module):
    """UINT8 pixels (B, 224, 224, 3), RGB, to what the projector takes, FP32 (B, 10, F).

    Nine tokens are of regions and the last one of the whole picture. Each has the trunk's mean
    features and a histogram of colours, F = 1280 + number of colours. A trunk trained to tell
    kinds of things apart keeps little of their colour, hence the histogram.

    Args:
        encoder: EfficientNet-Lite0 with its normalisation.
        colours: see ``CaptionerSettings``.
        colour_spread: likewise.
    """

    centres: torch.Tensor

    def __init__(self, encoder: ImageEncoder, colours: list[str], colour_spread: float) -> None:
        super().__init__()
        self.encoder = encoder
        rgb = torch.tensor([list(bytes.fromhex(colour)) for colour in colours]) / 255
        self.register_buffer("centres", rgb[None, :, :, None, None], persistent=False)
        self.sharpness = 1 / (2 * colour_spread**2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Features of a batch."""
        trunk = cast(Any, self.encoder.trunk)
        features = trunk.extract_features(self.encoder.normalised(image))  # (B, 1280, 7, 7)
        histogram = self._colour_shares(image)  # (B, K, 56, 56)
        tokens = [_regions(features, 1), _regions(histogram, CELL) * COLOUR_GAIN]
        return torch.cat(tokens, dim=2)

    def _colour_shares(self, image: torch.Tensor) -> torch.Tensor:
        """How much each pixel of the shrunken picture counts for each colour; they add to 1."""
        pixels = functional.avg_pool2d(image.float().permute(0, 3, 1, 2) / 255, COLOUR_SHRINK)
        # Written out and not as a convolution, so that INT8 leaves it alone.
        distance = ((pixels[:, None] - self.centres) ** 2).sum(dim=2)
        return torch.softmax(-distance * self.sharpness, dim=1)


class CaptionVision(torch.nn.Module):
    """UINT8 pixels (B, 224, 224, 3), RGB, to visual tokens FP32 (B, 10, H)."""

    def __init__(self, features: VisualFeatures, projector: torch.nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.projector = projector

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Visual tokens of a batch."""
        return cast(torch.Tensor, self.projector(self.features(image)))


class CaptionerHead(torch.nn.Module):
    """What is trained: the projector and the Llama decoder.

    Weights are random until they are loaded; the embeddings are tied.
    """

    def __init__(self, settings: CaptionerSettings) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(**settings.language, attn_implementation="eager")
        self.projector = torch.nn.Linear(settings.features, config.hidden_size)
        self.language = LlamaForCausalLM(config)

    def weights(self) -> dict[str, torch.Tensor]:
        """Its tensors by name; the output layer is the embedding table and not among them."""
        return {k: v for k, v in self.state_dict().items() if k != TIED}

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Take tensors of ``weights``, of any float type.

        Raises:
            RuntimeError: a tensor is missing, unknown or of another shape.
        """
        self.load_state_dict(
            {TIED: weights[EMBEDDINGS], **weights} if EMBEDDINGS in weights else weights
        )


def efficientnet_captioner_from_checkpoint(config: CaptionerConfig, path: Path) -> CaptionerModules:
    """The captioner of a checkpoint folder, in FP32 and evaluation mode.

    Args:
        config: of the bundle; the model has a fixed prompt and size, so that ``prompt`` must be
            missing and ``image_size`` missing or 224.
        path: folder with ``config.json``, ``model.safetensors`` and ``tokenizer.json``.

    Raises:
        BundleError: the folder holds no such checkpoint, or the bundle asks for what the model
            does not have.
    """
    if config.prompt is not None or config.image_size not in (None, IMAGE_SIZE):
        raise BundleError(
            f"{FAMILY} has a fixed prompt and takes pictures of {IMAGE_SIZE} pixels; leave prompt "
            "and image_size out of the bundle's [captioner]"
        )
    checkpoint = read_captioner_checkpoint(path)
    settings, head = checkpoint.settings, checkpoint.head
    if config.resize is not None:
        settings = replace(settings, resize=config.resize)
    return CaptionerModules(
        vision=CaptionVision(visual_features(settings), head.projector).eval(),
        language=head.language,
        tokenizer_json=checkpoint.tokenizer_json,
        image_size=IMAGE_SIZE,
        resize=settings.resize,
        prompt_ids=settings.prompt_ids,
        image_token_id=settings.image_token_id,
        stop_ids=settings.stop_ids,
    )


def visual_features(settings: CaptionerSettings) -> VisualFeatures:
    """The part of the captioner that is not trained.

    Raises:
        BundleError: the trunk's checkpoint is missing or of another model.
    """
    encoder = efficientnet_lite0_from_config(
        ImageEncoderConfig("efficientnet_lite0", settings.trunk, IMAGE_SIZE, settings.resize)
    )
    return VisualFeatures(encoder, settings.colours, settings.colour_spread).eval()


@dataclass(frozen=True)
class CaptionerCheckpoint:
    """What a checkpoint folder holds; the head is in FP32 and evaluation mode."""

    settings: CaptionerSettings
    head: CaptionerHead
    tokenizer_json: str

    def write(self, folder: Path) -> None:
        """Write the folder's files, the weights in FP16."""
        write_head(folder, self.settings, self.head.weights())
        (folder / TOKENIZER_FILE).write_text(self.tokenizer_json, encoding="utf-8")


def read_captioner_checkpoint(folder: Path) -> CaptionerCheckpoint:
    """Read a checkpoint folder.

    Raises:
        BundleError: a file is missing, damaged or of another model.
    """
    settings = _read_settings(folder)
    head = CaptionerHead(settings)
    load_weights(folder, head.load_weights, RETRAIN)
    try:
        tokenizer_json = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"checkpoint {folder} has no {TOKENIZER_FILE}; {RETRAIN}") from error
    return CaptionerCheckpoint(settings, head.eval(), tokenizer_json)


def _read_settings(folder: Path) -> CaptionerSettings:
    settings = settings_of(folder, FAMILY, CaptionerSettings, RETRAIN)
    slots = settings.prompt_ids.count(settings.image_token_id)
    if slots != VISUAL_TOKENS:
        raise BundleError(
            f"{folder / SETTINGS_FILE}: the prompt has {slots} places for visual tokens, expected "
            f"{VISUAL_TOKENS}; {RETRAIN}"
        )
    return settings


def _regions(cells: torch.Tensor, cell: int) -> torch.Tensor:
    """Means over the nine windows and over all, (B, C, 7 * cell, 7 * cell) to (B, 10, C)."""
    windows = functional.avg_pool2d(cells, WINDOW * cell, STRIDE * cell).flatten(2)
    everything = cells.mean(dim=(2, 3))[:, :, None]
    return torch.cat([windows, everything], dim=2).transpose(1, 2)
