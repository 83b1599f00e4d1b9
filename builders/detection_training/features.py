"""The trunk's maps of pictures, kept on disk.

The trunk is not trained, so a picture goes through it once, and training is a matter of minutes.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bls_models.files import atomic_write
from bls_models.images.preprocessing import Preprocess, prepare_pixels
from builders.detection_training.scenes import NO_BOXES, Boxes, Picture, Scene
from builders.detectors.efficientnet import DetectorSettings, detector_trunk, trunk_features

# Part of a cached file's name: raise it when what is computed changes.
VERSION = 1

# Scenes of a cached file, and of a batch through the trunk.
CHUNK = 256
BATCH = 16

Maps = npt.NDArray[np.float16]
Draw = Callable[[int], Scene]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examples:
    """Scenes as the head sees them.

    Attributes:
        fine: (N, 112, S / 16, S / 16) float16.
        coarse: (N, 320, S / 32, S / 32) float16.
        boxes: of each scene, (M, 4) float32, in shares of the square.
    """

    fine: Maps
    coarse: Maps
    boxes: tuple[Boxes, ...]

    def __len__(self) -> int:
        return len(self.boxes)


class FeatureCache:
    """Maps of scenes, computed once.

    Args:
        settings: of the detector.
        folder: where maps are kept.
    """

    def __init__(self, settings: DetectorSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._preprocess = Preprocess(settings.image_size, settings.resize)
        self._maps = _compiled(settings)

    def examples(self, name: str, count: int, draw: Draw, progress: Progress) -> list[Examples]:
        """Maps of scenes, in parts of at most 256.

        Args:
            name: of these scenes; another one where ``draw`` gives other scenes.
            count: how many.
            draw: gives the scene of a number from 0 on.
            progress: called after each part with the number done and the number of all.
        """
        parts = []
        for first in range(0, count, CHUNK):
            last = min(first + CHUNK, count)
            parts.append(self._part(name, first, last, draw))
            progress(last, count)
        return parts

    def _part(self, name: str, first: int, last: int, draw: Draw) -> Examples:
        s = self._settings
        key = (VERSION, s.trunk, s.image_size, s.resize, name, first, last)
        path = self._folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.npz"
        if path.is_file():
            with np.load(path) as cached:
                boxes = np.split(cached["boxes"], np.cumsum(cached["counts"])[:-1])
                return Examples(cached["fine"], cached["coarse"], tuple(boxes))
        part = self._computed([draw(number) for number in range(first, last)])
        with atomic_write(path) as stream:
            np.savez(
                stream,
                fine=part.fine,
                coarse=part.coarse,
                boxes=np.concatenate([NO_BOXES, *part.boxes]),
                counts=np.array([len(boxes) for boxes in part.boxes]),
            )
        return part

    def _computed(self, scenes: Sequence[Scene]) -> Examples:
        fine: list[Maps] = []
        coarse: list[Maps] = []
        for first in range(0, len(scenes), BATCH):
            batch = scenes[first : first + BATCH]
            pixels = np.stack([prepare_pixels(item.picture, self._preprocess) for item in batch])
            maps = self._maps(pixels)
            for number, store in enumerate((fine, coarse)):
                store.append(maps[number].astype(np.float16))
        boxes = tuple(in_square(item.boxes, item.picture) for item in scenes)
        return Examples(np.concatenate(fine), np.concatenate(coarse), boxes)


def in_square(boxes: Boxes, picture: Picture) -> Boxes:
    """Boxes in shares of a picture as shares of the square that it is padded to."""
    height, width = picture.shape[:2]
    extent = np.array([width, height], np.float32) / max(width, height)
    return boxes * np.tile(extent, 2) + np.tile((1 - extent) / 2, 2)


class _Trunk(torch.nn.Module):
    def __init__(self, settings: DetectorSettings) -> None:
        super().__init__()
        self.encoder = detector_trunk(settings)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return trunk_features(self.encoder.trunk, self.encoder.normalised(image))


def _compiled(settings: DetectorSettings) -> Any:
    """The trunk in OpenVINO, which takes a tenth of torch's time for it."""
    import openvino

    side = settings.image_size
    example = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    # OpenVINO reads torch modules by way of what torch warns of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(
            _Trunk(settings).eval(), example_input=example, input=[-1, side, side, 3]
        )
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(model, "CPU", options)
