"""Requests of ``product_picture``: from tensors to a checked query."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bls_models.errors import RequestError
from bls_models.product import check_product_id
from bls_models.request_tensors import choice, inputs_from_tensors
from bls_models.specs import PICTURE_ENCODINGS, PICTURE_FORMATS, PRODUCT_PICTURE
from bls_models.vectors import Arrays

BASE64, RAW = PICTURE_ENCODINGS
WEBP, JPEG = PICTURE_FORMATS
# Longest side in pixels. gateway/pictures.js has the same.
LEAST_SIZE = 16
MOST_SIZE = 2048

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PictureQuery:
    """A checked request.

    Attributes:
        product_id: whose picture; empty where ``sha256`` names it.
        number: which of the product's pictures, from 1.
        sha256: of the stored file, in hex; empty where ``product_id`` names it.
        size: longest side in pixels; None: the stored picture's own.
        format: one of ``PICTURE_FORMATS``.
        encoding: one of ``PICTURE_ENCODINGS``.
    """

    product_id: str = ""
    number: int = 1
    sha256: str = ""
    size: int | None = None
    format: str = WEBP
    encoding: str = BASE64


def picture_query_from_tensors(tensors: Arrays) -> PictureQuery:
    """Read a request's tensors, which carry a batch dimension of 1.

    Raises:
        RequestError: an input cannot be used; the message names it.
    """
    inputs = inputs_from_tensors(PRODUCT_PICTURE, tensors)
    named = [name for name in ("product_id", "sha256") if name in inputs]
    if len(named) != 1:
        raise RequestError(
            "product_id, sha256", "both were sent" if named else "neither was sent", "one of them"
        )
    if "number" in inputs and "sha256" in named:
        raise RequestError("number", "sent with sha256", "product_id beside it")
    size = _integer(inputs, "size", LEAST_SIZE, MOST_SIZE) if "size" in inputs else None
    return PictureQuery(
        product_id=_product_id(inputs) if "product_id" in named else "",
        number=_integer(inputs, "number", 1, None) if "number" in inputs else 1,
        sha256=_sha256(inputs) if "sha256" in named else "",
        size=size,
        format=choice(inputs, "format", WEBP, PICTURE_FORMATS),
        encoding=choice(inputs, "encoding", BASE64, PICTURE_ENCODINGS),
    )


def _product_id(inputs: Arrays) -> str:
    return check_product_id(_text(inputs, "product_id"), "product_id")


def _sha256(inputs: Arrays) -> str:
    value = _text(inputs, "sha256").lower()
    if not _SHA256.fullmatch(value):
        expected = "64 hexadecimal digits, as in a product's images"
        raise RequestError("sha256", repr(value)[:80], expected)
    return value


def _text(inputs: Arrays, name: str) -> str:
    return bytes(inputs[name][0]).decode(errors="replace")


def _integer(inputs: Arrays, name: str, least: int, most: int | None) -> int:
    value = int(inputs[name][0])
    if value < least or (most is not None and value > most):
        expected = f"an integer of at least {least}" if most is None else f"{least} to {most}"
        raise RequestError(name, str(value), expected)
    return value
