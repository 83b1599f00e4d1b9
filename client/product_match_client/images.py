"""Reading pictures from wherever the caller has them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from product_match_client.errors import BadRequestError
from product_match_client.links import fetch_pictures, is_link

ImageSource: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""An encoded picture (JPEG, PNG, WebP, HEIC, AVIF, GIF or BMP): bytes, a path, an open file, or the
http(s) address of one as text, which is fetched from here."""

EXPECTED = "bytes, a path, a link or a binary file"


def encoded_images(
    images: ImageSource | Iterable[ImageSource], allow_private_links: bool = False
) -> list[bytes]:
    """The encoded bytes of one picture or several.

    Args:
        images: see `ImageSource`.
        allow_private_links: whether links may lead to this machine and into private networks.

    Raises:
        BadRequestError: one cannot be read or fetched, or is of another kind.
        ServiceUnavailableError: a linked one cannot be fetched now.
    """
    sources = image_sources(images)
    # Each once, though it be given twice.
    links = list(dict.fromkeys(source for source in sources if is_link(source)))
    fetched = dict(zip(links, fetch_pictures(links, allow_private_links), strict=True))
    return [
        fetched[source] if is_link(source) else image_bytes(source, position)
        for position, source in enumerate(sources)
    ]


def image_sources(images: ImageSource | Iterable[ImageSource]) -> tuple[ImageSource, ...]:
    """The pictures of an argument that may be one picture or several.

    Raises:
        BadRequestError: it is neither.
    """
    if isinstance(images, bytes | bytearray | memoryview | str | os.PathLike):
        return (images,)
    if hasattr(images, "read"):
        return (cast(BinaryIO, images),)  # an open file, though it iterates (over lines)
    if not isinstance(images, Iterable):
        raise BadRequestError(f"images: got {type(images).__name__}; expected {EXPECTED}")
    return tuple(images)


def image_bytes(source: ImageSource, position: int) -> bytes:
    """The encoded bytes of one picture; they are not decoded here.

    Args:
        source: see `ImageSource`.
        position: its place among the pictures of the request, for the message.

    Raises:
        BadRequestError: the file cannot be read, or the source is of another kind.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        try:
            return Path(source).read_bytes()
        except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
            reason = getattr(error, "strerror", None) or str(error)
            raise BadRequestError(
                f"image[{position}]: cannot read {os.fspath(source)}: {reason}"
            ) from error
    if hasattr(source, "read"):
        data = source.read()
        if isinstance(data, bytes):
            return data
        raise BadRequestError(f"image[{position}]: the file is open as text; open it with 'rb'")
    raise BadRequestError(f"image[{position}]: got {type(source).__name__}; expected {EXPECTED}")
