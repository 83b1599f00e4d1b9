"""Queries and matches come through the tensors of ``product_index`` unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bls_models.errors import FilterError, RequestError
from bls_models.index.query import IndexAnswer, IndexMatch, IndexQuery
from bls_models.index.wire import (
    SEARCH_TENSORS,
    answers_from_tensors,
    operation_from_tensors,
    queries_from_tensors,
    tensors_from_answers,
    tensors_from_queries,
)
from bls_models.specs import INDEX_OPERATIONS, PRODUCT_INDEX

RANDOM = np.random.default_rng(5)


def query(images: int, texts: int, **options: Any) -> IndexQuery:
    return IndexQuery(
        image_vectors=RANDOM.normal(size=(images, 6)).astype(np.float32),
        image_weights=RANDOM.normal(size=images).astype(np.float32),
        text_vectors=RANDOM.normal(size=(texts, 3)).astype(np.float32),
        text_weights=RANDOM.normal(size=texts).astype(np.float32),
        **options,
    )


def assert_equal(found: IndexQuery, expected: IndexQuery) -> None:
    for name in ("image_vectors", "image_weights", "text_vectors", "text_weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("top_k", "offset", "min_score", "filter", "raw", "work_share", "like"):
        assert getattr(found, name) == getattr(expected, name)
    words = [*expected.text_words, *[""] * len(expected.text_vectors)]
    assert list(found.text_words) == words[: len(expected.text_vectors)]
    assert found.word_weight == expected.word_weight


@pytest.mark.parametrize(
    "batch",
    [
        [(1, 0)],
        [(0, 1)],
        [(2, 3)],
        [(1, 0), (0, 2), (3, 1)],
        [(0, 1), (0, 1)],
        [(2, 0), (1, 0), (2, 0)],
    ],
    ids=str,
)
def test_a_batch_of_queries_comes_back_with_each_vector_at_its_own_query(
    batch: list[tuple[int, int]],
) -> None:
    queries = [
        query(
            images,
            texts,
            top_k=number + 1,
            offset=10 * number,
            min_score=0.5 if number % 2 else float("-inf"),
            filter=b'{"price": {"$lt": 9}}' if number % 2 else b"",
            like=(("Tässchen", -0.5), ("p", 1.0))[:number],
            text_words=("TX-4821-B", "Tässchen")[: min(texts, number)],
            word_weight=0.5 * number,
        )
        for number, (images, texts) in enumerate(batch)
    ]
    found = queries_from_tensors(tensors_from_queries(queries))
    assert len(found) == len(queries)
    for got, expected in zip(found, queries, strict=True):
        assert_equal(got, expected)


def test_query_tensors_are_the_inputs_of_the_spec_in_dtype_and_rank() -> None:
    tensors = tensors_from_queries([query(2, 0, top_k=3), query(0, 1, top_k=4)])
    assert tuple(tensors) == SEARCH_TENSORS
    for spec in map(PRODUCT_INDEX.input, SEARCH_TENSORS):
        assert tensors[spec.name].dtype == np.dtype(spec.numpy_dtype), spec.name
        assert tensors[spec.name].ndim == len(spec.dims), spec.name


REFUSED = IndexAnswer(refusal=FilterError("filter", "too much", "less", "Ask for less."))
MATCHES = [
    IndexMatch("mug-1", 2**62, 0.5, 0.5, 0.25, view=3),
    IndexMatch("Tässchen", 7, -0.25, -0.25, 0.75),
    IndexMatch("杯子", 8, 1.0, 1.0, 0.125),
]


@pytest.mark.parametrize(
    "results", [[MATCHES], [[], MATCHES[:1], [], MATCHES[1:]], [[]], [[], []]], ids=len
)
def test_answers_come_back_query_by_query_also_empty_ones(
    results: list[list[IndexMatch]],
) -> None:
    answers = [IndexAnswer(matches, 2**40, number) for number, matches in enumerate(results)]
    assert answers_from_tensors(tensors_from_answers(answers)) == answers


def test_a_refused_query_comes_back_as_its_error_between_others() -> None:
    answers = [IndexAnswer(MATCHES[:1]), REFUSED, IndexAnswer(MATCHES[1:])]
    first, refused, last = answers_from_tensors(tensors_from_answers(answers))
    assert (first, last) == (answers[0], answers[2])
    assert isinstance(refused.refusal, FilterError)
    assert str(refused.refusal) == str(REFUSED.refusal)


def test_a_modality_without_part_stays_nan() -> None:
    answer = IndexAnswer([IndexMatch("p", 1, 0.5, 0.5, np.nan)])
    (found,) = answers_from_tensors(tensors_from_answers([answer]))
    assert found.matches[0].image_score == 0.5
    assert np.isnan(found.matches[0].text_score)


def test_match_tensors_are_the_outputs_of_the_spec_in_dtype_and_rank() -> None:
    tensors = tensors_from_answers([IndexAnswer(MATCHES), REFUSED])
    by_hand = [spec for spec in PRODUCT_INDEX.outputs if spec.name != "index_info"]
    assert set(tensors) == {spec.name for spec in by_hand}
    for spec in by_hand:
        assert tensors[spec.name].dtype == np.dtype(spec.numpy_dtype), spec.name
        assert tensors[spec.name].ndim == len(spec.dims), spec.name


def test_a_request_without_an_operation_is_a_search_and_an_unknown_one_is_refused() -> None:
    assert operation_from_tensors(tensors_from_queries([query(1, 0, top_k=1)])) == ""
    for name in INDEX_OPERATIONS:
        assert operation_from_tensors({"operation": np.array([name.encode()], np.object_)}) == name
    with pytest.raises(RequestError, match="operation: 'destroy'; expected 'check' or 'repair'"):
        operation_from_tensors({"operation": np.array([b"destroy"], np.object_)})


@pytest.mark.parametrize("name", SEARCH_TENSORS)
def test_a_search_without_one_of_its_tensors_is_refused_by_name(name: str) -> None:
    tensors = tensors_from_queries([query(1, 1, top_k=1)])
    del tensors[name]
    with pytest.raises(RequestError, match=f"^{name}: missing"):
        queries_from_tensors(tensors)
