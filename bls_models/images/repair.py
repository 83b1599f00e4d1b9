"""Files whose picture is whole though the file is not: what every viewer shows.

Nothing here is asked before a file has failed to open, or lacks its end.
"""

from __future__ import annotations

import binascii

from bls_models.images.part_limits import keeps_coefficients

# A PNG's chunks without which its picture would look otherwise.
PNG_PICTURE = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
# Those that are kept if they are sound.
PNG_SIDE = frozenset({b"iCCP", b"eXIf"})
PNG_START = 8
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
# Coefficients 1 to 63, bit 0 after bit 1.
LAST_BAND = b"\x01\x3f\x10"


def png_picture(data: bytes) -> bytes:
    """A PNG file without its side information, which may be damaged or too large.

    Checksums of what is kept stay as they are, so damage to the picture itself is still found.
    """
    parts = [data[:PNG_START]]
    place = PNG_START
    while place + 8 <= len(data):
        kind = data[place + 4 : place + 8]
        end = place + 12 + int.from_bytes(data[place : place + 4])
        if kind in PNG_PICTURE or (kind in PNG_SIDE and _sound(data[place + 4 : end])):
            parts.append(data[place:end])
        if kind == b"IEND":
            break
        place = end
    return b"".join(parts)


def lacks_end(data: bytes) -> bool:
    """Whether a JPEG ends within or right behind the data of its last scan, without a mark of that.

    Of one in several scans the last is known by what it adds to brightness: the least bits of all
    but the mean. With any other scan at the end, more is missing than that mark.
    """
    scan = data.rfind(START_OF_SCAN)
    if scan < 0 or data.rfind(END_OF_IMAGE) > scan:
        return False
    # Length, one component and its tables, first and last coefficient, bits.
    one_component, band = data[scan + 4 : scan + 5], data[scan + 7 : scan + 10]
    return not keeps_coefficients(data) or (one_component == b"\x01" and band == LAST_BAND)


def _sound(chunk: bytes) -> bool:
    """Whether a chunk, from its type to its checksum, fits that."""
    return binascii.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:])
