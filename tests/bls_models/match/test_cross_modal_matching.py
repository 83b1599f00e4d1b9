"""Where text and image vectors share a space, words are also compared with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from caption_support import no_caption_wanted
from match_support import MatchSender, match_request
from serving_support import SMALL_BUNDLE, ContentEncoders, encoded, picture, unit
from serving_support import blocks as blocks_of

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexMatch, IndexQuery
from bls_models.index.view_scores import view_scores
from bls_models.match.matcher import ProductMatcher
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.vectors import FloatArray

DIM = 48
SHARED = replace(SMALL_BUNDLE, text_dim=DIM, shared_space=True)


def axis(number: int, towards: int = 0, share: float = 0.0) -> FloatArray:
    """A unit vector along an axis, turned by ``share`` towards another."""
    vector = np.zeros(DIM, np.float32)
    vector[number] = 1 - share
    vector[towards] += share
    return unit(vector)


WORDS = {"mug": axis(0), "vase": axis(1)}


class SharedEncoders(ContentEncoders):
    """Pictures by their content; words by ``WORDS``, in the same space."""

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        return np.array([WORDS[text] for text in texts], np.float32).reshape(-1, DIM)


class NoStore:
    """A database with a document for every id."""

    def find_products(self, ids: Sequence[str]) -> dict[str, Any]:
        return {product_id: {"_id": product_id, "revision": 1} for product_id in ids}


class NoLog:
    def write(self, entries: Sequence[Any]) -> None:
        pass


def product(name: str, pictures: list[FloatArray], texts: list[FloatArray]) -> IndexedProduct:
    return IndexedProduct(
        name,
        "w",
        {},
        np.array(pictures, np.float32).reshape(-1, DIM),
        np.array(texts, np.float32).reshape(-1, DIM),
    )


PRODUCTS = [
    product("mug in the picture", [axis(0, 5, 0.2)], [axis(7)]),
    product("mug in the text", [axis(8)], [axis(0, 5, 0.2)]),
    product("mug in both", [axis(9), axis(0, 5, 0.3)], [axis(0, 5, 0.3)]),
    product("only a picture", [axis(0, 5, 0.1)], []),
    product("only a text", [], [axis(0, 5, 0.1)]),
]


class Matching:
    """A matcher over a real index; keeps the last queries it searched."""

    def __init__(self, bundle: Bundle, **settings: Any) -> None:
        self.index = ProductIndex(DIM, DIM, 1000)
        self.index.upsert(PRODUCTS)
        self.settings = Settings(**settings)
        self.queries: list[IndexQuery] = []
        matcher = ProductMatcher(
            Services(
                bundle,
                self.settings,
                SharedEncoders(bundle),
                CaptionQueue(no_caption_wanted, 1, 1.0),
                self.search,
                NoLog(),  # type: ignore[arg-type]
            ),
            NoStore(),  # type: ignore[arg-type]
        )
        self.sender = MatchSender(matcher, self.settings)

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        return self.index.answers(queries), {"following": True}

    def match(self, *inputs: dict[str, Any]) -> list[dict[str, IndexMatch]]:
        requests = []
        for item in inputs:
            tensors = {name: np.array(values)[None] for name, values in item.items()}
            requests.append(match_request(match_query_from_tensors(tensors, self.settings)))
        self.sender.run(requests)
        assert [request.error for request in requests] == [None] * len(requests)
        self.queries = [request.searches[0] for request in requests]
        return [{match.product_id: match for match in request.matches} for request in requests]


def texts(*words: str, **inputs: Any) -> dict[str, Any]:
    return {"text": np.array([word.encode() for word in words], object), **inputs}


def cosine(first: FloatArray, second: FloatArray) -> float:
    return float(first @ second)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_text_is_scored_against_pictures_and_texts_by_their_shares(share: float) -> None:
    (found,) = Matching(SHARED, cross_modal_weight=share).match(texts("mug"))
    assert set(found) == {item.product_id for item in PRODUCTS}
    for item in PRODUCTS:
        match = found[item.product_id]
        by_picture, by_text = (
            view_scores(
                (vectors @ WORDS["mug"])[None], np.zeros(len(vectors), np.int32), count=1
            ).item()
            for vectors in (item.image_vectors, item.text_vectors)
        )
        scores = np.array([by_picture, by_text])
        np.testing.assert_allclose([match.image_score, match.text_score], scores, atol=1e-6)
        weights = np.where(np.isnan(scores), 0, [share, 1 - share])
        expected = (weights * np.nan_to_num(scores)).sum() / weights.sum()
        assert match.score == pytest.approx(expected, abs=1e-6)


def test_a_share_of_1_looks_at_pictures_alone_and_of_0_at_texts_alone() -> None:
    (pictures,) = Matching(SHARED, cross_modal_weight=1.0).match(texts("mug"))
    assert "only a text" not in pictures
    assert all(np.isnan(match.text_score) for match in pictures.values())
    assert next(iter(pictures)) == "only a picture"
    (words,) = Matching(SHARED, cross_modal_weight=0.0).match(texts("mug"))
    assert "only a picture" not in words
    assert all(np.isnan(match.image_score) for match in words.values())
    assert next(iter(words)) == "only a text"


def test_without_a_shared_space_words_and_pictures_are_never_compared() -> None:
    apart = replace(SHARED, shared_space=False)
    matching = Matching(apart, cross_modal_weight=0.5)
    (found,) = matching.match(texts("mug"))
    assert all(np.isnan(match.image_score) for match in found.values())
    assert len(matching.queries[0].image_vectors) == 0
    assert matching.queries[0].text_weights.tolist() == [1.0]


def test_proportions_of_weights_are_kept_beside_those_of_pictures() -> None:
    matching = Matching(SHARED, cross_modal_weight=0.25)
    image = np.array([picture(1), encoded(blocks_of(2))], object)
    weights = {
        "image": image,
        "image_weight": np.array([2.0, -1.0], np.float32),
        "text_weight": np.array([4.0, -2.0], np.float32),
    }
    matching.match(texts("mug", "vase", **weights))
    (query,) = matching.queries
    assert query.image_weights.tolist() == [0.5, -0.25, 0.25, -0.125]
    assert query.text_weights.tolist() == [0.75, -0.375]
    np.testing.assert_array_equal(query.image_vectors[2:], [WORDS["mug"], WORDS["vase"]])
    np.testing.assert_array_equal(query.text_vectors, [WORDS["mug"], WORDS["vase"]])
    assert query.image_weights.dtype == query.text_weights.dtype == np.float32


@pytest.mark.parametrize("weight", [1e-45, 3e38])
def test_the_smallest_and_largest_weights_change_no_score(weight: float) -> None:
    (expected,) = Matching(SHARED).match(texts("mug"))
    weights = np.array([weight], np.float32)
    (found,) = Matching(SHARED).match(texts("mug", text_weight=weights))
    assert [match.score for match in found.values()] == [match.score for match in expected.values()]


def test_queries_of_a_batch_keep_their_own_vectors() -> None:
    matching = Matching(SHARED)
    image = {"image": np.array([picture(3)], object)}
    matching.match(texts("mug"), image, texts("vase", "mug"))
    counts = [(len(item.image_vectors), len(item.text_vectors)) for item in matching.queries]
    assert counts == [(1, 1), (1, 0), (2, 2)]
    np.testing.assert_array_equal(matching.queries[2].image_vectors[0], WORDS["vase"])
    (alone,) = Matching(SHARED).match(texts("vase", "mug"))
    _, together = Matching(SHARED).match(texts("mug"), texts("vase", "mug"))
    assert [*together] == [*alone]
    assert [match.score for match in together.values()] == [match.score for match in alone.values()]


SWAPPED = '{"pictures": {"share": 1, "cross_modal_weight": 1}}'
DOUBLED = '{"words": {"share": 1, "text_weight": 4, "image_weight": 0.5, "cross_modal_weight": 0}}'


def test_a_variant_has_a_cross_modal_weight_of_its_own() -> None:
    (default,) = Matching(SHARED, cross_modal_weight=1.0).match(texts("mug"))
    (variant,) = Matching(SHARED, cross_modal_weight=0.0, variants=SWAPPED).match(texts("mug"))
    assert [match.score for match in variant.values()] == [
        match.score for match in default.values()
    ]


def test_a_variant_scores_views_and_leaves_out_weak_matches_in_its_own_way() -> None:
    variants = '{"best": {"share": 1, "view_power": 32, "min_score": 0.6}}'
    matching = Matching(SHARED, variants=variants)
    (found,) = matching.match(texts("mug"))
    (query,) = matching.queries
    assert (query.view_power, query.min_score) == (32.0, pytest.approx(0.6))
    (usual,) = Matching(SHARED).match(texts("mug"))
    several = "mug in both"
    assert found[several].image_score > usual[several].image_score
    (asked,) = matching.match(texts("mug", min_score=np.float32([-0.5])))
    assert matching.queries[0].min_score == -0.5
    assert set(found) < set(asked)


def test_a_variants_factors_go_on_the_querys_own_weights() -> None:
    matching = Matching(SHARED, cross_modal_weight=0.5, variants=DOUBLED)
    matching.match(texts("mug", image=np.array([picture(1)], object), image_weight=np.float32([3])))
    (query,) = matching.queries
    assert query.image_weights.tolist() == [1.5]
    assert query.text_weights.tolist() == [4.0]
