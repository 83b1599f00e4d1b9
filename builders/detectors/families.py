"""Which detector families there are, and what must hold of each one's module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from bls_models.errors import BundleError
from builders.checkpoints.references import find_checkpoint
from builders.config import DetectorConfig
from builders.detectors.modules import DetectorModule


# Each family brings its own libraries, so a family is imported when a bundle has it.
def _efficientnet(config: DetectorConfig, path: Path) -> DetectorModule:
    from builders.detectors.efficientnet import efficientnet_detector_from_checkpoint

    return efficientnet_detector_from_checkpoint(config, path)


def _rt_detr_v2(config: DetectorConfig, path: Path) -> DetectorModule:
    from builders.detectors.detr import rt_detr_v2_from_checkpoint

    return rt_detr_v2_from_checkpoint(config, path)


def _d_fine(config: DetectorConfig, path: Path) -> DetectorModule:
    from builders.detectors.detr import d_fine_from_checkpoint

    return d_fine_from_checkpoint(config, path)


def _rf_detr(config: DetectorConfig, path: Path) -> DetectorModule:
    from builders.detectors.detr import rf_detr_from_checkpoint

    return rf_detr_from_checkpoint(config, path)


FAMILIES: dict[str, Callable[[DetectorConfig, Path], DetectorModule]] = {
    "efficientnet_detector": _efficientnet,
    "rt_detr_v2": _rt_detr_v2,
    "d_fine": _d_fine,
    "rf_detr": _rf_detr,
}


def detector_from_config(config: DetectorConfig) -> DetectorModule:
    """The torch module that a bundle's ``[object_detector]`` describes.

    Raises:
        BundleError: unknown family, a value out of range, or a checkpoint that is missing or
            does not fit.
    """
    if config.family not in FAMILIES:
        raise BundleError(
            f"unknown object_detector family {config.family!r}; known: {', '.join(FAMILIES)}"
        )
    if config.boxes < 1:
        raise BundleError(f"object_detector: boxes is {config.boxes}, expected 1 or more")
    if not 0 <= config.min_score <= 1:
        raise BundleError(f"object_detector: min_score is {config.min_score}, expected 0 to 1")
    module = FAMILIES[config.family](config, find_checkpoint(config.checkpoint))
    _check_boxes(config, module)
    return module


def _check_boxes(config: DetectorConfig, module: DetectorModule) -> None:
    """Check that there are as many boxes as are to be chosen."""
    size = module.pixels.image_size
    with torch.inference_mode():
        image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        box, _ = module.candidates(module.normalised(image))
    if box.shape[1] < config.boxes:
        raise BundleError(
            f"object_detector: boxes is {config.boxes}, but the model of {config.checkpoint} gives "
            f"{box.shape[1]}; set boxes to that or less"
        )
