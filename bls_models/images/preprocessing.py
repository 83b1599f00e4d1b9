"""From a decoded picture to the square of pixels that an engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bls_models.errors import BundleError, ImageError

# x0, y0, x1, y1, relative to the upright picture, as ``check_crop`` gives them.
Crop = tuple[float, float, float, float]
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
    picture: npt.NDArray[np.uint8], preprocess: Preprocess, crop: Crop | None = None
) -> npt.NDArray[np.uint8]:
    """Crop and resize a picture to what an engine takes.

    Args:
        picture: (H, W, 3) uint8, upright, RGB.
        preprocess: the square's side S and how to reach it.
        crop: from ``check_crop``; None for the whole picture. It is as if the picture had been
            cropped before. At least one pixel is kept.

    Returns:
        (S, S, 3) uint8, RGB, C-contiguous.
    """
    # Bundles are read in processes that decode nothing.
    from bls_models.images.arrays import resized

    for part in (crop, preprocess.centre):
        if part is not None:
            picture = cut_out(picture, part)
    side = preprocess.size
    height, width = picture.shape[:2]
    if preprocess.resize == "pad":
        scale = side / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        square = resized(picture, inner)
        if inner == (side, side):
            return square
        left, top = (side - inner[0]) // 2, (side - inner[1]) // 2
        canvas = np.full((side, side, 3), 255, np.uint8)
        canvas[top : top + inner[1], left : left + inner[0]] = square
        return canvas
    if preprocess.resize == "center_crop":
        shorter = min(width, height)
        left, top = (width - shorter) // 2, (height - shorter) // 2
        picture = picture[top : top + shorter, left : left + shorter]
    return resized(picture, (side, side))


def cut_out(picture: npt.NDArray[np.uint8], crop: Crop) -> npt.NDArray[np.uint8]:
    """The part of a picture that a checked crop names, at least one pixel each way; no copy."""
    height, width = picture.shape[:2]
    left, top = min(round(crop[0] * width), width - 1), min(round(crop[1] * height), height - 1)
    right, bottom = max(round(crop[2] * width), left + 1), max(round(crop[3] * height), top + 1)
    return picture[top:bottom, left:right]


def _bad_crop(got: str, tensor: str) -> ImageError:
    return ImageError(
        tensor,
        got,
        "x0, y0, x1, y1 with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1",
        "Give the corners as fractions of the upright image's width and height.",
    )
