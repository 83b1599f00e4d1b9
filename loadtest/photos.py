"""The photos that a benchmark sends: each with the product it shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bls_models.errors import SetupError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
JPEG_QUALITY = 90
# Stands after the end of each file, where decoders do not look. A load generator writes another
# number into it to send a photo that no cache has seen.
SERIAL_PREFIX = b"photo serial "
SERIAL_DIGITS = 16
FIRST_SERIAL = SERIAL_PREFIX + b"0" * SERIAL_DIGITS
# Different ones that are made of photos.
MOST_SCENES = 24


@dataclass(frozen=True)
class Photo:
    """One query.

    Attributes:
        product_id: the product it shows, the right first match.
        data: the encoded file.
    """

    product_id: str
    data: bytes


def read_photos(folder: Path, side: int) -> list[Photo]:
    """The photos of a folder laid out as ``<product id>/<photo>``.

    Args:
        folder: where the products' folders are.
        side: they are sent as JPEGs of that many pixels each way, the size that cameras and
            shops give; 0: the files as they are. ``FIRST_SERIAL`` follows each file.

    Raises:
        SetupError: there is no photo.
    """
    files = _photo_files(folder, "*/*", "<product id>/<photo>")
    return [Photo(path.parent.name, _encoded(path, side) + FIRST_SERIAL) for path in files]


def read_any_photos(folder: Path, side: int) -> list[bytes]:
    """The photos anywhere in a folder, encoded and numbered; see ``read_photos``."""
    return [_encoded(path, side) + FIRST_SERIAL for path in _photo_files(folder, "**/*", "files")]


def scenes_from_photos(photos: Sequence[bytes]) -> list[bytes]:
    """Photos with four products each, encoded and numbered; at most ``MOST_SCENES``.

    Args:
        photos: of ``read_photos``, at least one. In a scene are four that stand far from each
            other, so that they show unlike things.
    """
    step = max(1, len(photos) // 4)
    return [
        four_in_one([photos[(first + place * step) % len(photos)] for place in range(4)])
        for first in range(min(len(photos), MOST_SCENES))
    ]


def four_in_one(photos: Sequence[bytes]) -> bytes:
    """Four photos as the quarters of one JPEG, which is as large as the first; numbered."""
    pictures = []
    for photo in photos:
        with Image.open(io.BytesIO(photo)) as image:
            pictures.append(image.convert("RGB"))
    width, height = pictures[0].width // 2, pictures[0].height // 2
    scene = Image.new("RGB", (2 * width, 2 * height))
    for place, picture in enumerate(pictures):
        quarter = picture.resize((width, height), Image.Resampling.BICUBIC)
        scene.paste(quarter, (place % 2 * width, place // 2 * height))
    return _jpeg(scene) + FIRST_SERIAL


def _photo_files(folder: Path, pattern: str, expected: str) -> list[Path]:
    files = [path for path in sorted(folder.glob(pattern)) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise SetupError(
            f"{folder} holds no photos; expected {expected} with one of "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return files


def _encoded(path: Path, side: int) -> bytes:
    return camera_jpeg(path, side) if side else path.read_bytes()


def with_serial(message: bytes, number: int) -> bytearray:
    """A message with a photo of ``read_photos`` in it, the photo made one of its own.

    Args:
        message: a photo, or a request that carries one unencoded.
        number: from 0 to 16 hexadecimal digits.
    """
    changed = bytearray(message)
    start = changed.index(SERIAL_PREFIX) + len(SERIAL_PREFIX)
    changed[start : start + SERIAL_DIGITS] = b"%016x" % number
    return changed


def camera_jpeg(path: Path, side: int) -> bytes:
    """A picture as a JPEG of ``side`` x ``side`` pixels, quality 90."""
    with Image.open(path) as image:
        square = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return _jpeg(square)


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
