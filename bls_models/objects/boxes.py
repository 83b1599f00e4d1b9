"""Boxes: how much two share, which of several are of one object, where they lie on a picture."""

from __future__ import annotations

import numpy as np

from bls_models.images.preprocessing import Crop, Preprocess
from bls_models.vectors import FloatArray, IntArray


def areas(boxes: FloatArray) -> FloatArray:
    """Areas (n,) of boxes (n, 4) of x0, y0, x1, y1."""
    sides: FloatArray = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    area: FloatArray = sides.prod(axis=1)
    return area


def overlaps(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """What each box shares with each of the others, of what both cover together.

    Args:
        boxes: (n, 4).
        others: (m, 4).

    Returns:
        (n, m), 0 to 1; 0 for boxes without an area.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared: FloatArray = np.maximum(high - low, 0).prod(axis=2)
    together = areas(boxes)[:, None] + areas(others)[None, :] - shared
    shares: FloatArray = shared / np.maximum(together, np.finfo(np.float32).tiny)
    return shares


def without_repeats(boxes: FloatArray, most_shared: float) -> IntArray:
    """Which boxes to keep, so that no two that are kept share more (non-maximum suppression).

    Args:
        boxes: (n, 4), the best first.
        most_shared: see ``overlaps``.
    """
    shared = overlaps(boxes, boxes)
    kept: list[int] = []
    for number in range(len(boxes)):
        if not kept or shared[number, kept].max() <= most_shared:
            kept.append(number)
    return np.array(kept, np.int32)


def on_picture(boxes: FloatArray, size: tuple[int, int], preprocess: Preprocess) -> FloatArray:
    """From shares of an engine's square to shares of the picture.

    Args:
        boxes: (n, 4) of x0, y0, x1, y1.
        size: width and height of the picture.
        preprocess: how all of it became the square.

    Returns:
        (n, 4), within the picture.
    """
    width, height = size
    across = down = 1.0
    if preprocess.resize == "pad":
        across, down = max(width, height) / width, max(width, height) / height
    elif preprocess.resize == "center_crop":
        across, down = min(width, height) / width, min(width, height) / height
    stretch = np.array([across, down, across, down], np.float32)
    placed: FloatArray = np.clip((boxes - 0.5) * stretch + 0.5, 0, 1)
    return placed


def of_whole(box: Crop, part: Crop | None) -> Crop:
    """From shares of a part of a picture to shares of the picture; None: the part is all of it."""
    if part is None:
        return box
    left, top, right, bottom = part
    across, down = right - left, bottom - top
    x0, y0, x1, y1 = box
    return left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down


def with_margin(box: Crop, margin: float) -> Crop:
    """A box with some of what is around it, as far as the picture goes.

    Args:
        box: x0, y0, x1, y1 in shares of the picture.
        margin: on each side, as a share of the box's own.
    """
    x0, y0, x1, y1 = box
    across, down = (x1 - x0) * margin, (y1 - y0) * margin
    return max(x0 - across, 0.0), max(y0 - down, 0.0), min(x1 + across, 1.0), min(y1 + down, 1.0)
