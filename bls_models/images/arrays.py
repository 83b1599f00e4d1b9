"""Pictures as arrays of pixels: taken over from Pillow, turned upright, made smaller or larger.

Imports OpenCV, which takes 16 MB of memory, so only what decodes pictures imports this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

# (H, W, 3), RGB.
Picture = npt.NDArray[np.uint8]

# Several pictures are decoded at a time already.
cv2.setNumThreads(1)

# EXIF orientation -> what makes the picture upright; 1 is upright already.
ORIENTATIONS: Mapping[int, Callable[[Picture], Picture]] = {
    2: lambda picture: cv2.flip(picture, 1),
    3: lambda picture: cv2.rotate(picture, cv2.ROTATE_180),
    4: lambda picture: cv2.flip(picture, 0),
    5: cv2.transpose,
    6: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
    7: lambda picture: cv2.rotate(cv2.transpose(picture), cv2.ROTATE_180),
    8: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

# Pixels that are taken over at a time.
BAND = 2**16


def array_of(image: Image.Image) -> Picture:
    """The pixels of a loaded image of mode ``RGB``."""
    width, height = image.size
    picture = np.empty((height, width, 3), np.uint8)
    # Pillow hands pixels over by two further copies of them, and takes four times as long for a
    # large picture in one piece.
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        picture[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return picture


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture at another size.

    Args:
        picture: RGB; a part of a larger one is not copied.
        size: width and height.
    """
    width, height = size
    # Linear interpolation looks at the four pixels around a place, so a side that is twice too long
    # or more is halved before, as often as that is so.
    across = _halvings(picture.shape[1], width)
    down = _halvings(picture.shape[0], height)
    if across or down:
        # Means of whole pixels take a tenth of the time of others.
        columns, rows = picture.shape[1] >> across, picture.shape[0] >> down
        left, top = (picture.shape[1] % 2**across) // 2, (picture.shape[0] % 2**down) // 2
        picture = picture[top : top + (rows << down), left : left + (columns << across)]
        picture = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    if picture.shape[1] < width or picture.shape[0] < height:
        # OpenCV's cubic filter is a sharper one than models learn from.
        return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    fitted: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    return fitted


def fitted(picture: Picture, longest: int) -> Picture:
    """A picture of at most so many pixels on its longer side; not copied where it is no longer."""
    height, width = picture.shape[:2]
    scale = longest / max(width, height)
    if scale >= 1:
        return picture
    return resized(picture, (max(1, round(width * scale)), max(1, round(height * scale))))


def _halvings(side: int, wanted: int) -> int:
    """How often a side can be halved and is still as long as wanted."""
    return max((side // wanted).bit_length() - 1, 0)
