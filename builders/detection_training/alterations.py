"""Altered copies of pictures, with the boxes that they then have."""

from __future__ import annotations

import cv2
import numpy as np

from builders.detection_training.scenes import Boxes, Scene

# Bounds of the alterations.
LEAST_SIDE = 0.45
MOST_FRAME = 0.8
BRIGHTNESS = (0.7, 1.25)
CONTRAST = (0.75, 1.2)

# A part of a picture must not show things of which less than this is left; below the second they
# count as outside.
LEAST_LEFT, OUTSIDE = 0.5, 0.12
TRIES = 12


def altered_copy(scene: Scene, rng: np.random.Generator) -> Scene:
    """A part of a picture, or the picture in a wider frame, mirrored, and in another light."""
    way = rng.random()
    if way < 0.55:
        scene = _part(scene, rng)
    elif way < 0.75:
        scene = _framed(scene, rng)
    picture, boxes = scene.picture, scene.boxes
    if rng.random() < 0.5:
        picture, boxes = picture[:, ::-1], _mirrored(boxes)
    pixels = picture.astype(np.float32)
    mean = pixels.mean(dtype=np.float64)
    pixels = (pixels - mean) * rng.uniform(*CONTRAST) + mean
    pixels *= rng.uniform(*BRIGHTNESS) * rng.normal(1, 0.05, 3).astype(np.float32)
    if rng.random() < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.8))
    if rng.random() < 0.3:
        pixels += rng.standard_normal(pixels.shape, np.float32) * rng.uniform(1, 10)
    return Scene(pixels.clip(0, 255).astype(np.uint8), boxes)


def _part(scene: Scene, rng: np.random.Generator) -> Scene:
    """A part that cuts no thing in such a way that it is unclear whether it is still there."""
    height, width = scene.picture.shape[:2]
    for _ in range(TRIES):
        sides = rng.uniform(LEAST_SIDE, 1.0, 2)
        x0, y0 = (1 - sides) * rng.random(2)
        x1, y1 = x0 + sides[0], y0 + sides[1]
        left, top, right, bottom = (
            int(x0 * width), int(y0 * height), int(x1 * width), int(y1 * height),
        )  # fmt: skip
        frame = np.array([left / width, top / height, right / width, bottom / height], np.float32)
        kept, certain = _within(scene.boxes, frame)
        if certain:
            return Scene(scene.picture[top:bottom, left:right], kept)
    return scene


def _within(boxes: Boxes, frame: Boxes) -> tuple[Boxes, bool]:
    """Boxes in shares of a part, and whether each is clearly in it or out of it."""
    cut = np.concatenate(
        [np.maximum(boxes[:, :2], frame[:2]), np.minimum(boxes[:, 2:], frame[2:])], axis=1
    )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left = (cut[:, 2:] - cut[:, :2]).clip(0, None).prod(axis=1) / np.maximum(area, 1e-9)
    inside, outside = left >= LEAST_LEFT, left < OUTSIDE
    extent = frame[2:] - frame[:2]
    shares = (cut[inside] - np.tile(frame[:2], 2)) / np.tile(extent, 2)
    return shares.astype(np.float32), bool(np.all(inside | outside))


def _framed(scene: Scene, rng: np.random.Generator) -> Scene:
    """The picture with its edge's mean colour, or its edge drawn out, around it."""
    height, width = scene.picture.shape[:2]
    add = rng.uniform(0, MOST_FRAME / 2, 4) * np.array([width, height, width, height])
    left, top, right, bottom = (int(item) for item in add)
    if rng.random() < 0.5:
        edge = np.concatenate([scene.picture[0], scene.picture[-1]]).mean(axis=0)
        picture = cv2.copyMakeBorder(
            scene.picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=tuple(edge)
        )
    else:
        picture = cv2.copyMakeBorder(scene.picture, top, bottom, left, right, cv2.BORDER_REPLICATE)
    scale = np.array([width, height, width, height], np.float32)
    shift = np.array([left, top, left, top], np.float32)
    rows, columns = picture.shape[:2]
    whole = np.array([columns, rows, columns, rows], np.float32)
    return Scene(picture, (scene.boxes * scale + shift) / whole)


def _mirrored(boxes: Boxes) -> Boxes:
    return np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
