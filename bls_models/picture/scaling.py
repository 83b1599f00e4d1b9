"""From a stored picture's file to one that browsers show, of the size that is wanted."""

from __future__ import annotations

import io
from dataclasses import dataclass

import simplejpeg
from PIL import Image

from bls_models.images.arrays import Picture, fitted
from bls_models.images.decoding import ImageLimits, open_image
from bls_models.images.memory import MemoryBudget
from bls_models.images.preprocessing import Preprocess
from bls_models.picture.request import JPEG, WEBP

CONTENT_TYPES = {WEBP: "image/webp", JPEG: "image/jpeg"}
# The most that a file of the format can have on a side.
MOST_SIDE = {WEBP: 16_383, JPEG: 65_500}
QUALITY = {WEBP: 80, JPEG: 85}
# The encoder's effort, 0 to 6: a third of the time of 4, for files that are a tenth larger.
WEBP_METHOD = 2
# Bytes a pixel, as measured: the array, Pillow's copy of it and the encoder's own.
ENCODING_BYTES = {WEBP: 13, JPEG: 5}


@dataclass(frozen=True)
class ScaledPicture:
    """An encoded picture.

    Attributes:
        data: the file.
        width: in pixels.
        height: in pixels.
    """

    data: bytes
    width: int
    height: int


def scaled_picture(
    data: bytes,
    name: str,
    size: int | None,
    kind: str,
    limits: ImageLimits,
    budget: MemoryBudget,
) -> ScaledPicture:
    """Scale a picture and encode it anew: upright, sRGB, without transparency or metadata.

    Args:
        data: the stored file.
        name: what messages call it.
        size: longest side in pixels; None: the picture's own. Never is a picture enlarged, and
            none is larger than the format can be.
        kind: one of ``PICTURE_FORMATS``.
        limits: of decoding.
        budget: of memory; of ``limits.max_memory`` at least.

    Raises:
        ImageError: the stored file is damaged, or beyond a limit.
    """
    # A JPEG is not decoded at more than the size that is wanted.
    preprocess = None if size is None else Preprocess(size, "pad")
    opened = open_image(data, name, limits, preprocess)
    encoding = opened.pixels * ENCODING_BYTES[kind]
    with budget.hold(int(min(max(opened.memory, encoding), limits.max_memory))):
        picture = fitted(opened.decode(), min(size or MOST_SIDE[kind], MOST_SIDE[kind]))
        height, width = picture.shape[:2]
        return ScaledPicture(_encoded(picture, kind), width, height)


def _encoded(picture: Picture, kind: str) -> bytes:
    if kind == JPEG:
        data: bytes = simplejpeg.encode_jpeg(picture, QUALITY[JPEG], colorsubsampling="420")
        return data
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=QUALITY[WEBP], method=WEBP_METHOD)
    return file.getvalue()
