"""What the server answers, as plain objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from product_match_client.errors import ServerError

Outputs = Mapping[str, NDArray[Any]]
"""Output tensors by name, each with the leading batch dimension of 1."""

OBJECT_OUTPUTS = ("object", "object_box", "object_score")
"""What a server that knows nothing of several products in one photo leaves out."""
LATER_OUTPUTS = ("view", *OBJECT_OUTPUTS)
"""What servers of earlier versions leave out."""


@dataclass(frozen=True)
class Match:
    """One matching product.

    Attributes:
        product_id: the product's id.
        score: the fused score, about -1 to 1.
        image_score: cosine to the product's pictures; None where they took no part.
        text_score: cosine to the product's texts; None where they took no part.
        product: the product's document.
        view: which of the product's pictures, from 0, is most like the photo; None where pictures
            took no part.
    """

    product_id: str
    score: float
    image_score: float | None
    text_score: float | None
    product: dict[str, Any]
    view: int | None = None

    @property
    def picture(self) -> str | None:
        """The sha256 of the picture to show first: the nearest, or the product's first."""
        images = self.product.get("images") or [{}]
        sha256 = images[self.view if self.view and self.view < len(images) else 0].get("sha256")
        return sha256 if isinstance(sha256, str) else None


@dataclass(frozen=True)
class MatchedObject:
    """One of several products in a photo.

    Attributes:
        number: from 1, in the order of descending ``score``.
        box: (x0, y0, x1, y1), where it is: fractions of the upright photo.
        score: how sure the server is that there is a product, 0 to 1.
        matches: what it may be, best first; may be empty.
    """

    number: int
    box: tuple[float, float, float, float]
    score: float
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class MatchResult:
    """The matches, best first or in the order that was asked for, and how they came about.

    Attributes:
        matches: of the whole query; may be empty, which is an answer and not a failure.
        details: request_id; variant, of an A/B test; bundle (name, fingerprint); index; min_score,
            what weaker matches were left out for; likely, whether the best one is one; caption,
            what became of it; objects, likewise; facets; degraded, the parts that could not do
            their share; milliseconds, by stage and in total.
        caption: the first photo in words; empty where there is no caption.
        objects: the products in the photo, each with its own matches; empty where they were not
            asked for, or where the whole photo was matched alone.
    """

    matches: tuple[Match, ...]
    details: dict[str, Any]
    caption: str = ""
    objects: tuple[MatchedObject, ...] = ()

    @property
    def best_object(self) -> int | None:
        """The number of the object that fits the texts of the query best; 0 is the whole photo.

        None where no texts were sent or there are no objects.
        """
        number: int | None = self.details.get("best_object")
        return number

    @property
    def facets(self) -> dict[str, dict[str, Any]]:
        """By field what was counted among all products that were found, also beyond this page.

        Where values were asked for: ``values``, the most frequent first, each with ``value`` and
        ``count``, and ``others``, the products with further values. Where ranges were: ``ranges``,
        each with ``from``, ``to`` (None: no bound; a value that equals ``to`` is in the next) and
        ``count``, and ``least`` and ``most``, the extreme values (None: there is none). For both
        ``missing``, the products without such a value. Empty where no facets were asked for.
        """
        facets: dict[str, dict[str, Any]] = self.details.get("facets", {})
        return facets


@dataclass(frozen=True)
class IngestResult:
    """What became of one product.

    Attributes:
        product_id: the product's id.
        status: created, updated, unchanged, deleted, found or not_found.
        revision: grows with every change of the product.
        details: further facts from the server.
    """

    product_id: str
    status: str
    revision: int
    details: dict[str, Any]


@dataclass(frozen=True)
class ProductPicture:
    """A picture of a product.

    Attributes:
        data: the file.
        content_type: ``image/webp`` or ``image/jpeg``.
        width: in pixels.
        height: in pixels.
        sha256: of the stored file that it was made from, in hex.
    """

    data: bytes
    content_type: str
    width: int
    height: int
    sha256: str


def match_result_from_outputs(outputs: Outputs) -> MatchResult:
    """The answer of ``product_match``.

    Args:
        outputs: product_id, product BYTES [1,k]; score, image_score, text_score FP32 [1,k],
            where exactly 0 says that the modality was not used; caption, details BYTES [1,1];
            object INT32 [1,k], whose row it is, object_box FP32 [1,n,4] and object_score FP32
            [1,n], all three or none.

    Raises:
        ServerError: the tensors do not fit together or hold no JSON.
    """
    names = ("product_id", "score", "image_score", "text_score", "product")
    columns = {name: outputs[name].reshape(-1) for name in names}  # (k,)
    columns["view"] = outputs.get("view", np.full(len(columns["score"]), -1)).reshape(-1)
    counts = {name: len(column) for name, column in columns.items()}
    boxes, scores = np.empty((0, 4), np.float32), np.empty(0, np.float32)
    owners = np.zeros(counts["product_id"], np.int32)
    if any(name in outputs for name in OBJECT_OUTPUTS):
        owners, boxes, scores = _object_outputs(outputs)
        counts["object"] = len(owners)
    if len(set(counts.values())) > 1:
        raise ServerError(f"product_match answered outputs of different lengths: {counts}")
    matches = [
        Match(
            product_id=_text(columns["product_id"][rank]),
            score=float(columns["score"][rank]),
            image_score=_number_or_none(columns["image_score"][rank]),
            text_score=_number_or_none(columns["text_score"][rank]),
            product=_json_object(columns["product"][rank], f"product[{rank}]"),
            view=int(view) if (view := columns["view"][rank]) >= 0 else None,
        )
        for rank in range(counts["product_id"])
    ]
    by_object: list[list[Match]] = [[] for _ in range(1 + len(boxes))]
    for owner, match in zip(owners, matches, strict=True):
        by_object[owner].append(match)
    objects = tuple(
        MatchedObject(
            number=number,
            box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            score=float(score),
            matches=tuple(by_object[number]),
        )
        for number, (box, score) in enumerate(zip(boxes, scores, strict=True), start=1)
    )
    return MatchResult(
        tuple(by_object[0]),
        _json_object(_single(outputs, "details"), "details"),
        _text(_single(outputs, "caption")),
        objects,
    )


def ingest_result_from_outputs(outputs: Outputs) -> IngestResult:
    """The answer of ``product_ingest``.

    Args:
        outputs: product_id, status, details BYTES [1,1]; revision INT64 [1,1].

    Raises:
        ServerError: a tensor is empty or holds no JSON.
    """
    return IngestResult(
        product_id=_text(_single(outputs, "product_id")),
        status=_text(_single(outputs, "status")),
        revision=int(_single(outputs, "revision")),
        details=_json_object(_single(outputs, "details"), "details"),
    )


def status_from_outputs(outputs: Outputs) -> str:
    """The answer of ``product_feedback``.

    Args:
        outputs: status BYTES [1,1].

    Raises:
        ServerError: the tensor is empty.
    """
    return _text(_single(outputs, "status"))


def picture_from_outputs(outputs: Outputs) -> ProductPicture:
    """The answer of ``product_picture``.

    Args:
        outputs: picture (raw), content_type, sha256 BYTES [1,1]; width, height INT32 [1,1].

    Raises:
        ServerError: a tensor is empty.
    """
    return ProductPicture(
        data=bytes(_single(outputs, "picture")),
        content_type=_text(_single(outputs, "content_type")),
        width=int(_single(outputs, "width")),
        height=int(_single(outputs, "height")),
        sha256=_text(_single(outputs, "sha256")),
    )


def report_from_outputs(outputs: Outputs) -> dict[str, Any]:
    """The answer of ``product_report``.

    Args:
        outputs: report BYTES [1,1].

    Raises:
        ServerError: the tensor is empty or holds no JSON.
    """
    return _json_object(_single(outputs, "report"), "report")


def product_from_outputs(outputs: Outputs) -> dict[str, Any] | None:
    """The document that ``product_ingest`` found; None if there is no such product.

    Raises:
        ServerError: the product was found, but its document is not in the answer.
    """
    result = ingest_result_from_outputs(outputs)
    if result.status == "not_found":
        return None
    product = result.details.get("product")
    if not isinstance(product, dict):
        raise ServerError(f"product_ingest found {result.product_id!r} but sent no document")
    return product


def _object_outputs(outputs: Outputs) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The object of each row (k,), the objects' boxes (n, 4) and their scores (n,).

    Raises:
        ServerError: one is missing, or they do not fit together.
    """
    missing = [name for name in OBJECT_OUTPUTS if name not in outputs]
    if missing:
        raise ServerError(f"product_match answered objects without {', '.join(missing)}")
    owners, scores = outputs["object"].reshape(-1), outputs["object_score"].reshape(-1)
    boxes, shape = outputs["object_box"], [1, len(scores), 4]
    if list(boxes.shape) != shape:
        raise ServerError(f"output object_box: got shape {list(boxes.shape)}; expected {shape}")
    if owners.size and (owners.min() < 0 or owners.max() > len(scores)):
        raise ServerError(
            f"output object: got {owners.tolist()}; expected numbers from 0 to {len(scores)}, the "
            "number of boxes"
        )
    return owners, boxes[0], scores


def _single(outputs: Outputs, name: str) -> Any:
    """The one element of an output of shape [1,1]."""
    values = outputs[name].reshape(-1)
    if len(values) != 1:
        raise ServerError(f"output {name}: got {len(values)} elements; expected 1")
    return values[0]


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _number_or_none(value: np.float32) -> float | None:
    return float(value) or None


def _json_object(value: bytes | str, name: str) -> dict[str, Any]:
    try:
        parsed = json.loads(value)
    except ValueError as error:
        raise ServerError(f"output {name}: the server sent no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ServerError(f"output {name}: got {type(parsed).__name__}; expected a JSON object")
    return parsed
