"""Photos as the page shows them: upright, small, and of a kind that every browser has."""

from __future__ import annotations

import base64

from bls_models.images.decoding import ImageLimits, encoded_bytes
from bls_models.images.memory import MemoryBudget
from bls_models.picture.request import WEBP
from bls_models.picture.scaling import CONTENT_TYPES, scaled_picture

# Of all photos that are decoded at the same time; what would take more is not shown.
MEMORY = 512 * 2**20
LIMITS = ImageLimits(max_bytes=10 * 2**20, max_pixels=50_000_000, max_memory=MEMORY)
BUDGET = MemoryBudget(MEMORY)
NAME = "the photo"


def preview(photo: bytes, size: int) -> str:
    """The photo as a ``data:`` URL.

    Args:
        photo: the file, or what else the server takes for one.
        size: longest side in pixels; it is never enlarged.

    Raises:
        ImageError: it cannot be decoded, or is larger than the server's own limits.
    """
    file = encoded_bytes(photo, NAME, LIMITS)
    small = scaled_picture(file, NAME, size, WEBP, LIMITS, BUDGET)
    return f"data:{CONTENT_TYPES[WEBP]};base64,{base64.b64encode(small.data).decode()}"
