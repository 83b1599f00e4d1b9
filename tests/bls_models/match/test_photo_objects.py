"""Photos of several products: what is cut out, searched for, answered and logged.

The detector here says what a test tells it; that of ``serving/test_found_objects.py`` is real.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from caption_support import no_caption_wanted
from match_support import MatchSender, match_request
from PIL import Image
from serving_support import (
    SMALL_BUNDLE,
    WAIT_SECONDS,
    ContentEncoders,
    blocks,
    encoded,
    image_vector,
    text_vector,
    wait_for,
)

from bls_models.bundle import DetectorBundle
from bls_models.captions.queue import CaptionQueue
from bls_models.errors import DetectorError, EncoderError, RequestError
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.match.matcher import ProductMatcher
from bls_models.match.record import MatchRequest
from bls_models.match.request import match_query_from_tensors
from bls_models.objects.detector import ObjectDetector
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.specs import ModelSpec
from bls_models.vectors import Arrays

DETECTOR = DetectorBundle("0" * 16, 64, "stretch", 4, 0.5)
BUNDLE = replace(SMALL_BUNDLE, detector=DETECTOR)
PRODUCTS = 4
# Left and right halves, the left one again, and one that is hardly there.
HALVES = [(0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 0.48, 1), (0.2, 0.2, 0.4, 0.4)]
SCORES = [0.9, 0.8, 0.7, 0.3]


class ToldDetector:
    """The engine: answers what a test told it, or fails."""

    def __init__(self) -> None:
        self.boxes: Sequence[Sequence[float]] = HALVES
        self.scores: Sequence[float] = SCORES
        self.error: Exception | None = None
        self.answer: dict[str, Any] = {}
        self.calls: list[tuple[int, ...]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, model: ModelSpec, inputs: Arrays) -> dict[str, Any]:
        assert model.name == "object_detector"
        self.calls.append(inputs["image"].shape)
        assert self.go_on.wait(WAIT_SECONDS)
        if self.error is not None:
            raise self.error
        if self.answer:
            return self.answer
        boxes, scores = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4), np.float32)
        boxes[0, : len(self.boxes)] = self.boxes
        scores[0, : len(self.scores)] = self.scores
        return {"box": boxes, "box_score": scores}


class Matching:
    """A matcher over an index of four products, whose pictures are ``blocks``."""

    def __init__(self, bundle_has_detector: bool = True) -> None:
        self.detector = ToldDetector()
        self.encoders = ContentEncoders(BUNDLE)
        self.log: list[dict[str, Any]] = []
        self.searches: list[Sequence[IndexQuery]] = []
        self.settings = Settings()
        self.index = ProductIndex(BUNDLE.image_dim, BUNDLE.text_dim, 1000)
        self.index.upsert(
            [
                IndexedProduct(
                    f"p{number}",
                    "w",
                    {"category": "even" if number % 2 == 0 else "odd"},
                    image_vector(np.asarray(blocks(number, 32)))[None],
                    text_vector(f"t{number}")[None],
                )
                for number in range(PRODUCTS)
            ]
        )
        services = Services(
            BUNDLE if bundle_has_detector else SMALL_BUNDLE,
            self.settings,
            self.encoders,
            CaptionQueue(no_caption_wanted, 1, 1.0),
            lambda queries: self.search(queries),
            self,  # type: ignore[arg-type]
            detector=ObjectDetector(self.detector, DETECTOR) if bundle_has_detector else None,
        )
        self.sender = MatchSender(ProductMatcher(services, self), self.settings)  # type: ignore[arg-type]

    def find_products(self, ids: Sequence[str]) -> dict[str, Any]:
        return {key: {"_id": key, "name": key.upper()} for key in ids}

    def write(self, entries: list[dict[str, Any]]) -> None:
        self.log += entries

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[Any], dict[str, Any]]:
        self.searches.append(queries)
        return self.index.answers(queries), {"following": True}

    def request(self, **inputs: Any) -> MatchRequest:
        given: Mapping[str, Any] = {"caption": b"never", "top_k": 1, **inputs}
        tensors = {}
        for name, value in given.items():
            values = value if isinstance(value, list) else [value]
            kind = np.int32 if name in ("top_k", "max_objects", "offset") else np.float32
            dtype = object if isinstance(values[0], bytes) else kind
            tensors[name] = np.array([values], dtype)
        return match_request(match_query_from_tensors(tensors, self.settings))

    def match(self, **inputs: Any) -> MatchRequest:
        request = self.request(**inputs)
        self.sender.run([request])
        assert request.error is None, request.error
        return request


@pytest.fixture
def matching() -> Iterator[Matching]:
    matching = Matching()
    yield matching
    matching.detector.go_on.set()
    matching.sender.close()


def beside(*numbers: int) -> bytes:
    """A photo of products side by side."""
    side = 96
    photo = Image.new("RGB", (side * len(numbers), side))
    for place, number in enumerate(numbers):
        photo.paste(blocks(number, side), (place * side, 0))
    return encoded(photo)


def rows(request: MatchRequest) -> list[tuple[int, str]]:
    ids = [match.product_id for match in request.matches]
    return list(zip(request.object_numbers, ids, strict=True))


def test_each_object_is_matched_beside_the_whole_photo(matching: Matching) -> None:
    request = matching.match(image=beside(1, 2), objects=b"always")
    assert [number for number, _ in rows(request)] == [0, 1, 2]
    assert rows(request)[1:] == [(1, "p1"), (2, "p2")]
    assert [item.box for item in request.objects] == [tuple(HALVES[0]), tuple(HALVES[1])]
    assert [item.score for item in request.objects] == pytest.approx([0.9, 0.8])
    assert request.details["objects"] == {"status": "ok", "found": 2}
    assert request.details["best_object"] is None
    assert request.details["degraded"] == []
    assert len(request.products) == 3
    assert matching.detector.calls == [(1, 64, 64, 3)]
    # All in one call of the encoder, and in one search, whose work they share.
    assert matching.encoders.encoded_images == 3
    (queries,) = matching.searches
    assert [query.work_share for query in queries] == pytest.approx([1, 1 / 2, 1 / 2])


def test_without_asking_nobody_looks(matching: Matching) -> None:
    request = matching.match(image=beside(1, 2))
    assert matching.detector.calls == []
    assert request.details["objects"] == {"status": "not_asked", "found": 0}
    assert request.object_numbers == [0]
    assert "objects" not in request.milliseconds
    (entry,) = matching.log
    assert "objects" not in entry
    assert "objects" not in entry["inputs"]


@pytest.mark.parametrize(
    ("mode", "boxes", "numbers"),
    [
        # One object is what the photo is of.
        ("auto", [(0, 0, 0.5, 1)], [0]),
        ("auto", [(0, 0, 0.5, 1), (0.5, 0, 1, 1)], [0, 1, 2]),
        # What covers nearly all of it is dropped.
        ("auto", [(0, 0, 1, 0.9), (0.7, 0, 1, 0.5)], [0]),
        ("auto", [(0, 0, 1, 0.9), (0.7, 0, 1, 0.5), (0, 0, 0.3, 0.5)], [0, 1, 2]),
        ("always", [(0, 0, 1, 0.9)], [0, 1]),
        ("always", [], [0]),
    ],
)
def test_modes(matching: Matching, mode: str, boxes: list[Any], numbers: list[int]) -> None:
    matching.detector.boxes = np.reshape(boxes, (-1, 4))
    matching.detector.scores = [0.9] * len(boxes)
    request = matching.match(image=beside(1, 2), objects=mode.encode())
    assert request.object_numbers == numbers
    assert request.details["objects"]["status"] == ("ok" if len(numbers) > 1 else "none")
    assert request.details["objects"]["found"] == len(boxes)


def test_the_surest_are_kept(matching: Matching) -> None:
    request = matching.match(image=beside(1, 2), objects=b"always", max_objects=1)
    assert rows(request)[1:] == [(1, "p1")]
    assert request.details["objects"]["found"] == 2


def test_pages_filters_and_least_scores_are_of_each_object(matching: Matching) -> None:
    photo = beside(1, 2)
    paged = matching.match(image=photo, objects=b"always", top_k=2, offset=1)
    assert paged.object_numbers == [0, 0, 1, 1, 2, 2]
    assert "p1" not in [id for number, id in rows(paged) if number == 1]
    even = matching.match(image=photo, objects=b"always", filter=b'{"category": "even"}', top_k=4)
    assert even.object_numbers == [0, 0, 1, 1, 2, 2]
    assert {id for _, id in rows(even)} == {"p0", "p2"}
    best = {match.product_id: match.score for match in matching.match(image=photo).matches}
    objects = matching.match(image=photo, objects=b"always").found[1:]
    least = min(matches[0].score for matches in objects)
    assert least > max(best.values())
    sure = matching.match(image=photo, objects=b"always", min_score=least - 1e-4)
    assert rows(sure) == [(1, "p1"), (2, "p2")]


def test_words_say_which_object_is_meant(matching: Matching) -> None:
    request = matching.match(image=beside(1, 2), text=b"t2", objects=b"always")
    assert rows(request)[2] == (2, "p2")
    assert request.details["best_object"] == 2
    alone = matching.match(text=b"t2", objects=b"always")
    assert alone.details["objects"] == {"status": "no_image", "found": 0}
    assert alone.details["best_object"] is None
    assert alone.details["degraded"] == []


def test_with_a_crop_boxes_are_of_the_whole_photo(matching: Matching) -> None:
    """The right two thirds of three products: the halves of that are the second and the third."""
    crop = np.array([1 / 3, 0, 1, 1], np.float32)
    request = matching.request(image=beside(0, 1, 2), objects=b"always")
    assert request.query is not None
    x0, y0, x1, y1 = map(float, crop)
    request.query = replace(request.query, crops=((x0, y0, x1, y1),))
    matching.sender.run([request])
    assert rows(request)[1:] == [(1, "p1"), (2, "p2")]
    np.testing.assert_allclose(request.objects[0].box, [1 / 3, 0, 2 / 3, 1], atol=1e-6)
    np.testing.assert_allclose(request.objects[1].box, [2 / 3, 0, 1, 1], atol=1e-6)


def test_the_log_has_boxes_and_whose_each_match_is(matching: Matching) -> None:
    matching.match(image=beside(1, 2), objects=b"always")
    (entry,) = matching.log
    assert entry["inputs"]["objects"] == "always"
    assert len(entry["inputs"]["images"]) == 1
    assert [item["box"] for item in entry["objects"]] == [list(HALVES[0]), list(HALVES[1])]
    assert [item.get("object", 0) for item in entry["matches"]] == [0, 1, 2]


def test_the_same_photo_again_encodes_nothing(matching: Matching) -> None:
    photo = beside(1, 2)
    first = matching.match(image=photo, objects=b"always")
    again = matching.match(image=photo, objects=b"always")
    assert matching.encoders.encoded_images == 3
    assert rows(again) == rows(first)


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_a_detector_that_fails_costs_the_objects_alone(matching: Matching, mode: str) -> None:
    matching.detector.error = DetectorError("object_detector failed: it is not loaded")
    request = matching.match(image=beside(1), objects=mode.encode())
    assert rows(request) == [(0, "p1")]
    assert request.details["degraded"] == ["objects"]
    assert request.details["objects"]["status"] == "unavailable"
    assert "not loaded" in request.details["objects"]["reason"]


def test_numbers_that_are_not_finite_are_no_objects(matching: Matching) -> None:
    matching.detector.scores = [np.nan] * 4
    request = matching.match(image=beside(1), objects=b"always")
    assert request.details["degraded"] == ["objects"]
    assert "finite" in request.details["objects"]["reason"]


@pytest.mark.parametrize(("mode", "degraded"), [("auto", []), ("always", ["objects"])])
def test_a_bundle_without_a_detector(mode: str, degraded: list[str]) -> None:
    matching = Matching(bundle_has_detector=False)
    request = matching.match(image=beside(1), objects=mode.encode())
    assert rows(request) == [(0, "p1")]
    assert request.details["degraded"] == degraded
    assert "has no object detector" in request.details["objects"]["reason"]
    matching.sender.close()


def test_an_encoder_that_fails_fails_the_match(matching: Matching) -> None:
    def fail(pixels: Sequence[Any]) -> Any:
        raise EncoderError("image_encoder is not there")

    matching.encoders.encode_images = fail  # type: ignore[method-assign, assignment]
    request = matching.request(image=beside(1, 2), objects=b"always")
    matching.sender.run([request])
    assert isinstance(request.error, EncoderError)
    assert matching.log[0]["status"] == "error"


def test_a_detector_that_hangs_holds_up_nobody_else(matching: Matching) -> None:
    """Half of the queue is for others, however many photos with objects come."""
    matching.detector.go_on.clear()
    slow = [
        matching.request(image=beside(1, 2), objects=b"always")
        for _ in range(matching.settings.queue_size)
    ]
    matching.sender.start(slow)
    plain = matching.match(image=beside(3))
    assert rows(plain) == [(0, "p3")]
    refused = [request for request in slow if request.error is not None]
    assert len(refused) == matching.settings.queue_size // 2
    assert all("photos with objects wait already" in str(item.error) for item in refused)
    matching.detector.go_on.set()
    matching.sender.wait(slow)
    taken = [request for request in slow if request.error is None]
    assert all(rows(request)[1:] == [(1, "p1"), (2, "p2")] for request in taken)
    # The places are free again.
    assert rows(matching.match(image=beside(1, 2), objects=b"always"))[1:] == [(1, "p1"), (2, "p2")]


def test_a_detector_that_is_late_fails_no_match(matching: Matching) -> None:
    """The time it takes is not spent waiting in the queue."""
    matching.detector.go_on.clear()
    request = matching.request(image=beside(1, 2), objects=b"always")
    request.expires = time.monotonic() + 0.5
    matching.sender.start([request])
    wait_for(lambda: matching.detector.calls, "it is called")
    wait_for(lambda: time.monotonic() > request.expires, "the request's time is up")
    matching.detector.go_on.set()
    matching.sender.wait([request])
    assert request.error is None
    assert rows(request)[1:] == [(1, "p1"), (2, "p2")]


def test_an_answer_of_another_shape_is_no_objects(matching: Matching) -> None:
    matching.detector.scores = np.zeros(0)
    short = {"box": np.zeros((1, 4, 4), np.float32), "box_score": np.zeros((1, 3), np.float32)}
    matching.detector.answer = short
    request = matching.match(image=beside(1), objects=b"always")
    assert request.details["degraded"] == ["objects"]
    assert "4 boxes" in request.details["objects"]["reason"]


def test_an_object_that_takes_too_much_costs_its_own_matches(matching: Matching) -> None:
    """What is refused for one of them leaves the photo's own matches."""
    search = matching.search

    def refusing(queries: Sequence[IndexQuery]) -> tuple[list[Any], dict[str, Any]]:
        answers, about = search(queries)
        answers[2:] = [
            IndexAnswer(refusal=RequestError("image, text", "too much", "at most 5"))
            for _ in answers[2:]
        ]
        return answers, about

    matching.search = refusing  # type: ignore[method-assign]
    request = matching.match(image=beside(1, 2), objects=b"always")
    assert rows(request)[1:] == [(1, "p1")]
    assert len(request.objects) == 2
    assert request.details["degraded"] == ["objects"]
    assert "too much" in request.details["objects"]["reason"]


@pytest.mark.parametrize("options", [{"offset": 1}, {"sort": b"price"}])
def test_in_another_order_no_object_is_the_best(
    matching: Matching, options: dict[str, Any]
) -> None:
    request = matching.match(image=beside(1, 2), text=b"t2", objects=b"always", top_k=2, **options)
    assert request.details["best_object"] is None


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"objects": b"sometimes"}, "never | auto | always"),
        ({"objects": b"always", "max_objects": 0}, "from 1 to 20"),
        ({"objects": b"always", "max_objects": 21}, "from 1 to 20"),
        ({"objects": b"auto", "image": [beside(1), beside(2)]}, "auto with 2 images"),
    ],
)
def test_refusals(matching: Matching, inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as refusal:
        matching.request(**{"image": beside(1), **inputs})
    assert words in str(refusal.value)


def test_several_photos_may_be_sent_where_no_objects_are_asked_for(matching: Matching) -> None:
    request = matching.match(image=[beside(1), beside(1)], objects=b"never", max_objects=3)
    assert rows(request) == [(0, "p1")]
