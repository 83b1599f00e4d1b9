"""Product documents from text: what a command line or a table cell holds."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from product_match_client.errors import BadRequestError
from product_match_client.links import is_link

# No leading zeros and no exponents: 007 and 1e5 are more often codes than numbers. Beyond 15
# digits a number may not survive JSON readers that use floats, and is a code as well.
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,14})\.[0-9]+")


def attribute_from_text(text: str) -> str | int | float | bool:
    """The value of an attribute written as text: a number, true or false, else the text."""
    text = text.strip()
    if INTEGER.fullmatch(text):
        return int(text)
    if DECIMAL.fullmatch(text):
        return float(text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def price_from_text(text: str) -> float:
    """A price.

    Raises:
        ValueError: the text is not a plain finite number.
    """
    return number_from_text(text, "price", "59.90")


def number_from_text(text: str, name: str, example: str) -> float:
    """A number that JSON can hold.

    Args:
        text: the number.
        name: what it is, for the message.
        example: of such a number.

    Raises:
        ValueError: the text is not a plain finite number.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is {text!r}; expected a number such as {example}")
    return number


def pictures_of_document(product: dict[str, Any], folder: Path) -> list[str] | None:
    """Take the pictures that a document lists out of it.

    Args:
        product: loses its ``images``.
        folder: where names are relative to.

    Returns:
        Paths and links; None where it lists none, or those that are stored, as a document does
        that was read from the server.

    Raises:
        BadRequestError: they are something else.
    """
    images = product.pop("images", None)
    if images is None or (
        isinstance(images, list)
        and all(isinstance(image, dict) and "sha256" in image for image in images)
    ):
        return None
    names = [images] if isinstance(images, str) else images
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BadRequestError(
            f"images: got {str(images)[:80]}; expected a list of names and links of pictures"
        )
    return [name if is_link(name) else str(folder / name) for name in names]
