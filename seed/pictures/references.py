"""What a row says about its pictures: names, links, or the pictures themselves."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from seed.records import BadRowError

Reference: TypeAlias = str | bytes
"""A path, an http(s) address, or an encoded picture."""

LINK = re.compile(r"https?://", re.IGNORECASE)
# One of them, so that a long run of others is not searched again from each of its places.
LINK_SEPARATORS = re.compile(r"[\s,;|](?=https?://)", re.IGNORECASE)
EXPECTED = "expected paths, links, or pictures"


def picture_references(value: Any, is_name: Callable[[str], bool]) -> list[Reference]:
    """The pictures of a cell or a JSON value, in their order.

    Args:
        value: None, text, bytes, a list of those, or an object with ``bytes`` or ``path``. Text
            is one picture, a JSON list, or several separated by bars, line ends, commas or
            semicolons.
        is_name: whether a text with commas or semicolons in it is the name of a picture.

    Raises:
        BadRowError: it is something else.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRowError(f"images is not JSON: {error}") from error
    if isinstance(value, list):
        return [reference for item in value for reference in _references_of_item(item, is_name)]
    if value is None or isinstance(value, str | bytes | dict):
        return list(_references_of_item(value, is_name, may_be_empty=True))
    raise BadRowError(f"images is {value!r:.80}; {EXPECTED}")


def _references_of_item(
    item: Any, is_name: Callable[[str], bool], may_be_empty: bool = False
) -> Iterator[Reference]:
    if isinstance(item, dict):  # as data sets write a picture, and Shopify's JSON
        item = item.get("bytes") or item.get("path") or item.get("src") or item.get("url")
    if isinstance(item, bytes) and item:
        yield item
    elif isinstance(item, str) and item.strip():
        yield from _references_of_text(item.strip(), is_name)
    elif not may_be_empty or (item is not None and not isinstance(item, str)):
        raise BadRowError(f"images holds {item!r:.80}; {EXPECTED}")


def _references_of_text(text: str, is_name: Callable[[str], bool]) -> Iterator[Reference]:
    if text[:5].lower() == "data:":
        yield _picture_of_data_url(text)
    elif LINK.match(text):
        yield from (link.strip(" \t\r\n,;|") for link in LINK_SEPARATORS.split(text))
    elif "|" in text or "\n" in text or "\r" in text:
        for part in re.split(r"[|\r\n]+", text):
            if part.strip():
                yield from _references_of_text(part.strip(), is_name)
    elif re.search("[,;]", text) and not is_name(text):
        for part in re.split("[,;]", text):
            if part.strip():
                yield from _references_of_text(part.strip(), is_name)
    else:
        yield text


def _picture_of_data_url(text: str) -> bytes:
    head, _, content = text.partition(",")
    if not head.lower().endswith(";base64"):
        raise BadRowError(f"images holds a data URL {head[:40]!r}; expected base64")
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRowError(f"images holds a data URL that is not base64: {error}") from error
