"""How many parts an image file has, before a decoder goes through them.

Decoders take their time for each part of a file, not for its bytes alone: a JPEG of some megabytes
can ask for its pixels to be gone over a hundred thousand times, and a PNG can consist of a million
empty chunks. Files that cameras and editors write have far fewer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

# Cameras and editors write up to some ten scans.
MAX_JPEG_SCANS = 100
# A colour profile or a preview of several MB is split into segments of 64 kB.
MAX_JPEG_SEGMENTS = 2_000
# Encoders split pixels into chunks of 8 kB, some of 4 kB.
MAX_PNG_CHUNKS = 10_000
# Editors write some five profiles so. Each may be inflated to a megabyte, as the header is read.
MAX_PNG_TEXTS = 16
INFLATED_TEXTS = frozenset({b"zTXt", b"iTXt"})
# A picture of 50 million pixels in tiles of 512 has some two hundred.
MAX_HEIC_ITEMS = 10_000

# The next marker, also after a scan's data, in which FF is followed by 00 or a restart marker.
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
# Markers that a decoder takes for ones without a length: TEM, JPG, a second start, an end before
# any scan, and those reserved for extensions.
PARAMETERLESS = frozenset({0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)})
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# Start of a frame; C4, C8 and CC among them are something else. After its length: bits, height,
# width, and the number of components.
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


def excess_of_parts(kind: str, data: bytes) -> tuple[str, str] | None:
    """What a file has too much of, and the most that it may have; None where it has not.

    Args:
        kind: a key of ``bls_models.images.formats.READERS``.
        data: the file, also a damaged one.
    """
    if kind == "JPEG":
        return _excess_of_jpeg(data)
    if kind == "PNG":
        return _excess_of_png(data)
    if kind == "HEIC":
        return _fault_of_heic(data)
    # A WebP is read to its first frame, and its chunks are skipped in compiled code.
    return None


def keeps_coefficients(data: bytes) -> bool:
    """Whether a JPEG's decoder must keep the coefficients of the whole picture.

    It does where a pixel is made of several scans: in progressive files, and in others whose first
    scan does not hold all components.
    """
    place, components = 2, 0
    while marker := JPEG_MARKER.search(data, place):
        (code,) = marker[1]
        place = marker.end()
        if code in PROGRESSIVE:
            return True
        if code in START_OF_FRAME:
            components = int.from_bytes(data[place + 7 : place + 8])
        elif code == START_OF_SCAN:
            return int.from_bytes(data[place + 2 : place + 3]) < components
        if code not in PARAMETERLESS:
            place += int.from_bytes(data[place : place + 2])
    return False


def _excess_of_jpeg(data: bytes) -> tuple[str, str] | None:
    # A marker ends in FF and something else than 00. That many are the most there can be, and
    # counting them takes a fiftieth of the time of going through the parts.
    codes = np.frombuffer(data, np.uint8)
    after_ff = codes[1:][codes[:-1] == 0xFF]
    most_scans = np.count_nonzero(after_ff == START_OF_SCAN)
    if np.count_nonzero(after_ff) <= MAX_JPEG_SEGMENTS and most_scans <= MAX_JPEG_SCANS:
        return None
    place, segments, scans = 2, 0, 0
    while marker := JPEG_MARKER.search(data, place):
        (code,) = marker[1]
        place = marker.end()
        if code == END_OF_IMAGE and scans:
            return None
        segments += 1
        scans += code == START_OF_SCAN
        if scans > MAX_JPEG_SCANS:
            return f"more than {MAX_JPEG_SCANS} scans", f"at most {MAX_JPEG_SCANS}"
        if segments > MAX_JPEG_SEGMENTS:
            return f"more than {MAX_JPEG_SEGMENTS} segments", f"at most {MAX_JPEG_SEGMENTS}"
        if code not in PARAMETERLESS:
            place += int.from_bytes(data[place : place + 2])
    return None


def _excess_of_png(data: bytes) -> tuple[str, str] | None:
    place, chunks, texts = 8, 0, 0
    while place + 8 <= len(data):
        kind = data[place + 4 : place + 8]
        if kind == b"IEND":
            return None
        texts += kind in INFLATED_TEXTS
        if texts > MAX_PNG_TEXTS:
            return f"more than {MAX_PNG_TEXTS} compressed texts", f"at most {MAX_PNG_TEXTS}"
        chunks += 1
        if chunks > MAX_PNG_CHUNKS:
            return f"more than {MAX_PNG_CHUNKS} chunks", f"at most {MAX_PNG_CHUNKS}"
        place += 12 + int.from_bytes(data[place : place + 4])
    return None


def _fault_of_heic(data: bytes) -> tuple[str, str] | None:
    """Too many items, or one whose type or name is no text: pi_heif ends the process over that."""
    items = 0
    for kind, begin, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        for inner, inner_begin, inner_end in _boxes(data, begin + 4, end):
            if inner != b"iinf":
                continue
            # A count follows the version, of 2 bytes or in later versions 4.
            skipped = 6 if data[inner_begin : inner_begin + 1] == b"\0" else 8
            for _, at, item_end in _boxes(data, inner_begin + skipped, inner_end):
                items += 1
                if items > MAX_HEIC_ITEMS:
                    return f"more than {MAX_HEIC_ITEMS} items", f"at most {MAX_HEIC_ITEMS}"
                # Version and flags, the item's number, and that of its protection.
                texts = data[at + (10 if data[at : at + 1] == b"\3" else 8) : item_end]
                try:
                    texts.decode()
                except UnicodeDecodeError:
                    return "an item whose type or name is no UTF-8", "items named in UTF-8"
    return None


def _boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of each ISO media box between two places, without its header."""
    while begin + 8 <= end:
        size, header = int.from_bytes(data[begin : begin + 4]), 8
        if size == 1:
            size, header = int.from_bytes(data[begin + 8 : begin + 16]), 16
        # 0 means all that is left.
        size = size or end - begin
        if size < header:
            return
        yield data[begin + 4 : begin + 8], begin + header, min(begin + size, end)
        begin += size
