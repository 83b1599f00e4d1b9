"""From a decoded picture to the square of pixels that an engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bls_models.errors import BundleError, ImageError

# x0, y0, x1, y1, relative to the upright picture, as ``check_crop`` gives them.
Crop = tuple[float, float, float, float]
# Left, top, right and bottom, in pixels.
Box = tuple[int, int, int, int]
RESIZE_MODES = ("stretch", "pad", "center_crop")
CROP_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the square an engine takes.

    Args:
        size: side of the square in pixels, at least 1.
        resize: ``stretch`` (the whole picture squashed), ``pad`` (the whole picture between
            white bars) or ``center_crop`` (the centre square of the picture).
        keep: share of the width and of the height, about the centre, of the picture or of what
            is cut out of it, that is used; above 0 and at most 1.

    Raises:
        BundleError: a value out of range.
    """

    size: int
    resize: str
    keep: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no engine can have been built with."""
        if self.size < 1:
            raise BundleError(
                f"preprocess size {self.size} is not a positive number of pixels; "
                "build the bundle again"
            )
        if self.resize not in RESIZE_MODES:
            raise BundleError(
                f"preprocess resize {self.resize!r} is not one of {', '.join(RESIZE_MODES)}; "
                "build the bundle again"
            )
        if not 0 < self.keep <= 1:
            raise BundleError(
                f"preprocess keep {self.keep} is not a share above 0 and at most 1; "
                "build the bundle again"
            )

    @property
    def centre(self) -> Crop | None:
        """The part that is kept, as a crop; None: all."""
        if self.keep == 1:
            return None
        margin = (1 - self.keep) / 2
        return margin, margin, 1 - margin, 1 - margin


def finest_preprocess(first: Preprocess, second: Preprocess | None) -> Preprocess:
    """What ``decode_image`` must be told where a picture is prepared in two ways."""
    if second is None or second == first:
        return first
    both_pad = first.resize == second.resize == "pad"
    size, keep = max(first.size, second.size), min(first.keep, second.keep)
    return Preprocess(size, "pad" if both_pad else "stretch", keep)


def check_crop(crop: Sequence[float] | npt.NDArray[Any], tensor: str) -> Crop:
    """Validate a crop rectangle.

    Args:
        crop: (4,) x0, y0, x1, y1 relative to the upright image, 0 <= x0 < x1 <= 1 and the same
            for y; up to 1e-6 outside is taken for rounding and clamped.
        tensor: the input's name for messages.

    Returns:
        The four numbers, each in [0, 1].

    Raises:
        ImageError: not four finite numbers in that order and range.
    """
    try:
        box = np.asarray(crop, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _bad_crop(f"{crop!r:.100}", tensor) from error
    if box.shape != (4,):
        raise _bad_crop(f"shape {list(box.shape)}", tensor)
    x0, y0, x1, y1 = (float(side) for side in box.clip(0.0, 1.0))
    # Written so that NaN, which fails every comparison, is refused.
    inside = bool(np.all((box >= -CROP_TOLERANCE) & (box <= 1 + CROP_TOLERANCE)))
    if not (inside and x0 < x1 and y0 < y1):
        raise _bad_crop(str(box.tolist()), tensor)
    return x0, y0, x1, y1


def prepare_pixels(
    image: Image.Image, preprocess: Preprocess, crop: Crop | None = None
) -> npt.NDArray[np.uint8]:
    """Crop and resize an image to what an engine takes.

    Args:
        image: an upright RGB image.
        preprocess: the square's side S and how to reach it.
        crop: from ``check_crop``; None for the whole image. It is as if the picture had been
            cropped before. At least one pixel is kept.

    Returns:
        (S, S, 3) uint8, RGB, C-contiguous.

    Raises:
        ImageError: the crop has more pixels than Pillow takes.
    """
    box: Box = (0, 0, *image.size)
    for part in (crop, preprocess.centre):
        if part is not None:
            box = _within(box, part)
    if box != (0, 0, *image.size):
        image = _cut(image, box)
    side = preprocess.size
    width, height = image.size
    if preprocess.resize == "pad":
        scale = side / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        square = _resize(image, inner)
        if inner != (side, side):
            canvas = Image.new("RGB", (side, side), "white")
            canvas.paste(square, ((side - inner[0]) // 2, (side - inner[1]) // 2))
            square = canvas
    elif preprocess.resize == "center_crop":
        shorter = min(width, height)
        left, top = (width - shorter) / 2, (height - shorter) / 2
        square = _resize(image, (side, side), (left, top, left + shorter, top + shorter))
    else:
        square = _resize(image, (side, side))
    return np.array(square, np.uint8)  # (S, S, 3)


def _within(box: Box, crop: Crop) -> Box:
    """The part of a box within a checked crop of it, at least one pixel each way."""
    width, height = box[2] - box[0], box[3] - box[1]
    left, top = min(round(crop[0] * width), width - 1), min(round(crop[1] * height), height - 1)
    right, bottom = max(round(crop[2] * width), left + 1), max(round(crop[3] * height), top + 1)
    return box[0] + left, box[1] + top, box[0] + right, box[1] + bottom


def _cut(image: Image.Image, box: Box) -> Image.Image:
    try:
        return image.crop(box)
    # Pillow holds crops to its own limit, which only a very high ``max_pixels`` lets one reach.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = f"{box[2] - box[0]} x {box[3] - box[1]} pixels"
        raise _bad_crop(f"{pixels} ({error})", "crop") from error


def _resize(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    # The gap halves the time (and more for large pictures) at about half a grey level.
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)


def _bad_crop(got: str, tensor: str) -> ImageError:
    return ImageError(
        tensor,
        got,
        "x0, y0, x1, y1 with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1",
        "Give the corners as fractions of the upright image's width and height.",
    )
