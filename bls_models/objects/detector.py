"""Pixels to objects, through the engine ``object_detector``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bls_models.bundle import DetectorBundle
from bls_models.engines.encoders import Caller
from bls_models.errors import DetectorError
from bls_models.images.preprocessing import Crop, Preprocess
from bls_models.objects.boxes import areas, on_picture, without_repeats
from bls_models.specs import OBJECT_DETECTOR, OBJECT_MODES
from bls_models.vectors import Pixels

NEVER, AUTO, ALWAYS = OBJECT_MODES

# Boxes that share more than this are of the same object.
MOST_SHARED = 0.5
# What covers more than this of a photo is what the photo is of.
WHOLE_PHOTO = 0.8


@dataclass(frozen=True)
class DetectedObject:
    """Something that may be a product.

    Attributes:
        box: x0, y0, x1, y1 in shares of the picture.
        score: the detector's, 0 to 1.
    """

    box: Crop
    score: float

    @property
    def area(self) -> float:
        """The share of the picture that the box covers."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


class ObjectDetector:
    """The object detector of a bundle.

    Args:
        call: runs the engine; raises ``DetectorError``.
        detector: what the bundle says of it.
    """

    def __init__(self, call: Caller, detector: DetectorBundle) -> None:
        self._call = call
        self._detector = detector

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the pixels of ``detect``."""
        return self._detector.preprocess

    def detect(self, pixels: Pixels, size: tuple[int, int]) -> list[DetectedObject]:
        """The objects of a picture, each once, the surest first.

        Args:
            pixels: (S, S, 3) UINT8, RGB, as ``preprocess`` makes them.
            size: width and height of the picture.

        Raises:
            DetectorError: the engine failed or is not loaded.
        """
        outputs = self._call(OBJECT_DETECTOR, {"image": pixels[None]})
        boxes, scores = outputs["box"], outputs["box_score"]
        count = self._detector.boxes
        fits = boxes.shape == (1, count, 4) and scores.shape == (1, count)
        if not (fits and np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise DetectorError(
                f"{OBJECT_DETECTOR.name} gave no {count} boxes with finite numbers; rebuild it "
                "with `make models`"
            )
        boxes, scores = boxes[0], scores[0]
        boxes = on_picture(boxes, size, self.preprocess)
        # Neither what is hardly there nor what is in the padding alone.
        likely = (scores >= self._detector.min_score) & (areas(boxes) > 0)
        boxes, scores = boxes[likely], scores[likely]
        objects = []
        for number in without_repeats(boxes, MOST_SHARED).tolist():
            x0, y0, x1, y1 = boxes[number].tolist()
            objects.append(DetectedObject((x0, y0, x1, y1), float(scores[number])))
        return objects


def matched_objects(
    found: Sequence[DetectedObject], mode: str, most: int
) -> Sequence[DetectedObject]:
    """Those that are matched one by one, beside the whole photo.

    Args:
        found: the surest first.
        mode: ``always``: all of them; ``auto``: those that do not cover nearly the whole photo,
            if there are several.
        most: of the surest.
    """
    if mode == AUTO:
        found = [item for item in found if item.area <= WHOLE_PHOTO]
        if len(found) < 2:
            return ()
    return found[:most]
