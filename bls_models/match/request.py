"""Requests of ``product_match``: from tensors to a checked query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bls_models.captions.waiting import ALWAYS, AUTO
from bls_models.errors import RequestError
from bls_models.images.preprocessing import Crop, check_crop
from bls_models.index.facets import parse_facets
from bls_models.index.filters.language import parse_filter
from bls_models.index.ordering import BY_SCORE
from bls_models.objects.detector import NEVER
from bls_models.product import check_product_id
from bls_models.request_tensors import choice, inputs_from_tensors
from bls_models.settings import Settings
from bls_models.specs import CAPTION_MODES, OBJECT_MODES, PRODUCT_MATCH, SORTS
from bls_models.text import one_line
from bls_models.vectors import Arrays, FloatArray

DEFAULT_TOP_K = 5
MAX_TOP_K = 100
MAX_OFFSET = 10_000
DEFAULT_MAX_OBJECTS = 8


@dataclass(frozen=True)
class MatchQuery:
    """A checked request.

    Attributes:
        images: values of the ``image`` tensor, still encoded.
        texts: query texts.
        image_weights: (len(images),) FP32.
        text_weights: (len(texts),) FP32.
        like: ids of products that are asked for more of, with weights.
        crops: a crop or None for each image.
        top_k: matches wanted.
        offset: matches to skip.
        filter: filter JSON, checked; empty for none.
        facets: JSON of what is to be counted, checked; empty for nothing.
        sort: one of ``SORTS``.
        min_score: least score; None: the request names none.
        caption: one of ``CAPTION_MODES``.
        objects: one of ``OBJECT_MODES``.
        max_objects: most objects that are matched one by one.
    """

    images: tuple[bytes, ...]
    texts: tuple[str, ...]
    image_weights: FloatArray
    text_weights: FloatArray
    crops: tuple[Crop | None, ...]
    top_k: int
    offset: int
    filter: bytes
    min_score: float | None
    caption: str
    like: tuple[tuple[str, float], ...] = ()
    facets: bytes = b""
    sort: str = BY_SCORE
    objects: str = NEVER
    max_objects: int = DEFAULT_MAX_OBJECTS

    @property
    def kind(self) -> str:
        """``image``, ``text`` or ``both``."""
        if self.images and self.texts:
            return "both"
        return "image" if self.images else "text"

    @property
    def wants_caption(self) -> bool:
        """Whether a caption is asked for; ``auto`` means of a photo without words."""
        return self.caption == ALWAYS or (
            self.caption == AUTO and bool(self.images) and not self.texts
        )

    @property
    def wants_objects(self) -> bool:
        """Whether objects are looked for in a photo."""
        return self.objects != NEVER and bool(self.images)


def match_query_from_tensors(tensors: Arrays, settings: Settings) -> MatchQuery:
    """Check a request's tensors.

    Args:
        tensors: the inputs that were sent, by name, with the batch dimension of 1.
        settings: limits.

    Raises:
        RequestError: an input that cannot be answered; the message names it.
    """
    inputs = inputs_from_tensors(PRODUCT_MATCH, tensors)
    images = tuple(inputs.get("image", ()))
    texts = tuple(
        _text(value, f"text[{number}]", settings.max_text_bytes)
        for number, value in enumerate(inputs.get("text", ()))
    )
    like = tuple(
        _product_id(value, f"like[{number}]") for number, value in enumerate(inputs.get("like", ()))
    )
    if not images and not texts and not like:
        raise RequestError(
            "image, text, like",
            "none was sent",
            "at least one image, one text or one product to search for",
        )
    for name, values, most in (
        ("image", images, settings.max_images),
        ("text", texts, settings.max_texts),
        ("like", like, settings.max_like),
    ):
        if len(values) > most:
            raise RequestError(name, f"{len(values)} values", f"at most {most}")
    image_weights = _weights("image_weight", inputs, "image", len(images))
    text_weights = _weights("text_weight", inputs, "text", len(texts))
    like_weights = _weights("like_weight", inputs, "product", len(like))
    if not any(weights.any() for weights in (image_weights, text_weights, like_weights)):
        raise RequestError(
            "image_weight, text_weight, like_weight", "all are 0", "at least one other than 0"
        )
    filter_text = bytes(inputs["filter"][0]) if "filter" in inputs else b""
    if filter_text:
        parse_filter(filter_text, settings.max_filter_bytes)
    facets = bytes(inputs["facets"][0]) if "facets" in inputs else b""
    parse_facets(facets)
    return MatchQuery(
        images=images,
        texts=texts,
        image_weights=image_weights,
        text_weights=text_weights,
        crops=_crops(inputs, len(images)),
        top_k=_integer(inputs, "top_k", DEFAULT_TOP_K, 1, MAX_TOP_K),
        offset=_integer(inputs, "offset", 0, 0, MAX_OFFSET),
        filter=filter_text,
        min_score=_min_score(inputs),
        caption=choice(inputs, "caption", AUTO, CAPTION_MODES),
        like=tuple(zip(like, like_weights.tolist(), strict=True)),
        facets=facets,
        sort=choice(inputs, "sort", BY_SCORE, SORTS),
        objects=_objects(inputs, len(images)),
        max_objects=_integer(
            inputs,
            "max_objects",
            min(DEFAULT_MAX_OBJECTS, settings.max_objects),
            1,
            settings.max_objects,
        ),
    )


def _objects(inputs: Arrays, images: int) -> str:
    mode = choice(inputs, "objects", NEVER, OBJECT_MODES)
    if mode != NEVER and images > 1:
        raise RequestError(
            "objects",
            f"{mode} with {images} images",
            "one image, in which objects are looked for",
            "Send a request for each photo.",
        )
    return mode


def _product_id(value: bytes, tensor: str) -> str:
    try:
        return check_product_id(value.decode("utf-8"), tensor)
    except UnicodeDecodeError as error:
        raise RequestError(tensor, f"not UTF-8 ({error.reason})", "a product id") from error


def _text(value: bytes, tensor: str, max_bytes: int) -> str:
    if len(value) > max_bytes:
        raise RequestError(
            tensor, f"{len(value)} bytes", f"at most {max_bytes} bytes", "Shorten the text."
        )
    try:
        text = one_line(value.decode("utf-8")).strip()
    except UnicodeDecodeError as error:
        raise RequestError(tensor, f"not UTF-8 ({error.reason})", "UTF-8 text") from error
    if not text:
        raise RequestError(tensor, "empty", "some words", "Leave the tensor out for no text.")
    return text


def _weights(name: str, inputs: Arrays, what: str, count: int) -> FloatArray:
    weights = inputs.get(name)
    if weights is None:
        return np.ones(count, np.float32)
    if len(weights) != count:
        raise RequestError(
            name, f"{len(weights)} weights", f"{count}, one for each {what} in the request"
        )
    if not np.isfinite(weights).all():
        raise RequestError(name, "NaN or infinity", "finite numbers of any sign")
    return weights.astype(np.float32)


def _crops(inputs: Arrays, count: int) -> tuple[Crop | None, ...]:
    crops = inputs.get("crop")
    if crops is None:
        return (None,) * count
    if len(crops) != count:
        raise RequestError(
            "crop", f"{len(crops)} crops", f"{count}, one (x0, y0, x1, y1) for each image"
        )
    return tuple(check_crop(crop, f"crop[{number}]") for number, crop in enumerate(crops))


def _integer(inputs: Arrays, name: str, default: int, least: int, most: int) -> int:
    if name not in inputs:
        return default
    value = int(inputs[name][0])
    if not least <= value <= most:
        raise RequestError(name, str(value), f"a number from {least} to {most}")
    return value


def _min_score(inputs: Arrays) -> float | None:
    if "min_score" not in inputs:
        return None
    value = float(inputs["min_score"][0])
    if not -1 <= value <= 1:
        raise RequestError("min_score", str(value), "a cosine from -1 to 1")
    return value
