"""Pictures as agents give them: links, base64, ``data:`` URLs and, where they may, files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from product_match_client.errors import BadRequestError
from product_match_client.images import ImageSource
from product_match_client.links import LARGEST_PICTURE, is_link

# Both alphabets of base64. There is no dot in them, so the name of a file with its ending is none.
BASE64 = re.compile(r"[A-Za-z0-9+/_=\s-]+")
DATA_URL = re.compile("data:", re.IGNORECASE)
# Of a data URL, before its base64.
HEADER_LENGTH = 300
LONGEST_TEXT = (LARGEST_PICTURE + 2) // 3 * 4 + HEADER_LENGTH
KINDS = "an http(s) link, base64 or a data: URL"


def pictures_from_agent(given: Sequence[str], folder: Path | None) -> list[ImageSource]:
    """What the client is to send.

    A text that is no link never reaches the client as one, for the client would take it for a path.

    Args:
        given: links; base64 text and data URLs, which the server reads; paths of files.
        folder: below which files may be; None: nowhere.

    Raises:
        BadRequestError: one is none of these, too large, or a file that may not be read.
    """
    return [_source(text.strip(), f"picture {n}", folder) for n, text in enumerate(given, start=1)]


def _source(text: str, which: str, folder: Path | None) -> ImageSource:
    if is_link(text):
        return text
    if DATA_URL.match(text) or BASE64.fullmatch(text):
        if len(text) > LONGEST_TEXT:
            raise BadRequestError(f"{which}: {len(text)} characters; {_largest()}")
        return text.encode("utf-8", "replace")
    if folder is None:
        raise BadRequestError(
            f"{which}: {text[:80]!r} is neither a link nor base64; expected {KINDS}. Files are "
            "read only where the tools were started with a folder for them (--photos)"
        )
    return _file_below(folder, text, which)


def _file_below(folder: Path, text: str, which: str) -> Path:
    """The file, with all symbolic links followed before its place is looked at."""
    root = folder.resolve()
    refused = BadRequestError(
        f"{which}: {text[:300]!r} is no file below {root}; expected the path of one, or {KINDS}"
    )
    try:
        path = (root / text).resolve()
        if not (path.is_relative_to(root) and path.is_file()):
            raise refused
        size = path.stat().st_size
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a circle of links
        raise refused from error
    if size > LARGEST_PICTURE:
        raise BadRequestError(f"{which}: {size} bytes; {_largest()}")
    return path


def _largest() -> str:
    return f"expected a picture of at most {LARGEST_PICTURE} bytes, so send a smaller copy"
