"""What things are pasted on: real places, blurred photos, textures, and plain studio grounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bls_models.errors import SetupError
from builders.detection_training.scenes import Picture, read_picture

Floats = npt.NDArray[np.float32]
Size = tuple[int, int]  # width, height

PANORAMA_SUFFIXES = frozenset({".hdr", ".jpg", ".jpeg", ".png", ".webp", ".exr"})

# How often each kind of ground is taken. Many shops' photos have a white one.
KINDS = ("white", "plain", "gradient", "texture", "place", "blurred", "corner")
SHARES = (0.16, 0.14, 0.10, 0.18, 0.20, 0.12, 0.10)


class Backgrounds:
    """Draws grounds.

    Args:
        places: panoramas, equirectangular, of real places; see ``read_panorama``.
        photos: whose blurred middle and sharp corners are taken.
    """

    def __init__(self, places: Sequence[Floats], photos: Sequence[Path]) -> None:
        self._places = places
        self._photos = photos

    def draw(self, size: Size, rng: np.random.Generator) -> Picture:
        """A ground of a size, (H, W, 3) uint8, RGB."""
        kind = rng.choice(KINDS, p=SHARES)
        if kind == "place" and self._places:
            ground = _view(self._places[rng.integers(len(self._places))], size, rng)
        elif kind == "blurred" and self._photos:
            ground = _blurred(self._photo(rng), size, rng)
        elif kind == "corner" and self._photos:
            ground = _corner(self._photo(rng), size, rng)
        elif kind == "white":
            ground = np.full((size[1], size[0], 3), rng.uniform(235, 256), np.float32)
        elif kind == "plain":
            ground = _plain(size, rng)
        elif kind == "gradient":
            ground = _gradient(size, rng)
        else:
            ground = _texture(size, rng)
        return ground.clip(0, 255).astype(np.uint8)

    def _photo(self, rng: np.random.Generator) -> Picture:
        return read_picture(self._photos[rng.integers(len(self._photos))])


def read_panorama(path: Path) -> Floats:
    """A panorama, (H, W, 3) float32, RGB, linear, with a median of 0.2.

    Raises:
        SetupError: the file cannot be read as a picture.
    """
    found = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if found is None or found.ndim != 3:
        raise SetupError(
            f"{path} cannot be read as a panorama; for .exr files set OPENCV_IO_ENABLE_OPENEXR=1"
        )
    picture = found[:, :, ::-1].astype(np.float32)
    if found.dtype == np.uint8:
        picture = (picture / 255) ** np.float32(2.2)
    picture = np.maximum(picture, 0)  # filters overshoot
    return np.ascontiguousarray(picture * (0.2 / max(float(np.median(picture)), 1e-6)))


def _view(panorama: Floats, size: Size, rng: np.random.Generator) -> Floats:
    """What a camera sees of a place."""
    width, height = size
    yaw, pitch = rng.uniform(-np.pi, np.pi), rng.uniform(-1.0, 0.3)
    focus = 0.5 * max(size) / np.tan(rng.uniform(0.3, 0.8))
    x, y = np.meshgrid(
        (np.arange(width) - width / 2) / focus, (np.arange(height) - height / 2) / focus
    )
    rows = y * np.cos(pitch) - np.sin(pitch)
    ahead = np.cos(pitch) + y * np.sin(pitch)
    longitude = np.arctan2(x, ahead) + yaw
    latitude = np.arctan2(rows, np.hypot(x, ahead))
    columns = (longitude / (2 * np.pi) % 1) * panorama.shape[1]
    lines = (latitude / np.pi + 0.5) * (panorama.shape[0] - 1)
    seen = cv2.remap(
        panorama, columns.astype(np.float32), lines.astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )  # fmt: skip
    exposed = seen * rng.uniform(0.5, 2.5)
    return np.asarray(255 * (exposed / (0.4 + exposed)) ** (1 / 2.2), np.float32)


def _blurred(photo: Picture, size: Size, rng: np.random.Generator) -> Floats:
    """A photo so blurred that nothing in it can be found."""
    coarse = cv2.resize(photo, (int(rng.integers(4, 9)),) * 2, interpolation=cv2.INTER_AREA)
    return _resized(coarse, size)


def _corner(photo: Picture, size: Size, rng: np.random.Generator) -> Floats:
    """A photo's corner, which shows its ground, large."""
    part = photo[: max(8, photo.shape[0] // 7), : max(8, photo.shape[1] // 7)]
    # Mirrored at its edges, so that it is not stretched too much.
    part = np.concatenate([part, part[:, ::-1]], axis=1)
    part = np.concatenate([part, part[::-1]], axis=0)
    if rng.random() < 0.5:
        part = np.tile(part, (2, 2, 1))
    return _resized(part, size)


def _plain(size: Size, rng: np.random.Generator) -> Floats:
    """One colour, perhaps a wall and a table of two shades, darker to the edges."""
    width, height = size
    ground = np.empty((height, width, 3), np.float32)
    ground[:] = _colour(rng)
    if rng.random() < 0.4:
        line = int(height * rng.uniform(0.3, 0.8))
        ground[line:] = ground[line:] * rng.uniform(0.75, 1.2) + rng.uniform(-10, 10, 3)
        if rng.random() < 0.5:
            ground = cv2.GaussianBlur(ground, (0, 0), rng.uniform(1, 12))
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    centre = rng.uniform(-0.5, 0.5, 2)
    distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    return np.asarray(ground * (1 - rng.uniform(0, 0.25) * distance[:, :, None]), np.float32)


def _gradient(size: Size, rng: np.random.Generator) -> Floats:
    corners = np.stack([_colour(rng) for _ in range(4)]).reshape(2, 2, 3)
    return np.asarray(cv2.resize(corners, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _texture(size: Size, rng: np.random.Generator) -> Floats:
    """Noise of several scales between two or three colours, or stripes of it, or tiles."""
    width, height = size
    field = np.zeros((height, width), np.float32)
    stretch = np.exp(rng.uniform(-2.5, 2.5)) if rng.random() < 0.5 else 1.0
    for octave in range(int(rng.integers(1, 4)), 8):
        cells = 2**octave
        rows = int(np.clip(cells * stretch, 1, height))
        columns = int(np.clip(cells / stretch, 1, width))
        noise = rng.standard_normal((rows, columns)).astype(np.float32)
        field += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC) * np.float32(
            rng.uniform(0.55, 0.8) ** octave
        )
    if rng.random() < 0.25:
        period = rng.integers(8, 60)
        lines = (np.arange(width) % period < period / 2).astype(np.float32)
        field += rng.uniform(0.2, 1.0) * (lines[None, :] + (rng.random() < 0.5) * lines.mean())
    field = (field - field.min()) / max(float(np.ptp(field)), 1e-6)
    if rng.random() < 0.3:
        field = np.abs(2 * field - 1)
    shades = np.stack([_colour(rng) for _ in range(int(rng.integers(2, 4)))])
    if rng.random() < 0.6:  # near shades, as most materials have
        shades = shades[:1] + (shades - shades[:1]) * np.float32(rng.uniform(0.1, 0.4))
    place = field * (len(shades) - 1)
    low = np.minimum(place.astype(int), len(shades) - 2)
    part = (place - low)[:, :, None]
    return np.asarray(shades[low] * (1 - part) + shades[low + 1] * part, np.float32)


def _colour(rng: np.random.Generator) -> Floats:
    hue, value = rng.uniform(0, 180), rng.uniform(20, 255)
    saturation = 255 * rng.random() ** 1.5
    pixel = np.array([[[hue, saturation, value]]], np.uint8)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0], np.float32)


def _resized(picture: Picture, size: Size) -> Floats:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.float32)
