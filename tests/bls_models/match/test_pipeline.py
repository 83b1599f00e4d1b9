"""Requests move on by themselves: who is refused, who leaves, and who waits for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from caption_support import no_caption_wanted
from match_support import MatchSender, match_request
from serving_support import SMALL_BUNDLE, WAIT_SECONDS, ContentEncoders, picture, wait_for

from bls_models.captions.queue import CaptionQueue
from bls_models.errors import ImageError, RefusedError
from bls_models.index.product_index import ProductIndex
from bls_models.match import pipeline
from bls_models.match.matcher import ProductMatcher
from bls_models.match.record import MatchRequest
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.vectors import FloatArray

QUEUE_SIZE = 4


class HeldEncoders(ContentEncoders):
    """Encoders of which that of pictures waits until a test lets it go on."""

    def __init__(self) -> None:
        super().__init__(SMALL_BUNDLE)
        self.go_on = threading.Event()
        self.calls: list[int] = []

    def encode_images(self, pixels: Sequence[Any]) -> FloatArray:
        if pixels:
            self.calls.append(len(pixels))
            assert self.go_on.wait(WAIT_SECONDS)
        return super().encode_images(pixels)


class Matching:
    """A pipeline over an empty index."""

    def __init__(self) -> None:
        self.settings = Settings(queue_size=QUEUE_SIZE)
        self.encoders = HeldEncoders()
        self.log: list[dict[str, Any]] = []
        index = ProductIndex(SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim, 1000)
        services = Services(
            SMALL_BUNDLE,
            self.settings,
            self.encoders,
            CaptionQueue(no_caption_wanted, 1, 1.0),
            lambda queries: (index.answers(queries), {"following": True}),
            self,  # type: ignore[arg-type]
        )
        self.sender = MatchSender(ProductMatcher(services, self), self.settings)  # type: ignore[arg-type]

    def find_products(self, ids: Sequence[str]) -> dict[str, Any]:
        return {}

    def write(self, entries: list[dict[str, Any]]) -> None:
        self.log += entries

    def request(self, **inputs: Any) -> MatchRequest:
        tensors = {name: np.array([[value]], object) for name, value in inputs.items()}
        return match_request(match_query_from_tensors(tensors, self.settings))

    def photo(self, seed: int, **inputs: Any) -> MatchRequest:
        return self.request(image=picture(seed), caption=b"never", **inputs)

    def occupy(self) -> MatchRequest:
        """Have the encoder of pictures work on one."""
        first = self.photo(0)
        self.sender.start([first])
        wait_for(lambda: self.encoders.calls == [1], "the encoder is called")
        return first


@pytest.fixture
def matching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Matching]:
    # With a second call others would not wait while a test holds the first.
    monkeypatch.setattr(pipeline, "PHOTO_CALLS", 1)
    matching = Matching()
    yield matching
    matching.encoders.go_on.set()
    matching.sender.close()


def test_words_do_not_wait_behind_photos(matching: Matching) -> None:
    photo = matching.occupy()
    words = matching.request(text=b"mug")
    matching.sender.run([words])
    assert words.error is None
    assert photo not in matching.sender.answered


def test_requests_of_different_kinds_that_are_ready_share_a_call(matching: Matching) -> None:
    photo = matching.occupy()
    others = [matching.photo(1), matching.photo(2, text=b"mug"), matching.photo(3)]
    matching.sender.start(others)
    wait_for(lambda: all(request.decoded for request in others), "they are decoded")
    matching.encoders.go_on.set()
    matching.sender.wait([photo, *others])
    assert [request.error for request in others] == [None] * 3
    # One may be decoded and not have come there yet.
    assert matching.encoders.calls[1] > 1


def test_beyond_those_that_may_wait_others_are_refused_at_once_and_in_no_log(
    matching: Matching,
) -> None:
    first = matching.occupy()
    waiting = [matching.photo(seed) for seed in range(1, QUEUE_SIZE + 1)]
    matching.sender.start(waiting)
    refused = matching.request(text=b"mug")
    matching.sender.run([refused])
    assert isinstance(refused.error, RefusedError)
    assert f"{QUEUE_SIZE} requests wait already" in str(refused.error)
    matching.encoders.go_on.set()
    matching.sender.wait([first, *waiting])
    assert [request.error for request in waiting] == [None] * QUEUE_SIZE
    assert len(matching.log) == 1 + QUEUE_SIZE


def test_one_that_has_waited_too_long_or_whose_client_has_gone_is_not_encoded(
    matching: Matching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "PATIENT_SECONDS", 0.0)
    first = matching.occupy()
    late, gone, patient = matching.photo(1), matching.photo(2), matching.photo(3)
    matching.sender.start([late, gone, patient])
    wait_for(lambda: all(item.decoded for item in (late, gone, patient)), "they are decoded")
    late.expires = time.monotonic()
    gone.cancelled = lambda: True
    matching.encoders.go_on.set()
    matching.sender.wait([first, late, gone, patient])
    assert isinstance(late.error, RefusedError)
    assert isinstance(gone.error, RefusedError)
    assert patient.error is None
    assert sum(matching.encoders.calls) == 2


def test_a_picture_that_cannot_be_read_fails_its_request_alone(matching: Matching) -> None:
    matching.encoders.go_on.set()
    bad, good = matching.request(image=b"no picture", caption=b"never"), matching.photo(1)
    matching.sender.run([bad, good])
    assert isinstance(bad.error, ImageError)
    assert good.error is None


def test_all_that_were_taken_are_answered_before_it_ends(matching: Matching) -> None:
    requests = [matching.photo(seed) for seed in range(QUEUE_SIZE)]
    matching.sender.start(requests)
    matching.encoders.go_on.set()
    matching.sender.close()
    assert sorted(map(id, matching.sender.answered)) == sorted(map(id, requests))
    assert [request.error for request in requests] == [None] * QUEUE_SIZE


def test_stages_add_up_to_no_more_than_the_whole(matching: Matching) -> None:
    matching.encoders.go_on.set()
    request = matching.photo(1)
    matching.sender.run([request])
    milliseconds = request.details["milliseconds"]
    total = milliseconds.pop("total")
    assert set(milliseconds) == {"queue", "decode", "encode", "search", "documents"}
    assert sum(milliseconds.values()) <= total
