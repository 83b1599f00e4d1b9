"""A small detector on the EfficientNet-Lite0 trunk of the mini bundle: where something is.

The checkpoint folder holds an anchor-free head; the trunk comes from its own checkpoint, which
``config.json`` names. There are no classes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from bls_models.errors import BundleError
from builders.checkpoints.own_heads import load_weights, settings_of, write_head
from builders.config import DetectorConfig, ImageEncoderConfig
from builders.detectors.modules import DetectorModule
from builders.encoders.image import ImageEncoder, efficientnet_lite0_from_config

FAMILY = "efficientnet_detector"
RETRAIN = "restore the folder, or train it anew with `python -m builders.detection_training`"

# The trunk's last blocks before its features shrink to 1/32, and at 1/32, with their channels.
STRIDES = (16, 32)
BLOCKS = (10, 15)
CHANNELS = (112, 320)

# Side of the depthwise kernels: wide ones, as an object may be eight cells across.
KERNEL = 5

# Scores and sides, in cells, that a new head gives everywhere; as detectors are usually begun.
FIRST_SCORE = 0.01
FIRST_SIDE = 1.5

Features = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class DetectorSettings:
    """``config.json`` of a checkpoint folder.

    Attributes:
        model_type: ``efficientnet_detector``.
        trunk: the trunk's checkpoint (see ``builders.checkpoints.references.find_checkpoint``).
        image_size: side S of the square that the head was trained with, a multiple of 32.
        resize: how a picture becomes that square.
        width: channels W of the head.
        depth: blocks D that each of the two maps goes through before boxes and scores part.
    """

    model_type: str
    trunk: str
    image_size: int
    resize: str
    width: int
    depth: int


class DetectorHead(nn.Module):
    """What is trained: from the trunk's two maps to a box and a logit for each of their cells.

    The coarse map has seen the whole picture and is added to the fine one, and what comes of that
    back to the coarse one. Weights are random until they are loaded.

    Args:
        width: see ``DetectorSettings``.
        depth: likewise.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_convolution(channels, width, 1) for channels in CHANNELS)
        self.coarse = nn.Sequential(*(_block(width) for _ in range(depth)))
        self.fine = nn.Sequential(*(_block(width) for _ in range(depth)))
        self.down = _block(width, stride=2)
        self.both = _block(width)
        self.box = nn.ModuleList(_tower(width, 4) for _ in STRIDES)
        self.score = nn.ModuleList(_tower(width, 1) for _ in STRIDES)
        first_score, first_side = (
            torch.logit(torch.tensor(FIRST_SCORE)),
            torch.expm1(torch.tensor(FIRST_SIDE)).log(),
        )
        for towers, value in ((self.score, first_score), (self.box, first_side)):
            for tower in towers:
                nn.init.constant_(cast(Any, tower).out.bias, float(value))

    def forward(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes and logits of a batch.

        Args:
            features: (B, 112, S / 16, S / 16) and (B, 320, S / 32, S / 32) of ``trunk_features``.

        Returns:
            (B, A, 4) in shares of the square, which may reach beyond it, and (B, A), where
            A = (S / 16)² + (S / 32)²; the cells of the fine map come first, row by row.
        """
        fine, coarse = (part(item) for part, item in zip(self.lateral, features, strict=True))
        coarse = self.coarse(coarse)
        fine = self.fine(fine + functional.interpolate(coarse, scale_factor=2, mode="nearest"))
        coarse = self.both(coarse + self.down(fine))
        boxes, logits = [], []
        for level, cells in enumerate((fine, coarse)):
            sides = functional.softplus(self.box[level](cells)).flatten(2).transpose(1, 2)
            boxes.append(_boxes_of_sides(sides, cells.shape[-1]))
            logits.append(self.score[level](cells).flatten(1))
        return torch.cat(boxes, dim=1), torch.cat(logits, dim=1)


class EfficientNetDetector(DetectorModule):
    """Trunk and head.

    Args:
        encoder: EfficientNet-Lite0 with its normalisation, of the square's size.
        head: trained.
        boxes: see ``DetectorModule``.
    """

    def __init__(self, encoder: ImageEncoder, head: DetectorHead, boxes: int) -> None:
        super().__init__(encoder.pixels, boxes)
        self.trunk = encoder.trunk
        self.head = head

    def candidates(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``DetectorModule``."""
        return cast(
            tuple[torch.Tensor, torch.Tensor], self.head(trunk_features(self.trunk, pixels))
        )


def trunk_features(trunk: Any, pixels: torch.Tensor) -> Features:
    """The maps that the head takes.

    Args:
        trunk: EfficientNet-Lite0.
        pixels: normalised, FP32 (B, 3, S, S).

    Returns:
        (B, 112, S / 16, S / 16) and (B, 320, S / 32, S / 32).
    """
    cells = trunk._swish(trunk._bn0(trunk._conv_stem(pixels)))
    maps = []
    for number, block in enumerate(trunk._blocks):
        cells = block(cells)
        if number in BLOCKS:
            maps.append(cells)
    fine, coarse = maps
    return fine, coarse


def efficientnet_detector_from_checkpoint(
    config: DetectorConfig, path: Path
) -> EfficientNetDetector:
    """The detector of a checkpoint folder, in FP32 and evaluation mode.

    Args:
        config: of the bundle. There are no classes, so that ``ignored_labels`` must be empty.
        path: folder with ``config.json`` and ``model.safetensors``.

    Raises:
        BundleError: the folder holds no such checkpoint, or the bundle asks for what the model
            does not have.
    """
    if config.ignored_labels:
        raise BundleError(
            f"{FAMILY} tells no classes apart; leave ignored_labels out of the bundle's "
            "[object_detector]"
        )
    checkpoint = read_detector_checkpoint(path)
    settings = checkpoint.settings
    settings = replace(
        settings,
        image_size=config.image_size or settings.image_size,
        resize=config.resize or settings.resize,
    )
    encoder = detector_trunk(settings)
    cells = sum((settings.image_size // stride) ** 2 for stride in STRIDES)
    if not 1 <= config.boxes <= cells:
        raise BundleError(
            f"{FAMILY} has {cells} boxes for a picture of {settings.image_size} pixels; boxes is "
            f"{config.boxes} in the bundle's [object_detector]"
        )
    return EfficientNetDetector(encoder, checkpoint.head, config.boxes).eval()


def detector_trunk(settings: DetectorSettings) -> ImageEncoder:
    """The part of the detector that is not trained.

    Raises:
        BundleError: the trunk's checkpoint is missing or of another model, or the size is no
            multiple of the coarse map's cells.
    """
    if settings.image_size < 1 or settings.image_size % STRIDES[1]:
        raise BundleError(
            f"{FAMILY}: image_size {settings.image_size} is no multiple of {STRIDES[1]}; it was "
            "trained with 256"
        )
    return efficientnet_lite0_from_config(
        ImageEncoderConfig(
            "efficientnet_lite0", settings.trunk, settings.image_size, settings.resize
        )
    )


@dataclass(frozen=True)
class DetectorCheckpoint:
    """What a checkpoint folder holds; the head is in FP32 and evaluation mode."""

    settings: DetectorSettings
    head: DetectorHead

    def write(self, folder: Path) -> None:
        """Write the folder's files, the weights in FP16."""
        weights = {k: v for k, v in self.head.state_dict().items() if v.is_floating_point()}
        write_head(folder, self.settings, weights)


def read_detector_checkpoint(folder: Path) -> DetectorCheckpoint:
    """Read a checkpoint folder.

    Raises:
        BundleError: a file is missing, damaged or of another model.
    """
    settings = settings_of(folder, FAMILY, DetectorSettings, RETRAIN)
    head = DetectorHead(settings.width, settings.depth)
    # Counts of batches are of no use once trained, and not stored.
    counts = {k: v for k, v in head.state_dict().items() if not v.is_floating_point()}
    load_weights(folder, lambda weights: head.load_state_dict(counts | weights), RETRAIN)
    return DetectorCheckpoint(settings, head.eval())


def _boxes_of_sides(sides: torch.Tensor, side: int) -> torch.Tensor:
    """Boxes from the distances of their sides from the cells' centres.

    Args:
        sides: (B, side², 4), left, top, right and bottom, in cells.
        side: cells a side.

    Returns:
        (B, side², 4) in shares of the picture.
    """
    line = torch.arange(side, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    centres = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    return torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=-1) / side


def _tower(width: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(block=_block(width), out=nn.Conv2d(width, outputs, kernel_size=1))
    )


def _block(width: int, stride: int = 1) -> nn.Module:
    """A depthwise and a pointwise convolution."""
    return nn.Sequential(
        _convolution(width, width, KERNEL, stride, groups=width), _convolution(width, width, 1)
    )


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )
