"""The formats that pictures may have: how their files begin, and what reads them."""

from __future__ import annotations

from collections.abc import Mapping

import pi_heif.options
from pi_heif import HeifImageFile
from PIL import AvifImagePlugin, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

# Several pictures are decoded at a time already.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pi_heif.options.DECODE_THREADS = 1
# Nothing but the picture itself is wanted.
pi_heif.options.AUX_IMAGES = False
pi_heif.options.DEPTH_IMAGES = False
pi_heif.options.THUMBNAILS = False

# The readers are called directly and not through ``Image.open``: that one would hand a JPEG with
# a picture index to the MPO plugin, and warn at a process-wide pixel limit of its own.
READERS: Mapping[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "HEIC": HeifImageFile,
    "AVIF": AvifImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
}
NAMES = ", ".join(list(READERS)[:-1]) + f" or {list(READERS)[-1]}"

# How other files begin that are sent for pictures.
OTHERS: Mapping[bytes, str] = {
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"\xff\x0a": "a JPEG XL file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 file",
    b"8BPS": "a Photoshop file",
    b"\0\0\x01\0": "an icon",
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"http://": "a link, and the server fetches none",
    b"https://": "a link, and the server fetches none",
}
# ISO media files name what is in them.
BRANDS: Mapping[str, frozenset[bytes]] = {
    "AVIF": frozenset({b"avif", b"avis"}),
    "HEIC": frozenset(
        {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
    ),
}
MOST_BRANDS = 32
# Lengths of a BMP's second header; two letters alone would fit many texts.
BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
# Run-length encodings, which Pillow decodes in Python.
SLOW_BMP = frozenset({1, 2})


def format_of(data: bytes) -> str | None:
    """The key of ``READERS`` as whose file ``data`` begins, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in BMP_HEADERS:
        return None if int.from_bytes(data[30:34], "little") in SLOW_BMP else "BMP"
    brands = _brands(data)
    return next((name for name, known in BRANDS.items() if known & brands), None)


def other_format(data: bytes) -> str:
    """What a file is that cannot be read, for a message; empty where nothing is known of it."""
    if _brands(data):
        return "a video"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in BMP_HEADERS:
        return "a run-length encoded BMP"
    return next((name for start, name in OTHERS.items() if data.startswith(start)), "")


def _brands(data: bytes) -> frozenset[bytes]:
    """The brands of an ISO media file; empty for others."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4]), 16 + 4 * MOST_BRANDS, len(data))
    return frozenset([data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))])
