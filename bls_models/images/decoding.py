"""From encoded bytes to an upright picture, or on to the pixels an engine takes.

``decode_pixels`` runs the whole way; each step is also a function of its own. Nothing here keeps
state, so the functions may run in any number of threads. ``open_image`` says what decoding will
take of memory before it begins.
"""

from __future__ import annotations

import binascii
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, ImageChops, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

from bls_models.errors import ImageError
from bls_models.images.arrays import ORIENTATIONS, Picture, array_of
from bls_models.images.colours import as_srgb, changes_rgb
from bls_models.images.formats import NAMES, READERS, format_of, other_format
from bls_models.images.memory import decoding_bytes
from bls_models.images.part_limits import excess_of_parts
from bls_models.images.preprocessing import Crop, Preprocess, prepare_pixels
from bls_models.images.repair import END_OF_IMAGE, lacks_end, png_picture
from bls_models.watchdog import progress

# Orientations that exchange width and height.
SIDEWAYS = frozenset({5, 6, 7, 8})

EXPECTED_IMAGE = f"a {NAMES} file, raw or as base64"
# The most that a JPEG can have; decoders take their time for each row, also where it is one pixel.
MAX_SIDE = 65_535

EXIF_HEADER = b"Exif\0\0"
# What follows a JPEG that was cut off, to see whether it had been read to its end; no FF in it.
NOISE = bytes(range(1, 255, 2)) * 8
# Mean difference of a row's grey, 0 to 255, from which on it was made up, and the share of rows
# that may be: what the last byte was for.
MADE_UP = 4.0
MAX_MISSING = 0.02
DATA_URL = re.compile(rb"data:[^,]{0,255};base64,", re.IGNORECASE)
ASCII_WHITESPACE = b" \t\n\r\v\f"
STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True)
class ImageLimits:
    """How large an image may be.

    Args:
        max_bytes: most bytes of the encoded file.
        max_pixels: most pixels, width times height.
        max_memory: most bytes that decoding may take.
    """

    max_bytes: int
    max_pixels: int
    max_memory: float = math.inf


def encoded_bytes(value: bytes, tensor: str, limits: ImageLimits) -> bytes:
    """The bytes of an image file sent raw, as base64 text or as a ``data:`` URL.

    Args:
        value: a raw file of a format of ``READERS``; or padded base64 text of one in the standard
            or the URL-safe alphabet, ASCII whitespace allowed.
        tensor: the input's name for messages, ``image[0]``.
        limits: ``max_bytes`` holds for the file, not for its base64 text.

    Returns:
        The file's bytes, with the magic number of a known format; a raw file is not copied.

    Raises:
        ImageError: empty, too large, or neither an image nor base64 of one.
    """
    if format_of(value) is not None:
        _check_bytes(len(value), tensor, limits)
        return value
    text = value.translate(None, delete=ASCII_WHITESPACE)
    header = DATA_URL.match(text)
    if header:
        text = text[header.end() :]
    # Four characters are at least one byte after all others' three: too long is not decoded.
    _check_bytes(len(text) // 4 * 3 - 2, tensor, limits)
    try:
        data = binascii.a2b_base64(text.translate(STANDARD_ALPHABET), strict_mode=True)
    except binascii.Error as error:
        known = other_format(value)
        found = known or f"{_start(value)}, which are neither an image nor base64 ({error})"
        raise _unreadable(found, tensor) from error
    _check_bytes(len(data), tensor, limits)
    if format_of(data) is None:
        known = other_format(data) or _start(data)
        raise _unreadable(f"base64 of {known}" if data else "empty", tensor)
    return data


class OpenImage:
    """An image file whose header was read and is within the limits.

    Attributes:
        memory: bytes that it takes at most, from ``decode`` to an engine's pixels.
        pixels: how many it will have.
    """

    def __init__(
        self,
        kind: str,
        data: bytes,
        tensor: str,
        image: ImageFile.ImageFile,
        memory: int,
        lacked_end: bool,
    ) -> None:
        self.memory = memory
        self.pixels = image.width * image.height
        self._lacked_end = lacked_end
        self._kind = kind
        self._data = data
        self._tensor = tensor
        self._image: ImageFile.ImageFile | None = image

    def decode(self) -> Picture:
        """Decode it, once.

        The EXIF orientation is applied and an unreadable EXIF block ignored; transparency is laid
        on white, 16 bits are scaled to 8, colours become sRGB, and of an animation the first frame
        is taken.

        Returns:
            (H, W, 3) uint8, upright, RGB.

        Raises:
            ImageError: a truncated or corrupt file.
        """
        opened = self._image
        assert opened is not None, "it was decoded already"
        with _damage_named(self._kind, self._data, self._tensor):
            picture = None if self._lacked_end else _jpeg_pixels(opened, self._data)
            if picture is None:
                self._load(opened)
            # Not before loading: asked for it, a PNG loads, and its damage would go unnoticed.
            turn = ORIENTATIONS.get(_orientation(opened))
            del opened
            if picture is None:
                picture = self._converted()
            self._image = None
            progress()
            return picture if turn is None else turn(picture)

    def _load(self, opened: ImageFile.ImageFile) -> None:
        """Have Pillow decode it."""
        size = opened.size
        opened.load()
        if opened.size != size:
            raise ValueError(f"{opened.size} pixels where the header says {size}")
        if self._lacked_end:
            _check_whole(opened, self._data)

    def _converted(self) -> Picture:
        """The loaded picture as it lies in the file, RGB."""
        # Each step lets go of the picture before it, so that there are never more than two.
        opened, self._image = self._image, None
        assert opened is not None
        profile = opened.info.get("icc_profile")
        image: Image.Image = opened
        del opened
        if isinstance(image, WebPImageFile):
            # The file keeps its decoder's canvases.
            image = image.copy()
        if image.mode.startswith("I"):
            image = _grey_from_16_bits(image)
        if image.has_transparency_data:
            if image.mode != "RGBA":
                image = image.convert("RGBA")
            image = _on_white(image)
        elif image.mode == "CMYK":
            image = as_srgb(image, profile)
            profile = None
        if image.mode != "RGB":
            image = image.convert("RGB")
        image = as_srgb(image, profile)
        return array_of(image)


def open_image(
    data: bytes,
    tensor: str,
    limits: ImageLimits,
    preprocess: Preprocess | None = None,
    crop: Crop | None = None,
) -> OpenImage:
    """Read an image file's header and check it against the limits.

    Args:
        data: a file of a format of ``READERS``.
        tensor: the input's name for messages.
        limits: checked are pixels, the longest side, the number of parts
            (``bls_models.images.part_limits``) and the memory that decoding takes.
        preprocess: what ``prepare_pixels`` will be asked for. With it, a JPEG is decoded at
            1/2, 1/4 or 1/8 of its size where that still has the pixels that are needed: half
            the time for a photo of 1000 pixels, less for larger ones, and a vector of the mini
            bundle whose cosine to the one of the whole size is 0.998 on average.
        crop: the crop that ``prepare_pixels`` will be asked for.

    Raises:
        ImageError: another format, beyond a limit, or a corrupt file.
    """
    kind = format_of(data)
    if kind is None:
        raise _unreadable(other_format(data) or _start(data), tensor)
    lacked_end = kind == "JPEG" and lacks_end(data)
    if lacked_end:
        # Half of a mark would make another one of what follows.
        data = data.rstrip(b"\xff") + END_OF_IMAGE
    excess = excess_of_parts(kind, data)
    if excess is not None:
        found, expected = excess
        raise ImageError(
            tensor, f"a {kind} file of {found}", expected, "Save it anew with an image editor."
        )
    with _damage_named(kind, data, tensor):
        try:
            image = _checked(kind, data, tensor, limits)
        except ImageError:
            raise
        except Exception:
            picture = png_picture(data) if kind == "PNG" else data
            if len(picture) == len(data):
                raise
            data = picture
            image = _checked(kind, data, tensor, limits)
        size = image.size
        if preprocess is not None and isinstance(image, JpegImageFile):
            _decode_reduced(image, preprocess, crop)
        memory = decoding_bytes(image, data, size[0] * size[1])
        if lacked_end:
            memory *= 2
        _check_memory(kind, size, memory, tensor, limits)
        return OpenImage(kind, data, tensor, image, memory, lacked_end)


def decode_image(
    data: bytes,
    tensor: str,
    limits: ImageLimits,
    preprocess: Preprocess | None = None,
    crop: Crop | None = None,
) -> Picture:
    """An image file's pixels, (H, W, 3) uint8, upright, RGB: what is opened decoded at once.

    See ``open_image`` and ``OpenImage.decode``.

    Raises:
        ImageError: another format, beyond a limit, or a truncated or corrupt file.
    """
    return open_image(data, tensor, limits, preprocess, crop).decode()


def decode_pixels(
    value: bytes,
    tensor: str,
    limits: ImageLimits,
    preprocess: Preprocess,
) -> tuple[npt.NDArray[np.uint8], bytes]:
    """All steps from a request's bytes to an engine's pixels.

    Args:
        value: see ``encoded_bytes``.
        tensor: the input's name for messages.
        limits: the largest file and picture.
        preprocess: the square's side S and how to reach it.

    Returns:
        The pixels, (S, S, 3) uint8, and the encoded file's bytes.

    Raises:
        ImageError: the image is not valid.
    """
    data = encoded_bytes(value, tensor, limits)
    return prepare_pixels(decode_image(data, tensor, limits, preprocess), preprocess), data


@contextmanager
def _damage_named(kind: str, data: bytes, tensor: str) -> Iterator[None]:
    """Whatever a decoder makes of a damaged file becomes an ``ImageError``."""
    try:
        yield
    except ImageError:
        raise
    # A damaged file can raise nearly anything from within a decoder: OSError, SyntaxError,
    # ValueError, struct.error, EOFError, zlib.error, MemoryError, OverflowError and more.
    except Exception as error:
        raise ImageError(
            tensor,
            f"a {kind} file of {len(data)} bytes that does not decode "
            f"({type(error).__name__}: {error})",
            "a whole, undamaged file",
            "Check that it opens in an image viewer and was not cut off in transfer.",
        ) from error


def _checked(kind: str, data: bytes, tensor: str, limits: ImageLimits) -> ImageFile.ImageFile:
    """Read an image's header and check its size; of a PNG also what its decoder does not."""
    image = _open(kind, data)
    _check_size(image.size, tensor, limits)
    if kind == "PNG":
        # Pillow's decoder skips the checksums of the pixel data, and a missing end.
        _open(kind, data).verify()
    return image


def _check_whole(image: Image.Image, data: bytes) -> None:
    """Check that a JPEG which lacked its end lacked no more.

    A decoder makes up what is missing. Where the data goes on with noise, it makes up something
    else, and so the rows that differ are those that are missing.

    Args:
        image: decoded.
        data: its file, with an end put to it.

    Raises:
        ValueError: a part of the picture is missing.
    """
    noise = NOISE * (1 + image.width * image.height // len(NOISE) // 4)
    again = _open("JPEG", data.removesuffix(END_OF_IMAGE) + noise + END_OF_IMAGE)
    if isinstance(again, JpegImageFile):
        again.draft(None, image.size)
    apart = ImageChops.difference(image.convert("L"), again.convert("L"))
    rows = np.asarray(apart, np.float32).mean(axis=1)
    missing = float((rows > MADE_UP).mean())
    if missing > MAX_MISSING:
        raise ValueError(f"about {missing:.0%} of the picture are missing")


def _open(kind: str, data: bytes) -> ImageFile.ImageFile:
    """Read an image's header; a JPEG that fails over its EXIF block is read without it."""
    try:
        return READERS[kind](io.BytesIO(data))
    except Exception:
        # Pillow looks for the resolution in the EXIF block and lets some of its faults through.
        if kind != "JPEG" or EXIF_HEADER not in data:
            raise
        return READERS[kind](io.BytesIO(data.replace(EXIF_HEADER, b"none\0\0", 1)))


def _decode_reduced(image: JpegImageFile, preprocess: Preprocess, crop: Crop | None) -> None:
    """Let the decoder leave out what resizing would: the least scale that has enough pixels."""
    width, height = image.size
    x0, y0, x1, y1 = (0.0, 0.0, 1.0, 1.0) if crop is None else crop
    # The crop is of the upright picture, which may lie on its side in the file.
    turned = _orientation(image) in SIDEWAYS
    across, down = (y1 - y0, x1 - x0) if turned else (x1 - x0, y1 - y0)
    sides = (width * across * preprocess.keep, height * down * preprocess.keep)
    decisive = max(sides) if preprocess.resize == "pad" else min(sides)
    reduction = max(1.0, decisive / preprocess.size)
    # Pillow takes the least of its scales that is at least as large as this.
    image.draft(None, (math.ceil(width / reduction), math.ceil(height / reduction)))


def _jpeg_pixels(image: ImageFile.ImageFile, data: bytes) -> Picture | None:
    """The pixels of a usual, sound JPEG by libjpeg alone, in three quarters of Pillow's time.

    They are Pillow's to the last bit. Of anything else Pillow has to say what it is: None.

    Args:
        image: opened, and set to the size that it will be decoded at.
        data: its file.
    """
    usual = isinstance(image, JpegImageFile) and image.mode in ("RGB", "L")
    if not usual or changes_rgb(image.info.get("icc_profile")):
        return None
    width, height = image.size
    try:
        # The least size that has that many pixels, which is this one.
        pixels: Picture = simplejpeg.decode_jpeg(data, min_height=height, min_width=width)
    except ValueError:
        # Also at what a decoder can do without, as stray bytes; Pillow passes over some of it.
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 where there is none that can be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image)
    return canvas


def _grey_from_16_bits(image: Image.Image) -> Image.Image:
    """Scale grey 0-65535 to 0-255, which Pillow would clip; the transparent grey turns white."""
    table = [(value + 128) // 257 for value in range(2**16)]
    clear = image.info.pop("transparency", None)
    if clear is not None:
        table[clear] = 255
    # Pillow takes a table of that length for 32 bits alone.
    return image.convert("I").point(table, "L")


def _check_bytes(count: int, tensor: str, limits: ImageLimits) -> None:
    if count > limits.max_bytes:
        raise ImageError(
            tensor,
            f"{count} bytes",
            f"at most {limits.max_bytes} bytes",
            "Send a smaller or more strongly compressed file.",
        )


def _check_size(size: tuple[int, int], tensor: str, limits: ImageLimits) -> None:
    got = f"{size[0]} x {size[1]} pixels"
    if size[0] * size[1] > limits.max_pixels:
        expected = f"at most {limits.max_pixels} pixels"
        raise ImageError(tensor, got, expected, "Send a smaller picture.")
    if max(size) > MAX_SIDE:
        raise ImageError(tensor, got, f"at most {MAX_SIDE} pixels on a side")


def _check_memory(
    kind: str, size: tuple[int, int], memory: int, tensor: str, limits: ImageLimits
) -> None:
    if memory > limits.max_memory:
        most = int(limits.max_memory * size[0] * size[1] // memory)
        raise ImageError(
            tensor,
            f"a {kind} of {size[0]} x {size[1]} pixels, which take {memory} bytes to decode",
            f"at most {most} pixels of a file of its kind",
            "Send a smaller picture, or one as JPEG that is not progressive.",
        )


def _unreadable(got: str, tensor: str) -> ImageError:
    remedy = "Send the file's bytes; convert other formats first."
    return ImageError(tensor, got, EXPECTED_IMAGE, remedy)


def _start(data: bytes) -> str:
    return f"{len(data)} bytes that begin {data[:12].hex(' ')}" if data else "empty"
