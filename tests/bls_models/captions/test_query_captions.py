"""Captions in matches: when there is one, what it does to the query, and that it delays nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from caption_support import CAPTIONED_BUNDLE, SMALL_CAPTIONER, PixelCaptioner, caption_of
from match_support import MatchSender, match_request
from serving_support import (
    SMALL_BUNDLE,
    ContentEncoders,
    blocks,
    encoded,
    image_vector,
    picture,
    text_vector,
    wait_for,
)

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.errors import CaptionerError, EncoderError
from bls_models.images.preprocessing import Preprocess, prepare_pixels
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.match.matcher import ProductMatcher
from bls_models.match.record import MatchRequest
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.vectors import FloatArray

PIXELS = Preprocess(SMALL_BUNDLE.image_size, SMALL_BUNDLE.resize)


def pixels(seed: int) -> Any:
    return prepare_pixels(np.asarray(blocks(seed)), PIXELS)


class NoStore:
    """A database with a document for every id."""

    def find_products(self, ids: Sequence[str]) -> dict[str, Any]:
        return {product_id: {"_id": product_id, "revision": 1} for product_id in ids}


class KeptLog:
    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def write(self, entries: Sequence[Any]) -> None:
        self.entries += entries


class BrokenEncoders(ContentEncoders):
    def encode_images(self, pixels: Sequence[Any]) -> FloatArray:
        raise EncoderError("image_encoder failed")


class Matching:
    """A matcher over a real index and a captioner that a test can hold."""

    def __init__(
        self,
        bundle: Bundle = CAPTIONED_BUNDLE,
        encoders: ContentEncoders | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings(**{"caption_timeout_ms": 60_000, **settings})
        self.captioner = PixelCaptioner()
        self.encoders = encoders or ContentEncoders(bundle)
        self.log = KeptLog()
        self.queries: list[IndexQuery] = []
        self.index = ProductIndex(bundle.image_dim, bundle.text_dim, 1000)
        self.index.upsert(
            [
                IndexedProduct(
                    str(seed),
                    "w",
                    {},
                    image_vector(pixels(seed))[None],
                    text_vector(caption_of(pixels(seed)))[None],
                )
                for seed in range(4)
            ]
        )
        self.queue = CaptionQueue(
            self.captioner,
            self.settings.caption_queue_size,
            self.settings.caption_timeout_ms / 1e3,
        )
        matcher = ProductMatcher(
            Services(
                bundle,
                self.settings,
                self.encoders,
                self.queue,
                self.search,
                self.log,  # type: ignore[arg-type]
            ),
            NoStore(),  # type: ignore[arg-type]
        )
        self.sender = MatchSender(matcher, self.settings)

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        self.queries += queries
        return self.index.answers(list(queries)), {"version": 1, "following": True}

    @property
    def answered(self) -> list[MatchRequest]:
        return self.sender.answered

    def start(self, *inputs: dict[str, Any]) -> list[MatchRequest]:
        """Send requests together; each ends up in ``answered``."""
        requests = []
        for item in inputs:
            tensors = {name: np.array(values)[None] for name, values in item.items()}
            requests.append(match_request(match_query_from_tensors(tensors, self.settings)))
        self.sender.start(requests)
        return requests

    def match(self, *inputs: dict[str, Any]) -> list[MatchRequest]:
        requests = self.start(*inputs)
        self.sender.wait(requests)
        return requests

    def close(self) -> None:
        self.captioner.go_on()
        self.sender.close()
        self.queue.close()


@pytest.fixture
def opened() -> Iterator[list[Matching]]:
    opened: list[Matching] = []
    yield opened
    for matching in opened:
        matching.close()


@pytest.fixture
def matching(opened: list[Matching]) -> Matching:
    opened.append(Matching())
    return opened[0]


def images(*seeds: int, **inputs: Any) -> dict[str, Any]:
    return {"image": np.array([picture(seed) for seed in seeds], object), **inputs}


def words(text: str, **inputs: Any) -> dict[str, Any]:
    return {"text": np.array([text.encode()], object), **inputs}


def mode(value: str) -> dict[str, Any]:
    return {"caption": np.array([value.encode()], object)}


# --- when there is a caption ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        (images(1), "ok"),
        (images(1) | mode("auto"), "ok"),
        (images(1) | mode("always"), "ok"),
        (images(1) | mode("never"), "not_asked"),
        (images(1) | words("mug"), "not_asked"),
        (images(1) | words("mug") | mode("always"), "ok"),
        (words("mug"), "not_asked"),
        (words("mug") | mode("always"), "no_image"),
    ],
)
def test_the_mode_decides_whether_there_is_a_caption(
    matching: Matching, inputs: dict[str, Any], status: str
) -> None:
    (request,) = matching.match(inputs)
    caption = request.details["caption"]
    assert caption["status"] == status
    assert request.details["degraded"] == []
    assert request.caption.text == caption["text"]
    assert caption["used"] is False
    if status == "ok":
        assert caption["text"] == caption_of(pixels(1))
        assert caption["confidence"] == 0.75
        assert 0 < caption["milliseconds"] <= request.details["milliseconds"]["total"]
        assert request.details["milliseconds"]["caption"] == caption["milliseconds"]
    else:
        assert (caption["text"], caption["confidence"], caption["milliseconds"]) == ("", None, None)
        assert matching.captioner.batches == []


def test_the_first_of_several_photos_is_captioned_with_its_crop(matching: Matching) -> None:
    crop = np.array([[0, 0, 0.5, 0.5], [0, 0, 1, 1]], np.float32)
    (request,) = matching.match(images(1, 2, crop=crop))
    cut = prepare_pixels(np.asarray(blocks(1)), PIXELS, (0, 0, 0.5, 0.5))
    assert request.caption.text == caption_of(cut)
    assert len(request.matches) == 4


def test_the_captioner_gets_pixels_of_its_own_size(opened: list[Matching]) -> None:
    captioner = replace(SMALL_CAPTIONER, image_size=48, resize="pad")
    matching = Matching(replace(CAPTIONED_BUNDLE, captioner=captioner))
    opened.append(matching)
    wide = blocks(1).resize((120, 40))
    matching.match({"image": np.array([encoded(wide)], object)})
    (batch,) = matching.captioner.batches
    np.testing.assert_array_equal(batch[0], prepare_pixels(np.asarray(wide), Preprocess(48, "pad")))


def test_an_unsure_caption_is_returned_and_not_used(opened: list[Matching]) -> None:
    matching = Matching(caption_weight=0.5)
    opened.append(matching)
    matching.captioner.confidence = 0.25
    (request,) = matching.match(images(1))
    caption = request.details["caption"]
    assert (caption["status"], caption["used"]) == ("low_confidence", False)
    assert (caption["text"], caption["confidence"]) == (caption_of(pixels(1)), 0.25)
    assert request.details["degraded"] == []
    assert len(matching.queries[0].text_vectors) == 0


def test_a_caption_without_words_is_not_used(opened: list[Matching]) -> None:
    matching = Matching(caption_weight=0.5)
    opened.append(matching)
    matching.captioner.text = ""
    (request,) = matching.match(images(1))
    assert request.details["caption"]["status"] == "low_confidence"
    assert len(matching.queries[0].text_vectors) == 0


# --- what a caption does to the query ---------------------------------------------------------


def test_without_a_weight_a_caption_is_only_shown(matching: Matching) -> None:
    (request,) = matching.match(images(1))
    assert request.details["caption"]["used"] is False
    assert matching.encoders.encoded_texts == 0
    (query,) = matching.queries
    assert len(query.text_vectors) == 0
    assert request.matches[0].product_id == "1"
    assert np.isnan(request.matches[0].text_score)


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_with_a_weight_a_caption_is_a_further_text_with_a_share_of_its_photos_weight(
    opened: list[Matching], weight: float
) -> None:
    matching = Matching(caption_weight=weight)
    opened.append(matching)
    weights = {"image_weight": np.array([-2, 1], np.float32), "text_weight": np.float32([3])}
    (request,) = matching.match(images(1, 2) | words("mug") | weights | mode("always"))
    assert request.details["caption"]["used"] is True
    (query,) = matching.queries
    assert query.text_weights.tolist() == [3, -2 * weight]
    # The words that were sent count; those of a caption are a guess.
    assert (query.text_words, query.word_weight) == (("mug",), 0.7)
    assert query.text_weights.dtype == np.float32
    expected = [text_vector("mug"), text_vector(caption_of(pixels(1)))]
    np.testing.assert_array_equal(query.text_vectors, expected)
    np.testing.assert_array_equal(query.image_weights, [-2, 1])


def test_a_caption_that_joins_the_query_changes_scores_as_its_weight_says(
    opened: list[Matching],
) -> None:
    matching = Matching(caption_weight=0.5)
    opened.append(matching)
    (request,) = matching.match(images(1))
    assert request.matches[0].product_id == "1"
    for match in request.matches:
        by_image = float(image_vector(pixels(1)) @ image_vector(pixels(int(match.product_id))))
        seen, stored = (text_vector(caption_of(pixels(k))) for k in (1, int(match.product_id)))
        expected = (by_image + 0.5 * float(seen @ stored)) / 1.5
        assert match.score == pytest.approx(expected, abs=1e-5)


def test_the_caption_of_a_photo_without_weight_is_not_used(opened: list[Matching]) -> None:
    matching = Matching(caption_weight=0.5)
    opened.append(matching)
    weights = {"image_weight": np.array([0, 1], np.float32)}
    (request,) = matching.match(images(1, 2) | weights)
    assert request.details["caption"]["status"] == "ok"
    assert request.details["caption"]["used"] is False
    assert len(matching.queries[0].text_vectors) == 0


def test_captions_of_a_batch_stay_with_their_own_queries(opened: list[Matching]) -> None:
    matching = Matching(caption_weight=1.0)
    opened.append(matching)
    inputs = [images(1), words("mug"), images(2) | mode("never"), images(3, 0)]
    requests = matching.match(*inputs)
    texts = [request.details["caption"]["text"] for request in requests]
    assert texts == [caption_of(pixels(1)), "", "", caption_of(pixels(3))]
    assert [len(batch) for batch in matching.captioner.batches] in ([2], [1, 1])
    for request, alone in zip(requests, inputs, strict=True):
        (expected,) = matching.match(alone)
        assert [match.score for match in request.matches] == pytest.approx(
            [match.score for match in expected.matches]
        )


# --- captioners that are slow or broken -------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_who_wants_no_caption_is_answered_before_those_who_wait_for_theirs(
    opened: list[Matching], weight: float
) -> None:
    matching = Matching(caption_weight=weight)
    opened.append(matching)
    matching.captioner.hold()
    first, second, third = matching.start(images(1), images(2) | mode("never"), words("mug"))
    matching.sender.wait([second, third])
    assert first not in matching.answered
    assert [len(request.matches) for request in (second, third)] == [4, 4]
    assert len(matching.log.entries) == 2
    # Nor is who comes later.
    matching.match(images(3) | mode("never"))
    assert first not in matching.answered
    matching.captioner.go_on()
    matching.sender.wait([first])
    assert matching.answered[-1] is first
    assert first.details["caption"]["status"] == "ok"
    assert first.details["caption"]["used"] is bool(weight)
    assert first.matches[0].product_id == "1"
    wait_for(lambda: len(matching.log.entries) == 4, "all are logged")


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_captioner_that_hangs_costs_the_timeout_once(
    opened: list[Matching], weight: float
) -> None:
    matching = Matching(caption_weight=weight, caption_timeout_ms=50)
    opened.append(matching)
    matching.captioner.hold()

    def hangs() -> bool:
        (request,) = matching.match(images(1))
        caption = request.details["caption"]
        assert caption["status"] == "timeout"
        assert "no caption came within 0.05 s" in caption["reason"]
        assert caption["milliseconds"] >= 50
        assert request.details["degraded"] == ["caption"]
        assert request.matches[0].product_id == "1"
        # On a busy machine the time may be over before the captioner is called.
        return bool(matching.captioner.batches)

    wait_for(hangs, "the captioner is called")
    time.sleep(0.1)
    # The call hangs still: nobody else waits for it.
    (again,) = matching.match(images(2))
    assert again.details["caption"]["status"] == "unavailable"
    assert "has not answered" in again.details["caption"]["reason"]
    assert again.matches[0].product_id == "2"


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_full_queue_gives_matches_without_captions(opened: list[Matching], weight: float) -> None:
    matching = Matching(caption_weight=weight, caption_queue_size=1)
    opened.append(matching)
    matching.captioner.hold()
    (called,) = matching.start(images(0))
    matching.captioner.wait_for_call()
    (waiting,) = matching.start(images(1))
    wait_for(lambda: waiting.pending is not None, "it waits for its caption")
    (refused,) = matching.match(images(2))
    assert matching.answered == [refused]
    caption = refused.details["caption"]
    assert (caption["status"], refused.details["degraded"]) == ("busy", ["caption"])
    assert "queue is full (its size is 1)" in caption["reason"]
    assert refused.matches[0].product_id == "2"
    matching.captioner.go_on()
    matching.sender.wait([called, waiting])
    assert waiting.details["caption"]["status"] == "ok"


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_failed_captioner_fails_no_match(opened: list[Matching], weight: float) -> None:
    matching = Matching(caption_weight=weight)
    opened.append(matching)
    matching.captioner.error = CaptionerError("image_captioner failed: it is not loaded")
    for inputs in (images(1), images(1) | words("mug") | mode("always")):
        (request,) = matching.match(inputs)
        caption = request.details["caption"]
        assert caption["status"] == "unavailable"
        assert caption["reason"] == "image_captioner failed: it is not loaded"
        assert (caption["text"], caption["used"]) == ("", False)
        assert request.details["degraded"] == ["caption"]
        assert request.error is None
        assert len(request.matches) == 4


@pytest.mark.parametrize(
    ("inputs", "status", "degraded"),
    [
        (images(1), "unavailable", []),
        (images(1) | mode("always"), "unavailable", ["caption"]),
        (images(1) | mode("never"), "not_asked", []),
        (words("mug"), "not_asked", []),
    ],
)
def test_a_bundle_without_a_captioner_matches_without_captions(
    opened: list[Matching], inputs: dict[str, Any], status: str, degraded: list[str]
) -> None:
    matching = Matching(SMALL_BUNDLE, caption_weight=0.5)
    opened.append(matching)
    (request,) = matching.match(inputs)
    assert request.details["caption"]["status"] == status
    assert request.details["degraded"] == degraded
    assert len(request.matches) == 4
    if status == "unavailable":
        assert "bundle 'small' has no captioner" in request.details["caption"]["reason"]


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_match_that_fails_tells_so_whatever_becomes_of_its_caption(
    opened: list[Matching], weight: float
) -> None:
    matching = Matching(encoders=BrokenEncoders(CAPTIONED_BUNDLE), caption_weight=weight)
    opened.append(matching)
    for request in matching.match(images(1), images(1) | mode("never")):
        assert isinstance(request.error, EncoderError)
    assert [entry["status"] for entry in matching.log.entries] == ["error", "error"]


def test_an_unreadable_photo_is_refused_and_not_captioned(matching: Matching) -> None:
    bad, good = matching.match({"image": np.array([b"no picture"], object)}, images(1))
    assert "image[0]: " in str(bad.error)
    assert good.details["caption"]["status"] == "ok"
    assert sum(len(batch) for batch in matching.captioner.batches) == 1


def test_closing_answers_those_who_still_wait(opened: list[Matching]) -> None:
    matching = Matching()
    opened.append(matching)
    matching.captioner.hold()
    (request,) = matching.start(images(1))
    assert matching.answered == []
    matching.sender.close()
    assert matching.answered == [request]
    assert request.details["caption"]["status"] == "timeout"
    assert len(request.matches) == 4


# --- the log ----------------------------------------------------------------------------------


def test_the_log_has_the_caption_its_confidence_and_its_status(matching: Matching) -> None:
    (request,) = matching.match(images(1))
    (entry,) = matching.log.entries
    assert entry["caption"] == request.details["caption"]
    assert entry["milliseconds"] == request.details["milliseconds"]
    assert {"queue", "decode", "encode", "search", "documents", "caption", "total"} == set(
        entry["milliseconds"]
    )
    matching.captioner.error = CaptionerError("away")
    matching.match(images(2))
    assert matching.log.entries[1]["caption"]["status"] == "unavailable"
    assert matching.log.entries[1]["degraded"] == ["caption"]


# --- batches ----------------------------------------------------------------------------------


def test_the_same_request_twice_in_a_batch_fails_nobody(matching: Matching) -> None:
    tensors = {name: array[None] for name, array in (images(1, 2) | mode("always")).items()}
    query = match_query_from_tensors(tensors, matching.settings)
    twins = [match_request(query, "same") for _ in range(2)]
    matching.sender.run(twins)
    assert [request.error for request in twins] == [None, None]
    assert {request.caption.status for request in twins} == {"ok"}


def test_nobody_is_captioned_whose_match_has_failed(
    matching: Matching, monkeypatch: pytest.MonkeyPatch
) -> None:
    matching.captioner.hold()
    (first,) = matching.start(images(1) | mode("always"))
    matching.captioner.wait_for_call()
    wait_for(lambda: first.matched, "its match is there")

    def failing(*_: object) -> Any:
        raise EncoderError("image_encoder failed")

    monkeypatch.setattr(matching.encoders, "encode", failing)
    (failed,) = matching.match(images(2) | mode("always"))
    assert isinstance(failed.error, EncoderError)
    matching.captioner.go_on()
    matching.sender.wait([first])
    matching.queue.close()
    assert sum(map(len, matching.captioner.batches)) == 1
