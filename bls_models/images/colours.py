"""Colours as they are meant: pictures with a colour profile become sRGB."""

from __future__ import annotations

import hashlib
import io
import threading

import cachetools
import numpy as np
from PIL import Image, ImageCms

# Profiles of printers have tables of some 2 MB.
MAX_PROFILE_BYTES = 4 * 2**20
# Of 0 to 255; what differs less on a grid of colours is sRGB by another name.
SAME_COLOUR = 2
GRID = (0, 36, 73, 109, 146, 182, 219, 255)


def as_srgb(image: Image.Image, profile: object) -> Image.Image:
    """The picture in sRGB; without a profile that can be used, as it is.

    Args:
        image: loaded, of mode ``RGB``, which is changed in place, or ``CMYK``.
        profile: the file's ICC profile, if it has one.

    Returns:
        The image itself, or another of mode ``RGB``.
    """
    transform = _transform_of(profile, image.mode)
    if transform is None:
        return image
    in_place = image.mode == "RGB"
    converted = ImageCms.applyTransform(image, transform, inPlace=in_place)
    return image if converted is None else converted


def changes_rgb(profile: object) -> bool:
    """Whether ``as_srgb`` changes an image of mode ``RGB`` that has this profile."""
    return _transform_of(profile, "RGB") is not None


def _transform_of(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    if not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE_BYTES:
        return None
    return _transform(profile, mode)


@cachetools.cached(
    cachetools.LRUCache(16),
    key=lambda profile, mode: (hashlib.sha256(profile).digest(), mode),
    lock=threading.Lock(),
)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile's colours to sRGB; None where there is nothing to do, or it is damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        # As viewers do with a profile of another kind of picture, or a damaged one.
        return None
    if mode != "RGB":
        return transform
    grid = np.stack(np.meshgrid(GRID, GRID, GRID), axis=-1).reshape(-1, len(GRID), 3)
    colours = Image.fromarray(grid.astype(np.uint8))
    changed = ImageCms.applyTransform(colours, transform)
    assert changed is not None
    apart = np.abs(np.asarray(changed).astype(int) - grid).max()
    return None if apart <= SAME_COLOUR else transform
