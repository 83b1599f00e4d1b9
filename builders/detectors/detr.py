"""Detectors of the DETR kind from the hub: RT-DETR v2, D-FINE and RF-DETR.

Such a model gives a fixed number of boxes, each with a logit for each class, and leaves nothing to
suppress. Which class something is of is not asked here, only whether it is of any that counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from bls_models.errors import BundleError
from builders.checkpoints.pixel_settings import PixelSettings, pixel_settings
from builders.checkpoints.pretrained import model_from_checkpoint
from builders.config import DetectorConfig
from builders.detectors.modules import DetectorModule

# Most names of classes that a message lists.
LISTED = 5

# Switches off transformers' checks of shapes, which ONNX has no operator for.
NO_CHECKS = "TRANSFORMERS_DISABLE_TORCH_CHECK"


class DetrDetector(DetectorModule):
    """A DETR, with the score of a box that of its best class.

    Args:
        predict: normalised pixels (B, 3, S, S) to logits (B, A, C) and boxes (B, A, 4), each
            (centre x, centre y, width, height) in shares of the picture.
        pixels: S and the normalisation.
        boxes: N, at most A.
        classes: numbers of the classes that count, of the C there are.
    """

    classes: torch.Tensor

    def __init__(
        self, predict: torch.nn.Module, pixels: PixelSettings, boxes: int, classes: Sequence[int]
    ) -> None:
        super().__init__(pixels, boxes)
        self.predict = predict
        self.register_buffer("classes", torch.tensor(classes), persistent=False)

    def candidates(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All boxes there are, (B, A, 4), and their logits (B, A)."""
        logits, boxes = self.predict(pixels)
        # D-FINE places the sides one by one, and may put the right one left of the left one.
        centre, half = boxes[..., :2], boxes[..., 2:].clamp(min=0) / 2
        corners = torch.cat([centre - half, centre + half], dim=-1)
        return corners, logits.index_select(-1, self.classes).amax(dim=-1)


class RtDetrBoxes(torch.nn.Module):
    """The logits and boxes of RT-DETR v2 or D-FINE, part by part.

    The model's own ``forward`` makes anchors anew for each batch and counts the batch in a way
    that fixes its size in an exported graph. Here the size of the picture is what is fixed.

    Args:
        model: ``RTDetrV2ForObjectDetection`` or ``DFineForObjectDetection``.
        size: side S of the pixels.
    """

    anchors: torch.Tensor
    valid: torch.Tensor
    shapes: torch.Tensor

    def __init__(self, model: Any, size: int) -> None:
        super().__init__()
        self.trunk = model.model
        self.queries: int = model.config.num_queries
        self.sides = [(size // stride, size // stride) for stride in model.config.feat_strides]
        anchors, valid = self.trunk.generate_anchors(tuple(self.sides))
        self.register_buffer("anchors", anchors, persistent=False)
        self.register_buffer("valid", valid.float(), persistent=False)
        self.register_buffer("shapes", torch.tensor(self.sides), persistent=False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, A, C) and boxes (B, A, 4) of a batch of normalised pixels."""
        trunk = self.trunk
        maps = trunk.backbone.model(pixels).feature_maps
        maps = [project(item) for project, item in zip(trunk.encoder_input_proj, maps, strict=True)]
        maps = trunk.encoder(maps).last_hidden_state
        maps = [project(item) for project, item in zip(trunk.decoder_input_proj, maps, strict=True)]
        cells = torch.cat([item.flatten(2).transpose(1, 2) for item in maps], dim=1)
        # The best cells are where the decoder begins.
        memory = trunk.enc_output(self.valid * cells)
        best = trunk.enc_score_head(memory).amax(dim=-1).topk(self.queries, dim=1).indices
        points = trunk.enc_bbox_head(memory) + self.anchors
        with _without_checks():
            output = trunk.decoder(
                inputs_embeds=_rows(memory, best),
                encoder_hidden_states=cells,
                reference_points=_rows(points, best),
                spatial_shapes=self.shapes,
                spatial_shapes_list=self.sides,
            )
        return output.intermediate_logits[:, -1], output.intermediate_reference_points[:, -1]


class RfDetrBoxes(torch.nn.Module):
    """The logits and boxes of RF-DETR.

    Args:
        model: ``RfDetrForObjectDetection``.
        size: side S of the pixels.
    """

    def __init__(self, model: Any, size: int) -> None:
        super().__init__()
        self.model = model
        # As for DINOv2 encoders: interpolated once, so no engine needs to know how.
        embeddings = model.model.backbone.backbone.embeddings
        side = size // embeddings.patch_size
        patches = torch.empty(1, side**2 + 1, embeddings.position_embeddings.shape[2])
        with torch.no_grad():
            positions = embeddings.interpolate_pos_encoding(patches, size, size)
        embeddings.position_embeddings = torch.nn.Parameter(positions)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, A, C) and boxes (B, A, 4) of a batch of normalised pixels."""
        output = self.model(pixel_values=pixels)
        return output.logits, output.pred_boxes


def rt_detr_v2_from_checkpoint(config: DetectorConfig, folder: Path) -> DetectorModule:
    """RT-DETR v2 at the checkpoint's own size or another.

    Raises:
        BundleError: the checkpoint or the bundle's ``[object_detector]`` does not fit.
    """
    return _rt_detr(config, folder, "rt_detr_v2", "RTDetrV2ForObjectDetection")


def d_fine_from_checkpoint(config: DetectorConfig, folder: Path) -> DetectorModule:
    """D-FINE at the checkpoint's own size or another.

    Raises:
        BundleError: the checkpoint or the bundle's ``[object_detector]`` does not fit.
    """
    return _rt_detr(config, folder, "d_fine", "DFineForObjectDetection")


def rf_detr_from_checkpoint(config: DetectorConfig, folder: Path) -> DetectorModule:
    """RF-DETR at the checkpoint's own size or another.

    Raises:
        BundleError: the checkpoint or the bundle's ``[object_detector]`` does not fit.
    """
    model = model_from_checkpoint(folder, config.family, ["rf_detr"], "RfDetrForObjectDetection")
    pixels = pixel_settings(config, folder)
    backbone = model.config.backbone_config
    _check_multiple(config, pixels.image_size, backbone.patch_size * backbone.num_windows)
    predict = RfDetrBoxes(model, pixels.image_size)
    return DetrDetector(predict, pixels, config.boxes, _classes(config, model)).eval()


def _rt_detr(
    config: DetectorConfig, folder: Path, model_type: str, model_class: str
) -> DetectorModule:
    model = model_from_checkpoint(folder, config.family, [model_type], model_class)
    found = model.config
    if found.learn_initial_query or found.num_feature_levels != len(found.decoder_in_channels):
        raise BundleError(
            f"{folder}: {config.family} with learn_initial_query or with more feature levels than "
            "its encoder gives is not supported; use a checkpoint of the original repository"
        )
    pixels = pixel_settings(config, folder)
    _check_multiple(config, pixels.image_size, max(found.feat_strides))
    predict = RtDetrBoxes(model, pixels.image_size)
    return DetrDetector(predict, pixels, config.boxes, _classes(config, model)).eval()


@contextlib.contextmanager
def _without_checks() -> Iterator[None]:
    before = os.environ.get(NO_CHECKS)
    os.environ[NO_CHECKS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[NO_CHECKS]
        else:
            os.environ[NO_CHECKS] = before


def _rows(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows (B, K, D) of a table (B, A, D) by their numbers (B, K)."""
    return table.gather(1, index[:, :, None].expand(-1, -1, table.shape[2]))


def _check_multiple(config: DetectorConfig, size: int, cell: int) -> None:
    if size % cell:
        low = size // cell * cell
        raise BundleError(
            f"{config.family}: image_size {size} is no multiple of the model's {cell} pixels; set "
            f"image_size = {low or cell} or {low + cell}"
        )


def _classes(config: DetectorConfig, model: Any) -> list[int]:
    """Numbers of the classes that are not ignored."""
    labels = cast(dict[int, str], model.config.id2label)
    unknown = sorted(set(config.ignored_labels) - set(labels.values()))
    if unknown:
        raise BundleError(
            f"object_detector: ignored_labels has {unknown[0]!r}, which {config.checkpoint} does "
            f"not know; it has {len(labels)} classes, such as "
            f"{', '.join(sorted(labels.values())[:LISTED])}"
        )
    kept = [number for number, name in sorted(labels.items()) if name not in config.ignored_labels]
    if not kept:
        raise BundleError(
            "object_detector: ignored_labels leaves no class of "
            f"{config.checkpoint}; leave out fewer"
        )
    return kept
