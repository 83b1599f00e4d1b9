"""A best match below the bundle's least score is hardly one, and can be left out by default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from match_support import MatchSender, match_request
from serving_support import SMALL_BUNDLE, ContentEncoders, blocks, encoded, image_vector

from bls_models.captions.queue import CaptionQueue
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.match.matcher import ProductMatcher
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings

BUNDLE = replace(SMALL_BUNDLE, min_scores={"image": 0.8, "both": 0.3})
KNOWN, STRANGE = encoded(blocks(1)), encoded(blocks(2))


class Shop:
    """A matcher over one product, with the bundle's least scores applied or not."""

    def __init__(self, applied: bool) -> None:
        self.settings = Settings(default_min_scores=applied)
        index = ProductIndex(BUNDLE.image_dim, BUNDLE.text_dim, 1000)
        vector = image_vector(np.asarray(blocks(1).resize((BUNDLE.image_size,) * 2)))
        no_text = np.zeros((0, BUNDLE.text_dim), np.float32)
        index.upsert([IndexedProduct("mug", "w", {}, vector[None], no_text)])
        matcher = ProductMatcher(
            Services(
                BUNDLE,
                self.settings,
                ContentEncoders(BUNDLE),
                CaptionQueue(lambda *_: pytest.fail("no caption was asked for"), 1, 1.0),
                lambda queries: (index.answers(queries), {"following": True}),
                self,  # type: ignore[arg-type]
            ),
            self,  # type: ignore[arg-type]
        )
        self.sender = MatchSender(matcher, self.settings)

    def find_products(self, ids: list[str]) -> dict[str, Any]:
        return {key: {"_id": key} for key in ids}

    def write(self, entries: list[Any]) -> None:
        pass

    def match(self, image: bytes, **inputs: Any) -> tuple[list[str], bool | None, float | None]:
        """Products, ``likely`` and ``min_score``."""
        tensors = {"image": np.array([[image]], object), "caption": np.array([[b"never"]], object)}
        tensors |= {
            name: np.array([[value]], object if isinstance(value, bytes) else None)
            for name, value in inputs.items()
        }
        request = match_request(match_query_from_tensors(tensors, self.settings))
        self.sender.run([request])
        assert request.error is None
        details = request.details
        ids = [match.product_id for match in request.matches]
        return ids, details["likely"], details["min_score"]


def test_nothing_is_left_out_unless_that_is_asked_for() -> None:
    shop = Shop(applied=False)
    assert shop.match(KNOWN) == (["mug"], True, None)
    assert shop.match(STRANGE) == (["mug"], False, None)


def test_with_the_setting_a_photo_of_something_else_finds_nothing() -> None:
    shop = Shop(applied=True)
    assert shop.match(KNOWN) == (["mug"], True, 0.8)
    assert shop.match(STRANGE) == ([], False, 0.8)


def test_a_requests_own_least_score_comes_before_the_default() -> None:
    shop = Shop(applied=True)
    assert shop.match(STRANGE, min_score=np.float32(-1)) == (["mug"], False, -1.0)


def test_each_kind_of_query_has_its_own() -> None:
    ids, _, least = Shop(applied=True).match(KNOWN, text=b"a mug")
    assert (ids, least) == (["mug"], 0.3)


def test_pushing_vectors_have_none() -> None:
    ids, likely, least = Shop(applied=True).match(KNOWN, image_weight=np.float32(-1))
    assert (ids, likely, least) == (["mug"], None, None)


def test_later_pages_do_not_say_whether_the_best_match_is_likely() -> None:
    assert Shop(applied=False).match(KNOWN, offset=np.int32(1)) == ([], None, None)
