"""Product documents: what a client may send, what is stored, what is returned."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson.decimal128 import Decimal128

from bls_models.errors import ProductError
from bls_models.text import normalised, one_line, several_lines

PRODUCT_ID = re.compile(r"[^\s\x00-\x1f\x7f/]{1,128}")
ATTRIBUTE_KEY = re.compile(r"[A-Za-z0-9_]{1,64}")
ATTRIBUTE_KEY_RULE = "keys of 1 to 64 letters, digits and underscores"
CURRENCY = re.compile(r"[A-Z]{3}")

# Longest value of each text field, in characters.
TEXT_FIELDS = {"name": 512, "description": 8192, "category": 128}
REQUIRED_TEXT_FIELDS = ("name", "category")
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_CHARACTERS = 512
# Up to here every integer has a 64-bit float of its own, which filters compare.
MAX_INTEGER = 2**53

# Written by the server: accepted and ignored on input, so that a document that was read can be
# edited and sent back.
SERVER_FIELDS = frozenset(
    {"description_generated", "images", "picture_url", "created", "updated", "revision"}
)
CLIENT_VIEW = (
    "name",
    "description",
    "description_generated",
    "category",
    "price",
    "currency",
    "attributes",
    "images",
)
IMAGE_VIEW = ("sha256", "width", "height")
CLIENT_FIELDS = frozenset(
    {"product_id", "name", "description", "category", "price", "currency", "attributes"}
)


def parse_product_json(text: bytes, max_bytes: int) -> dict[str, Any]:
    """The JSON object of the ``product`` tensor.

    Raises:
        ProductError: too long, not UTF-8, not JSON, or not an object.
    """
    if len(text) > max_bytes:
        raise ProductError("product", f"{len(text)} bytes", f"at most {max_bytes} bytes")
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
        # JSON can spell half of a surrogate pair, which no text encoding can store.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ProductError("product", f"not valid JSON ({error})", "a JSON object") from error
    if not isinstance(value, dict):
        raise ProductError("product", f"a JSON {type(value).__name__}", "a JSON object")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def check_product_id(value: object, tensor: str = "product.product_id") -> str:
    """The product id, if it is one.

    Args:
        value: what was sent.
        tensor: the input's name for messages.

    Raises:
        ProductError: missing, not a string, empty, too long, or with spaces or slashes.
    """
    if not isinstance(value, str) or not PRODUCT_ID.fullmatch(value):
        raise ProductError(
            tensor,
            "missing" if value is None else repr(value)[:80],
            "a string of 1 to 128 characters without spaces or slashes",
        )
    return normalised(value)


def check_product(value: Mapping[str, Any]) -> dict[str, Any]:
    """The client's fields of a product, checked, server fields left out.

    Raises:
        ProductError: a field is missing, unknown, or has a wrong type or value.
    """
    unknown = sorted(set(value) - CLIENT_FIELDS - SERVER_FIELDS)
    if unknown:
        raise ProductError(
            "product",
            f"unknown field {unknown[0]!r}",
            f"only {', '.join(sorted(CLIENT_FIELDS))}",
            f"Put further properties into attributes, e.g. attributes.{unknown[0]}.",
        )
    product: dict[str, Any] = {"product_id": check_product_id(value.get("product_id"))}
    if not product["product_id"].isprintable():
        # Only here, so that a product that has such an id already can still be read and deleted.
        raise ProductError(
            "product.product_id", ascii(product["product_id"])[:80], "printable characters"
        )
    for field, longest in TEXT_FIELDS.items():
        text = value.get(field)
        required = field in REQUIRED_TEXT_FIELDS
        if text is None and not required:
            continue
        if isinstance(text, str):
            text = several_lines(text) if field == "description" else one_line(text)
        if not isinstance(text, str) or len(text) > longest or (required and not text.strip()):
            got = "missing" if text is None else repr(text)[:80]
            raise ProductError(f"product.{field}", got, f"a string of at most {longest} characters")
        product[field] = text
    price = value.get("price")
    if price is not None:
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e12:
            raise ProductError("product.price", repr(price)[:80], "a number from 0 to 1e12")
        product["price"] = float(price)
    currency = value.get("currency")
    if currency is not None:
        if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
            raise ProductError(
                "product.currency", repr(currency)[:80], "an ISO 4217 code such as 'EUR'"
            )
        product["currency"] = currency
    product["attributes"] = _check_attributes(value.get("attributes", {}))
    return product


def _check_attributes(value: object) -> dict[str, str | float | bool]:
    if not isinstance(value, dict) or len(value) > MAX_ATTRIBUTES:
        raise ProductError(
            "product.attributes", repr(value)[:80], f"an object of at most {MAX_ATTRIBUTES} keys"
        )
    attributes = {
        key: one_line(item) if isinstance(item, str) else item for key, item in value.items()
    }
    for key, item in attributes.items():
        if not ATTRIBUTE_KEY.fullmatch(key):
            raise ProductError("product.attributes", f"key {key[:80]!r}", ATTRIBUTE_KEY_RULE)
        good = (
            isinstance(item, bool)
            or (isinstance(item, int | float) and abs(item) < MAX_INTEGER)
            or (isinstance(item, str) and len(item) <= MAX_ATTRIBUTE_CHARACTERS)
        )
        if not good:
            raise ProductError(
                f"product.attributes.{key}",
                repr(item)[:80],
                f"a number, a boolean or a string of at most {MAX_ATTRIBUTE_CHARACTERS} characters",
            )
    return attributes


def embedding_text(product: Mapping[str, Any]) -> str:
    """The text whose vector stands for the product in text search."""
    attributes = [str(item) for item in product["attributes"].values() if isinstance(item, str)]
    parts = [product["name"], product["category"], " ".join(attributes)]
    parts.append(product.get("description", ""))
    return ". ".join(part for part in parts if part)


def json_bytes(value: object) -> bytes:
    """A JSON document as one element of a BYTES tensor.

    What JSON has no form for, put into the database by hand, becomes text.
    """
    text = json.dumps(value, separators=(",", ":"), default=str, ensure_ascii=False)
    # Half of a surrogate pair has no form in UTF-8.
    return text.encode(errors="replace")


def client_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """A stored document as clients see it: ``_id`` as ``product_id``, times in ISO 8601.

    What was put into the database by hand beside the declared fields is left out, also within
    ``attributes`` and ``images``.
    """
    product: dict[str, Any] = {"product_id": document["_id"]}
    for field in CLIENT_VIEW:
        if field not in document:
            continue
        value = document[field]
        if field == "attributes":
            product[field] = {
                key: as_float(item)
                for key, item in mapping_or_empty(value).items()
                if _is_plain(item)
            }
        elif field == "images":
            product[field] = [
                {key: image[key] for key in IMAGE_VIEW if _is_plain(image.get(key, {}))}
                for image in stored_images(document)
            ]
        elif _is_plain(value):
            product[field] = as_float(value)
    for field in ("created", "updated"):
        time = document.get(field)
        product[field] = time.isoformat() if isinstance(time, datetime) else None
    product["revision"] = stored_revision(document)
    return product


def stored_images(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of a stored product's pictures, those put there by hand without sha256 left out.

    Each has ``sha256``, and mostly ``width`` and ``height``.
    """
    images = document.get("images")
    return [
        image
        for image in (images if isinstance(images, list) else [])
        if isinstance(image, dict) and isinstance(image.get("sha256"), str)
    ]


def stored_revision(document: Mapping[str, Any]) -> int:
    """A stored product's revision; 0 where it was put there by hand without one."""
    revision = document.get("revision")
    return revision if isinstance(revision, int) and 0 <= revision < 2**62 else 0


def mapping_or_empty(value: object) -> Mapping[str, Any]:
    """A value that should be an object, which one changed by hand may not be."""
    return value if isinstance(value, dict) else {}


def as_float(value: object) -> Any:
    """A decimal number, as hands may have stored a price, as a float; others as they are."""
    return float(value.to_decimal()) if isinstance(value, Decimal128) else value


def _is_plain(value: object) -> bool:
    """Whether a stored value is one that clients are to see: no object, list, NaN or infinity."""
    if isinstance(value, float | Decimal128):
        return math.isfinite(as_float(value))
    return not isinstance(value, dict | list)
