"""What decoding an image takes of memory, and a budget of it that decoding threads share.

A file says little of it: a PNG of some kilobytes can hold a picture of 50 million pixels.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from pi_heif import HeifImageFile
from PIL import ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

from bls_models.images.part_limits import keeps_coefficients

# Bytes a pixel, as the tests measure them. Pillow keeps 4 a pixel, the array of them takes 3, and
# each step from the file's mode to the pixels of an engine has the picture before it and the one
# after it; the last of them makes it smaller, by half at least.
PIXEL_BYTES = 9
# The decoder's two canvases, what it hands over, Pillow's copy of that, and a little more.
WEBP_PIXEL_BYTES = 17
# The decoder's picture in its own colours and in ours beside Pillow's and the array of that.
VIDEO_PIXEL_BYTES = 13
COEFFICIENT_BYTES = 2


def decoding_bytes(image: ImageFile.ImageFile, data: bytes, pixels: int) -> int:
    """The most memory that an image takes from its decoding to an engine's pixels.

    Args:
        image: opened, and set to the size that it will be decoded at.
        data: its file.
        pixels: of the whole picture, which a JPEG in several scans is kept of at any size.
    """
    decoded = image.width * image.height
    if isinstance(image, WebPImageFile):
        # The decoder has a copy of the file, which Pillow read into another.
        return decoded * WEBP_PIXEL_BYTES + 2 * len(data)
    if isinstance(image, AvifImageFile | HeifImageFile):
        return decoded * VIDEO_PIXEL_BYTES + 2 * len(data)
    kept = 0
    if isinstance(image, JpegImageFile) and keeps_coefficients(data):
        finest = max(across * down for _, across, down, _ in image.layer)
        samples = sum(across * down for _, across, down, _ in image.layer)
        kept = pixels * COEFFICIENT_BYTES * samples // finest
    return decoded * PIXEL_BYTES + kept


class MemoryBudget:
    """Memory that several threads may take together; who does not fit waits.

    Those who wait are served in the order in which they came, so that a large picture is not kept
    out by small ones for ever.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Take some of it for the block, when there is as much; never twice in one thread.

        Args:
            amount: bytes, at most the limit.
        """
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            self._changed.wait_for(
                lambda: self._waiting[0] is turn and self._held + amount <= self._limit
            )
            self._waiting.popleft()
            self._held += amount
            # The next one may fit too.
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()
