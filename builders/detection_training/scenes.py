"""Pictures with the boxes of what they show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bls_models.errors import SetupError
from bls_models.images.decoding import decode_image
from builders.graphs.calibration import LIMITS

SCENES_FILE = "scenes.jsonl"

Picture = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]

NO_BOXES: Boxes = np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Scene:
    """A picture and what is to be found in it.

    Attributes:
        picture: (H, W, 3) uint8, RGB.
        boxes: (M, 4) float32, (x0, y0, x1, y1) in shares of the picture, one for each object.
    """

    picture: Picture
    boxes: Boxes


@dataclass(frozen=True)
class SceneFile:
    """A scene on disk.

    Attributes:
        path: the picture.
        boxes: see ``Scene``.
        labels: what each box shows; boxes of one label are of one kind.
    """

    path: Path
    boxes: Boxes
    labels: tuple[str, ...]

    def read(self) -> Scene:
        """The picture with its boxes.

        Raises:
            ImageError: the file cannot be read as a picture.
        """
        return Scene(read_picture(self.path), self.boxes)


def read_picture(path: Path) -> Picture:
    """A picture file, upright, (H, W, 3) uint8, RGB.

    Raises:
        ImageError: the file cannot be read as a picture.
    """
    return decode_image(path.read_bytes(), str(path), LIMITS)


def read_scenes(folder: Path) -> list[SceneFile]:
    """Read ``scenes.jsonl`` of a folder, whose lines are as ``seed.render --scenes`` writes them.

    A line has ``file``, relative to the folder, and ``objects`` with ``box`` and ``product_id``,
    or ``label`` in its place.

    Raises:
        SetupError: there is no such file, a line is no scene, or a picture is missing.
    """
    path = folder / SCENES_FILE
    if not path.is_file():
        raise SetupError(
            f"{path} does not exist; give a folder of `python -m seed.render --scenes`"
        )
    scenes = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            content = json.loads(line)
            picture, objects = folder / content["file"], content["objects"]
            boxes = np.array([item["box"] for item in objects], np.float32).reshape(-1, 4)
            labels = tuple(str(item.get("product_id", item.get("label"))) for item in objects)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SetupError(
                f"{path}, line {number}: {error!r}; expected a JSON object with file, and objects "
                "with a box of four numbers each"
            ) from error
        if not picture.is_file():
            raise SetupError(f"{path}, line {number}: the picture {picture} does not exist")
        scenes.append(SceneFile(picture, boxes, labels))
    if not scenes:
        raise SetupError(f"{path} holds no scenes")
    return scenes
