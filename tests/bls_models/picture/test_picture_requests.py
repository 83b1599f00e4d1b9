"""Requests for a product's picture: what names it, and in which form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bls_models.errors import RequestError
from bls_models.picture.request import PictureQuery, picture_query_from_tensors
from bls_models.specs import PRODUCT_PICTURE

SHA256 = "ab" * 32


def query(**values: Any) -> PictureQuery:
    tensors = {
        name: np.array([[value]], PRODUCT_PICTURE.input(name).numpy_dtype)
        for name, value in values.items()
    }
    return picture_query_from_tensors(tensors)


def test_what_is_left_out_has_a_default() -> None:
    assert query(product_id=b"mug") == PictureQuery("mug", 1, "", None, "webp", "base64")
    assert query(sha256=SHA256.encode()) == PictureQuery("", 1, SHA256, None, "webp", "base64")


def test_everything_can_be_said() -> None:
    found = query(product_id="Käthe".encode(), number=3, size=200, format=b"jpeg", encoding=b"raw")
    assert found == PictureQuery("Käthe", 3, "", 200, "jpeg", "raw")
    assert query(sha256=SHA256.upper().encode()).sha256 == SHA256


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 100}, "product_id, sha256: neither was sent"),
        ({"product_id": b"mug", "sha256": SHA256.encode()}, "product_id, sha256: both were sent"),
        ({"sha256": SHA256.encode(), "number": 1}, "number: sent with sha256"),
        ({"product_id": b""}, "product_id: ''"),
        ({"product_id": b"two words"}, "product_id: 'two words'; expected a string of 1 to 128"),
        ({"product_id": b"\xff" * 200}, "product_id: "),
        ({"product_id": b"mug", "number": 0}, "number: 0; expected an integer of at least 1"),
        ({"sha256": b"ab" * 31}, "sha256: .*64 hexadecimal"),
        ({"sha256": b"xy" * 32}, "sha256: "),
        ({"sha256": SHA256.encode() + b"\n"}, "sha256: "),
        ({"product_id": b"mug", "size": 15}, "size: 15; expected 16 to 2048"),
        ({"product_id": b"mug", "size": 2049}, "size: 2049; expected 16 to 2048"),
        ({"product_id": b"mug", "format": b"png"}, r"format: 'png'; expected webp \| jpeg"),
        ({"product_id": b"mug", "encoding": b"hex"}, r"encoding: 'hex'; expected base64 \| raw"),
    ],
)
def test_what_cannot_be_used_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=f"^{message}"):
        query(**values)


def test_several_queries_in_one_request_are_refused() -> None:
    with pytest.raises(RequestError, match=r"product_id: shape \[2, 1\]"):
        picture_query_from_tensors({"product_id": np.array([[b"a"], [b"b"]], np.object_)})
