"""Match requests: defaults where nothing was sent, and each wrong tensor named."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from serving_support import bytes_tensor, float_tensor, int_tensor

from bls_models.errors import RequestError
from bls_models.match.request import match_query_from_tensors
from bls_models.settings import Settings

Tensors = dict[str, npt.NDArray[Any]]

SETTINGS = Settings(max_images=3, max_texts=2, max_text_bytes=20, max_filter_bytes=100)
IMAGE = bytes_tensor(b"picture")
TWO_IMAGES = bytes_tensor(b"one", b"two")
TEXT = bytes_tensor("red mug")
NAN = float("nan")


def test_a_lone_image_gets_the_defaults() -> None:
    query = match_query_from_tensors({"image": IMAGE}, SETTINGS)
    assert query.images == (b"picture",)
    assert query.texts == ()
    assert query.image_weights.tolist() == [1]
    assert query.text_weights.tolist() == []
    assert query.crops == (None,)
    assert (query.top_k, query.offset, query.filter) == (5, 0, b"")
    assert query.min_score is None
    assert query.caption == "auto"


def test_everything_that_was_sent_is_in_the_query() -> None:
    query = match_query_from_tensors(
        {
            "image": TWO_IMAGES,
            "text": bytes_tensor(" red mug ", "tall"),
            "image_weight": float_tensor(1, -0.5),
            "text_weight": float_tensor(0, 2),
            "crop": float_tensor((0, 0, 1, 1), (0.25, 0, 0.5, 1)),
            "top_k": int_tensor(100),
            "offset": int_tensor(10_000),
            "filter": bytes_tensor('{"price": {"$lt": 9}}'),
            "min_score": float_tensor(-1),
            "caption": bytes_tensor("always"),
        },
        SETTINGS,
    )
    assert query.images == (b"one", b"two")
    assert query.texts == ("red mug", "tall")
    assert query.image_weights.tolist() == [1, -0.5]
    assert query.text_weights.tolist() == [0, 2]
    assert query.crops == ((0, 0, 1, 1), (0.25, 0, 0.5, 1))
    assert (query.top_k, query.offset, query.min_score) == (100, 10_000, -1)
    assert query.filter == b'{"price": {"$lt": 9}}'
    assert query.caption == "always"


@pytest.mark.parametrize(
    ("inputs", "mode", "wanted"),
    [
        ({"image": IMAGE}, "auto", True),
        ({"image": IMAGE, "text": TEXT}, "auto", False),
        ({"text": TEXT}, "auto", False),
        ({"image": IMAGE, "text": TEXT}, "always", True),
        ({"image": IMAGE}, "never", False),
    ],
)
def test_by_default_photos_without_words_get_a_caption(
    inputs: Tensors, mode: str, wanted: bool
) -> None:
    query = match_query_from_tensors({**inputs, "caption": bytes_tensor(mode)}, SETTINGS)
    assert query.wants_caption is wanted
    if mode == "auto":
        assert match_query_from_tensors(inputs, SETTINGS).wants_caption is wanted


def test_an_empty_filter_means_none() -> None:
    query = match_query_from_tensors({"text": TEXT, "filter": bytes_tensor("")}, SETTINGS)
    assert query.filter == b""


def test_a_text_is_measured_in_bytes_and_may_be_as_long_as_allowed() -> None:
    query = match_query_from_tensors({"text": bytes_tensor("ä" * 10)}, SETTINGS)
    assert query.texts == ("ä" * 10,)
    with pytest.raises(RequestError, match=r"text\[0\]: 22 bytes; expected at most 20 bytes"):
        match_query_from_tensors({"text": bytes_tensor("ä" * 11)}, SETTINGS)


BAD: dict[str, tuple[Tensors, str]] = {
    "nothing": ({}, r"image, text, like: none was sent"),
    "only top_k": ({"top_k": int_tensor(3)}, r"image, text, like: none was sent"),
    "no image in the image tensor": (
        {"image": bytes_tensor()},
        r"image, text, like: none was sent",
    ),
    "two queries": (
        {"image": np.array([[b"a"], [b"b"]], np.object_)},
        r"image: shape \[2, 1\]; expected shape \[1, n\]\. Send one query a request",
    ),
    "no batch dimension": ({"image": np.array([b"a"], np.object_)}, r"image: shape \[1\]"),
    "two values of top_k": (
        {"text": TEXT, "top_k": int_tensor(3, 4)},
        r"top_k: shape \[1, 2\]; expected shape \[1, 1\]",
    ),
    "crop of three numbers": (
        {"image": IMAGE, "crop": float_tensor((0, 0, 1))},
        r"crop: shape \[1, 1, 3\]; expected shape \[1, n, 4\]",
    ),
    "too many images": (
        {"image": bytes_tensor(*[b"x"] * 4)},
        r"image: 4 values; expected at most 3",
    ),
    "too many texts": (
        {"text": bytes_tensor("a", "b", "c")},
        r"text: 3 values; expected at most 2",
    ),
    "empty text": ({"text": bytes_tensor("")}, r"text\[0\]: empty"),
    "blank second text": ({"text": bytes_tensor("a", " \n")}, r"text\[1\]: empty"),
    "text that is not UTF-8": ({"text": bytes_tensor(b"\xff")}, r"text\[0\]: not UTF-8"),
    "a weight missing": (
        {"image": TWO_IMAGES, "image_weight": float_tensor(1)},
        r"image_weight: 1 weights; expected 2, one for each image",
    ),
    "a weight without a text": (
        {"image": IMAGE, "text_weight": float_tensor(1)},
        r"text_weight: 1 weights; expected 0, one for each text",
    ),
    "too many products": (
        {"like": bytes_tensor(*"abcdefghi")},
        r"like: 9 values; expected at most 8",
    ),
    "a product id that is not UTF-8": ({"like": bytes_tensor(b"\xff")}, r"like\[0\]: not UTF-8"),
    "a long product id": (
        {"like": bytes_tensor("a" * 129)},
        r"like\[0\]: 'a+; expected a string of 1",
    ),
    "a weight for no product": (
        {"text": TEXT, "like_weight": float_tensor(1)},
        r"like_weight: 1 weights; expected 0, one for each product",
    ),
    "weight NaN": (
        {"image": IMAGE, "image_weight": float_tensor(NAN)},
        r"image_weight: NaN or infinity",
    ),
    "weight infinite": (
        {"text": TEXT, "text_weight": float_tensor(-np.inf)},
        r"text_weight: NaN or infinity",
    ),
    "all weights 0": (
        {"image": IMAGE, "image_weight": float_tensor(0)},
        r"image_weight, text_weight, like_weight: all are 0",
    ),
    "a crop missing": (
        {"image": TWO_IMAGES, "crop": float_tensor((0, 0, 1, 1))},
        r"crop: 1 crops; expected 2, one \(x0, y0, x1, y1\) for each image",
    ),
    "crop without an image": (
        {"text": TEXT, "crop": float_tensor((0, 0, 1, 1))},
        r"crop: 1 crops; expected 0",
    ),
    "crop of no width": (
        {"image": IMAGE, "crop": float_tensor((0.5, 0, 0.5, 1))},
        r"crop\[0\]: ",
    ),
    "crop inverted": (
        {
            "image": TWO_IMAGES,
            "crop": float_tensor((0, 0, 1, 1), (1, 1, 0, 0)),
        },
        r"crop\[1\]: ",
    ),
    "crop NaN": ({"image": IMAGE, "crop": float_tensor((0, 0, NAN, 1))}, r"crop\[0\]: "),
    "crop outside": ({"image": IMAGE, "crop": float_tensor((0, 0, 2, 1))}, r"crop\[0\]: "),
    "top_k 0": ({"text": TEXT, "top_k": int_tensor(0)}, r"top_k: 0; expected .* 1 to 100"),
    "top_k 101": ({"text": TEXT, "top_k": int_tensor(101)}, r"top_k: 101; expected .* 1 to 100"),
    "offset negative": (
        {"text": TEXT, "offset": int_tensor(-1)},
        r"offset: -1; expected a number from 0 to 10000",
    ),
    "offset beyond": ({"text": TEXT, "offset": int_tensor(10_001)}, r"offset: 10001"),
    "min_score NaN": (
        {"text": TEXT, "min_score": float_tensor(NAN)},
        r"min_score: nan; expected a cosine from -1 to 1",
    ),
    "min_score beyond": ({"text": TEXT, "min_score": float_tensor(1.5)}, r"min_score: 1\.5"),
    "caption unknown": (
        {"image": IMAGE, "caption": bytes_tensor("sometimes")},
        r"caption: 'sometimes'; expected never \| auto \| always",
    ),
    "filter that is no JSON": (
        {"text": TEXT, "filter": bytes_tensor("{")},
        r"filter: malformed JSON",
    ),
    "filter on an unknown field": (
        {"text": TEXT, "filter": bytes_tensor('{"weight": 1}')},
        r"filter: .*weight",
    ),
    "filter too long": (
        {"text": TEXT, "filter": bytes_tensor(b" " * 101)},
        r"filter: 101 bytes; expected at most 100 bytes",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_refused_with_the_tensor_named(tensors: Tensors, message: str) -> None:
    with pytest.raises(RequestError, match=f"^{message}"):
        match_query_from_tensors(tensors, SETTINGS)
