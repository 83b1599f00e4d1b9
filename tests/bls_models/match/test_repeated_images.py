"""A picture that comes again is neither decoded nor encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from caption_support import no_caption_wanted
from match_support import MatchSender, match_request
from serving_support import SMALL_BUNDLE, ContentEncoders, blocks, encoded

from bls_models.captions.queue import CaptionQueue
from bls_models.engines.vector_cache import VectorCache
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexQuery
from bls_models.match.matcher import ProductMatcher
from bls_models.match.record import MatchRequest
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.vectors import FloatArray


class CountingEncoders(ContentEncoders):
    """Counts the pictures of each call."""

    def __init__(self) -> None:
        super().__init__(SMALL_BUNDLE)
        self.pictures: list[int] = []

    def encode_images(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> FloatArray:
        self.pictures.append(len(pixels))
        return super().encode_images(pixels)


class Matching:
    """A matcher over an empty index, whose encoder counts."""

    def __init__(self, cache: int = 8) -> None:
        self.encoders = CountingEncoders()
        self.log: list[dict[str, Any]] = []
        self.index = ProductIndex(SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim, 1000)
        self.settings = Settings(vector_cache=cache)
        self.matcher = ProductMatcher(
            Services(
                SMALL_BUNDLE,
                self.settings,
                self.encoders,
                CaptionQueue(no_caption_wanted, 1, 1.0),
                self.search,
                self,  # type: ignore[arg-type]
            ),
            self,  # type: ignore[arg-type]
        )
        self.sender = MatchSender(self.matcher, self.settings)

    def find_products(self, ids: Sequence[str]) -> dict[str, Any]:
        return {}

    def write(self, entries: list[dict[str, Any]]) -> None:
        self.log += entries

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[list[Any]], dict[str, Any]]:
        return self.index.answers(queries), {"following": True}

    def request(self, inputs: dict[str, Any]) -> MatchRequest:
        tensors = {name: np.array(values)[None] for name, values in inputs.items()}
        return match_request(match_query_from_tensors(tensors, self.settings))

    def match(self, *inputs: dict[str, Any]) -> list[FloatArray]:
        """The image vectors that each request searched with."""
        requests = [self.request(item) for item in inputs]
        self.sender.run(requests)
        assert [request.error for request in requests] == [None] * len(requests)
        return [vectors_of(request) for request in requests]

    def together(self, *inputs: dict[str, Any]) -> list[FloatArray]:
        """The same, where their pictures are encoded in one call."""
        requests = [self.request(item) for item in inputs]
        for request in requests:
            for number in range(len(request.images)):
                self.matcher.decode(request, number)
        self.matcher.encode(requests)
        return [vectors_of(request) for request in requests]


def vectors_of(request: MatchRequest) -> FloatArray:
    assert request.searches
    return request.searches[0].image_vectors


def photo(seed: int) -> bytes:
    return encoded(blocks(seed))


def images(*files: bytes, **inputs: Any) -> dict[str, Any]:
    return {"image": np.array(files, object), **inputs}


def test_a_repeated_picture_is_encoded_once_and_gets_the_same_vector() -> None:
    matching = Matching()
    (first,) = matching.match(images(photo(1)))
    (again,) = matching.match(images(photo(1)))
    assert matching.encoders.pictures == [1, 0]
    np.testing.assert_array_equal(first, again)


def test_pictures_of_one_batch_are_encoded_once_each() -> None:
    matching = Matching()
    first, second = matching.together(images(photo(1), photo(2)), images(photo(2), photo(1)))
    assert matching.encoders.pictures == [2]
    np.testing.assert_array_equal(first, second[::-1])
    assert not np.allclose(first[0], first[1])


def test_a_batch_of_known_and_new_pictures_keeps_their_order() -> None:
    matching = Matching()
    (known,) = matching.match(images(photo(1)))
    (vectors,) = matching.match(images(photo(2), photo(1), photo(3)))
    assert matching.encoders.pictures == [1, 2]
    np.testing.assert_array_equal(vectors[1], known[0])
    alone = Matching().match(images(photo(2), photo(3)))[0]
    np.testing.assert_allclose(vectors[[0, 2]], alone, atol=1e-6)


def test_another_crop_is_another_picture() -> None:
    matching = Matching()
    (whole,) = matching.match(images(photo(1)))
    (part,) = matching.match(images(photo(1), crop=np.array([[0, 0, 0.25, 0.5]], np.float32)))
    assert matching.encoders.pictures == [1, 1]
    assert not np.allclose(whole, part)


def test_a_known_picture_is_logged_like_any_other() -> None:
    matching = Matching()
    for _ in range(2):
        matching.match(images(photo(1)))
    first, again = (entry["inputs"]["images"] for entry in matching.log)
    assert first == again
    assert first[0]["bytes"] == len(photo(1))


def test_the_least_used_vector_is_forgotten() -> None:
    matching = Matching(cache=2)
    for seed in (1, 2, 1, 3, 1, 2):
        matching.match(images(photo(seed)))
    assert matching.encoders.pictures == [1, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("key", ["a", ("a", None), ("a", (0.0, 0.0, 1.0, 1.0))])
def test_a_vector_is_found_by_its_key_alone(key: Any) -> None:
    cache = VectorCache(4)
    cache.put(key, np.ones(3, np.float32))
    assert cache.get("other") is None
    found = cache.get(key)
    assert found is not None
    assert found.tolist() == [1, 1, 1]
