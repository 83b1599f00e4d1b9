"""Checkpoints of the hub's detector families with random weights, tiny or at true size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from architectures import spread_weights
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    HGNetV2Config,
    RfDetrConfig,
    RfDetrDinov2Config,
    RfDetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

from builders.config import DetectorConfig

STAGES = ["stage2", "stage3", "stage4"]
LABELS = {0: "person", 1: "bottle", 2: "cup", 3: "tie"}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class DetectorArchitecture:
    """What a detector's checkpoint is made of.

    Attributes:
        family: of the bundle file.
        model: makes the model.
        size: side of its pictures.
        normalises: whether its pixels are taken to mean 0.
        processor: name of the class in transformers that prepares its pictures.
        options: further keys of ``preprocessor_config.json``.
    """

    family: str
    model: Callable[[], Any]
    size: int
    normalises: bool
    processor: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """``preprocessor_config.json``, as it stands in the original repositories."""
        return {
            "do_convert_annotations": True,
            "do_normalize": self.normalises,
            "do_pad": False,
            "do_rescale": True,
            "do_resize": True,
            "format": "coco_detection",
            "image_mean": MEAN,
            "image_processor_type": self.processor,
            "image_std": STD,
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": self.size, "width": self.size},
        } | self.options


def rt_detr_v2(size: int, backbone: dict[str, Any], **sizes: Any) -> DetectorArchitecture:
    """An RT-DETR v2; ``sizes`` are of encoder and decoder."""

    def make() -> Any:
        resnet = RTDetrResNetConfig(layer_type="basic", out_features=STAGES, **backbone)
        return RTDetrV2ForObjectDetection(RTDetrV2Config(backbone_config=resnet.to_dict(), **sizes))

    return DetectorArchitecture("rt_detr_v2", make, size, False, "RTDetrImageProcessor")


def d_fine(size: int, backbone: dict[str, Any], **sizes: Any) -> DetectorArchitecture:
    """A D-FINE; ``sizes`` are of encoder and decoder."""

    def make() -> Any:
        hgnet = HGNetV2Config(out_features=STAGES, use_learnable_affine_block=True, **backbone)
        return DFineForObjectDetection(DFineConfig(backbone_config=hgnet.to_dict(), **sizes))

    return DetectorArchitecture("d_fine", make, size, False, "RTDetrImageProcessor")


def rf_detr(size: int, backbone: dict[str, Any], **sizes: Any) -> DetectorArchitecture:
    """An RF-DETR; ``sizes`` are of the decoder."""

    def make() -> Any:
        dinov2 = RfDetrDinov2Config(num_windows=2, **backbone)
        return RfDetrForObjectDetection(RfDetrConfig(backbone_config=dinov2.to_dict(), **sizes))

    return DetectorArchitecture("rf_detr", make, size, True, "DetrImageProcessor")


_ENCODER = {"encoder_hidden_dim": 16, "encoder_ffn_dim": 32, "encoder_attention_heads": 2}
_DECODER = {
    "d_model": 16,
    "num_queries": 20,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 32,
    "decoder_attention_heads": 2,
    "decoder_layers": 2,
    "id2label": LABELS,
}

TINY: dict[str, DetectorArchitecture] = {
    "rt_detr_v2": rt_detr_v2(
        64,
        {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1]},
        encoder_in_channels=[24, 32, 40],
        **_ENCODER,
        **_DECODER,
    ),
    "d_fine": d_fine(
        64,
        {
            "stem_channels": [3, 8, 8],
            "stage_in_channels": [8, 16, 16, 24],
            "stage_mid_channels": [8, 8, 8, 8],
            "stage_out_channels": [16, 16, 24, 32],
            "stage_num_blocks": [1, 1, 1, 1],
            "stage_numb_of_layers": [2, 2, 2, 2],
            "hidden_sizes": [16, 16, 24, 32],
        },
        encoder_in_channels=[16, 24, 32],
        decoder_n_points=[2, 3, 2],
        **_ENCODER,
        **_DECODER,
    ),
    "rf_detr": rf_detr(
        64,
        {
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            # Its positions are for another size, so every use interpolates them.
            "image_size": 96,
            "patch_size": 8,
            "out_indices": [1, 2, 3, 4],
        },
        d_model=32,
        num_queries=20,
        decoder_ffn_dim=32,
        decoder_layers=2,
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=4,
        group_detr=2,
        id2label=LABELS,
    ),
}

_COCO = {number: f"class {number}" for number in range(80)}

# As the smallest of a family is. Not of RF-DETR, which chooses among its own proposals: of random
# weights these are so close that each runtime chooses others.
TRUE_SIZE: dict[str, DetectorArchitecture] = {
    "rtdetr_v2_r18vd": rt_detr_v2(
        640,
        {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]},
        encoder_in_channels=[128, 256, 512],
        hidden_expansion=0.5,
        decoder_layers=3,
        id2label=_COCO,
    ),
    "dfine-small": d_fine(
        640,
        {
            "stem_channels": [3, 16, 16],
            "stage_in_channels": [16, 64, 256, 512],
            "stage_mid_channels": [16, 32, 64, 128],
            "stage_out_channels": [64, 256, 512, 1024],
            "stage_num_blocks": [1, 1, 2, 1],
            "stage_numb_of_layers": [3, 3, 3, 3],
            "hidden_sizes": [64, 256, 512, 1024],
        },
        encoder_in_channels=[256, 512, 1024],
        hidden_expansion=0.5,
        depth_mult=0.34,
        decoder_layers=3,
        decoder_n_points=[3, 6, 3],
        id2label=_COCO,
    ),
}


def write_detector(architecture: DetectorArchitecture, folder: Path) -> Path:
    """Write config, weights and pixel settings like a hub repository's."""
    torch.manual_seed(0)
    model = architecture.model()
    spread_weights(model)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(architecture.settings))
    return folder


def detector_config(
    architecture: DetectorArchitecture, folder: Path, **options: Any
) -> DetectorConfig:
    """``[object_detector]`` of a bundle with a checkpoint that ``write_detector`` wrote."""
    return DetectorConfig(architecture.family, str(folder), **({"boxes": 8} | options))
