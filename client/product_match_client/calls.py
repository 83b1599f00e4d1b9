"""Calls as data: the tensors a method sends and how its answer is read.

A call knows nothing of HTTP, gRPC or asyncio, so the clients share all of this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from bls_models.specs import (
    PRODUCT_FEEDBACK,
    PRODUCT_INGEST,
    PRODUCT_MATCH,
    PRODUCT_PICTURE,
    PRODUCT_REPORT,
    ModelSpec,
)
from product_match_client.arguments import (
    list_argument,
    object_argument,
    text_argument,
    text_arguments,
)
from product_match_client.errors import BadRequestError
from product_match_client.images import ImageSource, encoded_images
from product_match_client.results import (
    IngestResult,
    MatchResult,
    Outputs,
    ProductPicture,
    ingest_result_from_outputs,
    match_result_from_outputs,
    picture_from_outputs,
    product_from_outputs,
    report_from_outputs,
    status_from_outputs,
)

Crop = Sequence[float]
"""x0, y0, x1, y1, relative to the upright picture: 0 is left or top, 1 is right or bottom."""

WHOLE_PICTURE = (0.0, 0.0, 1.0, 1.0)

Facets = Mapping[str, int | Sequence[float]]
"""By field how many of its values, or the bounds of ranges, e.g. ``{"price": [10, 50]}``."""

Result = TypeVar("Result")


class MatchOptions(TypedDict, total=False):
    """What a match may be told beside its images and texts.

    Attributes:
        image_weights: one for each image, any sign; negative pushes away. The server's default
            is 1.
        text_weights: one for each text, likewise.
        like: the ids of one product or several that are asked for more of, up to 8: their own
            pictures and texts join the query, and they are left out of the answer. A product that
            is not there is a BadRequestError.
        like_weights: one for each of these products, likewise.
        crops: one for each image: (x0, y0, x1, y1), relative to the upright picture, or None for
            the whole picture.
        top_k: how many products, 1 to 100; the server's default is 5.
        offset: how many of the best to skip, for paging.
        filter: conditions on the products, in the part of MongoDB's query language that the
            server knows, e.g. ``{"price": {"$lt": 50}}``.
        facets: what to count among all products that pass the filter and the least score, on
            whatever page: by field the number of values that are wanted, the most frequent ones,
            1 to 100, or up to 100 growing bounds of ranges, as in
            ``{"category": 10, "price": [10, 50]}``. Up to 16 of the fields that filters know, but
            ``product_id``. See `MatchResult.facets`.
        sort: the order of all these products: ``score`` (the server's default), ``price``,
            ``-price`` (the dearest first), ``name`` or ``-name``. Those without the value come
            last.
        min_score: leave out products whose score is lower. The server has a default for each kind
            of query; -1 leaves out nothing.
        caption: whether the server describes the first photo in words: ``never``, ``auto``
            (photos without text) or ``always``. The server's default is ``auto``, and ``never``
            answers soonest.
        objects: whether the server looks for several products in a photo and matches each:
            ``never`` (the server's default), ``auto`` (where there is more than one) or
            ``always``. For one photo.
        max_objects: how many of them at most, 1 to 20; the server's default is 8.
        request_id: returned in the details and written to the server's match log.
    """

    image_weights: Sequence[float] | None
    text_weights: Sequence[float] | None
    like: str | Iterable[str]
    like_weights: Sequence[float] | None
    crops: Sequence[Crop | None] | None
    top_k: int | None
    offset: int | None
    filter: Mapping[str, Any] | None
    facets: Facets | None
    sort: str | None
    min_score: float | None
    caption: str | None
    objects: str | None
    max_objects: int | None
    request_id: str


@dataclass(frozen=True)
class Tensor:
    """One input on the wire; ``array`` has the leading batch dimension of 1."""

    name: str
    dtype: str
    array: NDArray[Any]


@dataclass(frozen=True)
class Call(Generic[Result]):
    """One request to one model, and the function that reads its outputs."""

    spec: ModelSpec
    tensors: tuple[Tensor, ...]
    parse: Callable[[Outputs], Result]
    request_id: str = ""


def match_call(
    images: ImageSource | Iterable[ImageSource] = (),
    texts: str | Iterable[str] = (),
    *,
    image_weights: Sequence[float] | None = None,
    text_weights: Sequence[float] | None = None,
    like: str | Iterable[str] = (),
    like_weights: Sequence[float] | None = None,
    crops: Sequence[Crop | None] | None = None,
    top_k: int | None = None,
    offset: int | None = None,
    filter: Mapping[str, Any] | None = None,
    facets: Facets | None = None,
    sort: str | None = None,
    min_score: float | None = None,
    caption: str | None = None,
    objects: str | None = None,
    max_objects: int | None = None,
    request_id: str = "",
    allow_private_links: bool = False,
) -> Call[MatchResult]:
    """The call behind `ProductMatchClient.match`.

    `MatchOptions` documents the options, and `ProductMatchClient` what links may lead to.
    Counts and ranges are left to the server, whose messages say what would be right; only
    what cannot be put on the wire is refused here.

    Raises:
        BadRequestError: no image, no text and no product, an unreadable picture, or a value of a
            wrong type or that does not fit its tensor.
    """
    pictures = encoded_images(images, allow_private_links)
    sentences = text_arguments("texts", texts)
    liked = text_arguments("like", like)
    if not pictures and not sentences and not liked:
        raise BadRequestError("match needs at least one image, text or product to search for")
    if crops is not None:
        given_crops = list_argument("crops", crops)
        crops = [WHOLE_PICTURE if crop is None else crop for crop in given_crops]
    given: dict[str, Any] = {
        "image": pictures,
        "text": sentences,
        "image_weight": list_argument("image_weights", image_weights),
        "text_weight": list_argument("text_weights", text_weights),
        "like": liked,
        "like_weight": list_argument("like_weights", like_weights),
        "crop": crops,
        "top_k": None if top_k is None else [top_k],
        "offset": None if offset is None else [offset],
        "filter": None if filter is None else [json_text(filter, "filter")],
        "facets": None if facets is None else [json_text(facets, "facets")],
        "sort": None if sort is None else [sort],
        "min_score": None if min_score is None else [min_score],
        "caption": None if caption is None else [caption],
        "objects": None if objects is None else [objects],
        "max_objects": None if max_objects is None else [max_objects],
    }
    tensors = _tensors(PRODUCT_MATCH, given)
    return Call(
        PRODUCT_MATCH,
        tensors,
        match_result_from_outputs,
        text_argument("request_id", request_id),
    )


def upsert_call(
    product: Mapping[str, Any],
    images: ImageSource | Iterable[ImageSource] | None = None,
    caption: str | None = None,
    duplicates: str | None = None,
    allow_private_links: bool = False,
) -> Call[IngestResult]:
    """The call behind `ProductMatchClient.upsert`.

    Raises:
        BadRequestError: an unreadable picture, or a product that is not JSON.
    """
    if any(isinstance(item, str) for item in _listed_images(product)):
        raise BadRequestError(
            "product: its images are names or links, which the server does not read; give the "
            "pictures as images="
        )
    pictures = [] if images is None else encoded_images(images, allow_private_links)
    return _ingest_call(
        "upsert", product, ingest_result_from_outputs, pictures, caption, duplicates
    )


def delete_call(product_id: str) -> Call[IngestResult]:
    """The call behind `ProductMatchClient.delete`."""
    return _ingest_call("delete", {"product_id": product_id}, ingest_result_from_outputs)


def get_call(product_id: str) -> Call[dict[str, Any] | None]:
    """The call behind `ProductMatchClient.get`."""
    return _ingest_call("get", {"product_id": product_id}, product_from_outputs)


def reembed_call(product_id: str) -> Call[IngestResult]:
    """The call behind `ProductMatchClient.reembed`."""
    return _ingest_call("reembed", {"product_id": product_id}, ingest_result_from_outputs)


def feedback_call(request_id: str, product_id: str, event: str) -> Call[str]:
    """The call behind `ProductMatchClient.feedback`."""
    given = {"request_id": [request_id], "product_id": [product_id], "event": [event]}
    return Call(PRODUCT_FEEDBACK, _tensors(PRODUCT_FEEDBACK, given), status_from_outputs)


def picture_call(
    product_id: str | None = None,
    number: int | None = None,
    sha256: str | None = None,
    size: int | None = None,
    format: str | None = None,
) -> Call[ProductPicture]:
    """The call behind `ProductMatchClient.picture`.

    Raises:
        BadRequestError: neither a product nor a picture is named.
    """
    if product_id is None and sha256 is None:
        raise BadRequestError("picture needs a product_id or a sha256")
    optional = {
        "product_id": product_id,
        "number": number,
        "sha256": sha256,
        "size": size,
        "format": format,
    }
    given = {name: None if value is None else [value] for name, value in optional.items()}
    tensors = _tensors(PRODUCT_PICTURE, {**given, "encoding": ["raw"]})
    return Call(PRODUCT_PICTURE, tensors, picture_from_outputs)


def report_call(
    report: str, limit: int | None = None, hours: float | None = None
) -> Call[dict[str, Any]]:
    """The call behind `ProductMatchClient.report`."""
    given = {
        "report": [report],
        "limit": None if limit is None else [limit],
        "hours": None if hours is None else [hours],
    }
    return Call(PRODUCT_REPORT, _tensors(PRODUCT_REPORT, given), report_from_outputs)


def json_text(value: Mapping[str, Any], name: str) -> str:
    """The JSON of a mapping.

    Raises:
        BadRequestError: it is no mapping, or holds what JSON has no form for, NaN among them.
    """
    try:
        return json.dumps(dict(object_argument(name, value)), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequestError(f"{name}: cannot be written as JSON: {error}") from error


def _listed_images(product: Mapping[str, Any]) -> Sequence[Any]:
    """What a document says of its pictures; one that was read from the server has objects there."""
    listed = object_argument("product", product).get("images")
    return listed if isinstance(listed, list | tuple) else [listed]


def _ingest_call(
    operation: str,
    product: Mapping[str, Any],
    parse: Callable[[Outputs], Result],
    pictures: Sequence[bytes] = (),
    caption: str | None = None,
    duplicates: str | None = None,
) -> Call[Result]:
    given = {
        "operation": [operation],
        "product": [json_text(product, "product")],
        "image": pictures,
        "caption": None if caption is None else [caption],
        "duplicates": None if duplicates is None else [duplicates],
    }
    return Call(PRODUCT_INGEST, _tensors(PRODUCT_INGEST, given), parse)


def _tensors(spec: ModelSpec, given: Mapping[str, Sequence[Any] | None]) -> tuple[Tensor, ...]:
    """The tensors of what was given, in the spec's order; what is None or empty is left out."""
    tensors = []
    for tensor in spec.inputs:
        values = given[tensor.name]
        if values is None or len(values) == 0:
            continue
        if tensor.dtype == "BYTES":
            array = _bytes_array(tensor.name, values)  # (1, n)
        else:
            array = _number_array(tensor.name, values, tensor.numpy_dtype, tensor.config_dims)
        tensors.append(Tensor(tensor.name, tensor.dtype, array))
    return tuple(tensors)


def _bytes_array(name: str, values: Sequence[bytes | str]) -> NDArray[np.object_]:
    """BYTES [1,n], text as UTF-8."""
    array = np.empty((1, len(values)), dtype=np.object_)
    for place, value in enumerate(values):
        if not isinstance(value, bytes | str):
            raise BadRequestError(f"{name}[{place}]: got {type(value).__name__}; expected text")
        try:
            array[0, place] = value.encode("utf-8") if isinstance(value, str) else value
        except UnicodeEncodeError as error:
            raise BadRequestError(f"{name}[{place}]: is not valid Unicode: {error}") from error
    return array


def _number_array(
    name: str, values: Sequence[Any], dtype: type, dims: tuple[int, ...]
) -> NDArray[Any]:
    """The numbers as [1, *dims], where a dim of -1 takes any size."""
    shape = ", ".join("n" if dim == -1 else str(dim) for dim in dims)
    expected = f"expected {np.dtype(dtype).name} numbers of shape [{shape}]"
    try:
        found: NDArray[Any] = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise BadRequestError(f"{name}: got {values!r}; {expected}") from error
    # Checked before the cast, because numpy cuts off a fraction, wraps a large number around
    # and reads text as numbers without a word.
    if np.issubdtype(dtype, np.integer):
        limits: np.iinfo[Any] = np.iinfo(dtype)
        fits = found.dtype.kind == "i" and limits.min <= found.min() and found.max() <= limits.max
    else:
        fits = found.dtype.kind in "iuf"
    if not fits:
        raise BadRequestError(f"{name}: got {values!r}; {expected}")
    if len(found.shape) != len(dims) or any(
        dim not in (-1, size) for dim, size in zip(dims, found.shape, strict=True)
    ):
        raise BadRequestError(f"{name}: got shape {list(found.shape)}; {expected}")
    return found.astype(dtype)[np.newaxis]  # (1, *dims)
