"""Things cut out of the pictures that show one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from builders.detection_training.scenes import Picture

# (H, W, 4) uint8, RGB and how far a pixel belongs to the thing; it reaches every edge.
Cutout = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]

# How far a channel may be from the colour of the plain ground.
GROUND_TOLERANCE = 10

# Iconic pictures that show several things side by side, which are to be found one by one.
GROUPS = frozenset(
    [
        "Kiwi",
        "Lime",
        "Passion-Fruit",
        "Papaya",
        "Plum",
        "Satsumas",
        "Brown-Cap-Mushroom",
        "Yellow-Onion",
        "Floury-Potato",
        "Solid-Potato",
        "Red-Beet",
        "Beef-Tomato",
        "Regular-Tomato",
        "Vine-Tomato",
    ]
)

# What a segmentation of a garment must be to be believed: its share of the picture, how much of
# its outline's hull it fills, how much of the frame it touches, and how much of it is one piece.
LEAST_SHARE, MOST_SHARE = 0.1, 0.75
LEAST_SOLIDITY = 0.75
MOST_FRAME = 0.12
LEAST_PIECE = 0.9
ROUNDS = 4


def iconic_pictures(folder: Path) -> list[Path]:
    """Studio pictures of a grocery data set that show one thing each."""
    found = sorted(folder.glob("iconic-images-and-descriptions/**/*.jpg"))
    return [path for path in found if path.parent.name not in GROUPS]


def on_plain_ground(picture: Picture) -> Cutout | None:
    """What stands on a white or otherwise plain ground; None where there is no such ground."""
    height, width = picture.shape[:2]
    framed = cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    mask = np.zeros((height + 4, width + 4), np.uint8)
    tolerance = (GROUND_TOLERANCE,) * 3
    flags = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (255 << 8)
    cv2.floodFill(framed, mask, (0, 0), 0, tolerance, tolerance, flags)
    thing = np.where(mask[2:-2, 2:-2] == 0, 255, 0).astype(np.uint8)
    thing = _largest(cv2.morphologyEx(thing, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    share = thing.mean() / 255
    if not 0.02 < share < 0.95:
        return None
    # The outermost pixels are mixed with the ground.
    return _cut(picture, cv2.erode(thing, np.ones((3, 3), np.uint8)))


def garment_mask(picture: Picture) -> Mask | None:
    """Where a photo shows the one thing in its middle; None where that is not clear.

    Returns:
        (H, W) uint8, 0 or 255.
    """
    height, width = picture.shape[:2]
    scale = 160 / max(height, width)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rows, columns = small.shape[:2]
    mask = np.zeros((rows, columns), np.uint8)
    margin = (max(2, columns // 25), max(2, rows // 25))
    inner = (*margin, columns - 2 * margin[0], rows - 2 * margin[1])
    states: tuple[Any, Any] = (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(small, mask, inner, *states, ROUNDS, cv2.GC_INIT_WITH_RECT)
    except cv2.error:  # all of one colour
        return None
    found = np.where((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    piece = _largest(found)
    if not _believable(found, piece, inner):
        return None
    piece = cv2.morphologyEx(piece, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    full = cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(full > 127, 255, 0).astype(np.uint8)


def cut_out(picture: Picture, mask: Mask) -> Cutout:
    """What a mask shows of a picture."""
    return _cut(picture, mask)


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """The box around what a mask shows, in shares of it."""
    x, y, width, height = cv2.boundingRect(mask)
    rows, columns = mask.shape
    return x / columns, y / rows, (x + width) / columns, (y + height) / rows


def _believable(found: Mask, piece: Mask, inner: tuple[int, int, int, int]) -> bool:
    share = piece.mean() / 255
    if not LEAST_SHARE < share < MOST_SHARE or piece.sum() < LEAST_PIECE * found.sum():
        return False
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = max(outlines, key=cv2.contourArea)
    if cv2.contourArea(outline) < LEAST_SOLIDITY * cv2.contourArea(cv2.convexHull(outline)):
        return False
    x, y, width, height = inner
    part = piece[y : y + height, x : x + width]
    frame = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    return bool(frame.mean() / 255 < MOST_FRAME)


def _largest(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return mask
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.where(labels == best, 255, 0).astype(np.uint8)


def _cut(picture: Picture, mask: Mask) -> Cutout:
    x, y, width, height = cv2.boundingRect(mask)
    soft = cv2.GaussianBlur(mask, (3, 3), 0)
    whole = np.dstack([picture, soft])
    return np.ascontiguousarray(whole[y : y + height, x : x + width])
