"""Where pictures to train on come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bls_models.errors import SetupError
from builders.detection_training.backgrounds import PANORAMA_SUFFIXES, Backgrounds, read_panorama
from builders.detection_training.composites import Composer
from builders.detection_training.cutouts import (
    Cutout,
    box_of,
    cut_out,
    garment_mask,
    iconic_pictures,
    on_plain_ground,
)
from builders.detection_training.scenes import SceneFile, read_picture

# How often a thing of a composite is from an iconic picture, and how often a garment.
ICONIC, GARMENTS = 2.0, 1.0


@dataclass(frozen=True)
class Garment:
    """A photo of one garment that was told from its ground.

    Attributes:
        scene: the photo, with the box around the garment.
        cutout: the garment alone.
    """

    scene: SceneFile
    cutout: Cutout


def photos_of(clothing: Path, split: str) -> list[Path]:
    """Photos of the clothing data set.

    Args:
        clothing: holds ``train``, ``validation`` and ``test`` with a folder a class.
        split: one of these.

    Raises:
        SetupError: there are none.
    """
    found = sorted((clothing / split).glob("*/*.jpg"))
    if not found:
        raise SetupError(
            f"{clothing / split} holds no .jpg photos; give the folder of the clothing data set, "
            "with train, validation and test and a folder for each class in them"
        )
    return found


def garments_of_photos(photos: Sequence[Path]) -> list[Garment]:
    """The garments of photos in which they are clearly told from their ground.

    Raises:
        ImageError: a file cannot be read as a picture.
    """
    garments = []
    for path in photos:
        picture = read_picture(path)
        mask = garment_mask(picture)
        if mask is not None:
            box = np.array([box_of(mask)], np.float32)
            scene = SceneFile(path, box, (path.parent.name,))
            garments.append(Garment(scene, cut_out(picture, mask)))
    return garments


def composer_of_pictures(
    grocery: Path, garments: Sequence[Garment], photos: Sequence[Path], places: Path | None
) -> Composer:
    """What draws composites.

    Args:
        grocery: folder of the grocery data set, whose iconic pictures are cut out.
        garments: are cut out as well.
        photos: whose corners and blurred middles are grounds.
        places: folder of panoramas of real places; None: no such grounds.

    Raises:
        SetupError: there is nothing to cut out, or a panorama cannot be read.
        ImageError: a file cannot be read as a picture.
    """
    cut = (on_plain_ground(read_picture(path)) for path in iconic_pictures(grocery))
    iconic = [item for item in cut if item is not None]
    if not iconic or not garments:
        raise SetupError(
            f"{len(iconic)} iconic pictures of {grocery} and {len(garments)} garments can be cut "
            "out, expected at least one of each; give the folders of both data sets"
        )
    files = sorted(places.iterdir()) if places is not None else []
    panoramas = [read_panorama(path) for path in files if path.suffix in PANORAMA_SUFFIXES]
    things = [iconic, [item.cutout for item in garments]]
    return Composer(things, (ICONIC, GARMENTS), Backgrounds(panoramas, photos))
