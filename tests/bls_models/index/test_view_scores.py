"""A product's score lies between the mean and the best of its views, and rewards agreement."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bls_models.index.view_scores import BEST_VIEW, POWERS, view_scores

COSINES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=12)


def score_of(*views: float) -> float:
    cosines = np.array([views], np.float32)
    return float(view_scores(cosines, np.zeros(len(views), np.int32), 1)[0, 0])


@given(views=COSINES)
def test_a_score_lies_between_the_mean_and_the_best_of_the_views(views: list[float]) -> None:
    assert np.mean(views) - 1e-5 <= score_of(*views) <= max(views) + 2e-6


@given(view=st.floats(-1, 1, width=32))
def test_one_view_gives_its_own_cosine(view: float) -> None:
    assert score_of(view) == pytest.approx(view, abs=2e-6)


def test_a_picture_that_is_one_of_the_views_scores_1() -> None:
    assert score_of(1.0, 0.2, 0.1, -0.3) == pytest.approx(1, abs=1e-5)


def test_views_that_agree_win_over_one_that_is_a_little_nearer() -> None:
    assert score_of(0.70, 0.69, 0.68) > score_of(0.71, 0.4, 0.3)


def test_one_view_that_is_much_nearer_wins_over_views_that_agree() -> None:
    assert score_of(0.85, 0.4, 0.3) > score_of(0.70, 0.69, 0.68)


def test_products_are_scored_each_by_itself_and_for_each_query() -> None:
    owners = np.array([2, -1, 0, 2, 0, 0], np.int32)
    row = np.array([0.5, 1.0, 0.1, 0.9, 0.3, -0.4], np.float32)
    scores = view_scores(np.stack([row, -row]), owners, 4)
    assert scores.dtype == np.float32
    assert scores[0, [0, 2]].tolist() == pytest.approx(
        [score_of(0.1, 0.3, -0.4), score_of(0.5, 0.9)]
    )
    assert scores[1, [0, 2]].tolist() == pytest.approx(
        [score_of(-0.1, -0.3, 0.4), score_of(-0.5, -0.9)]
    )
    assert np.isnan(scores[:, [1, 3]]).all()


def test_each_query_has_a_power_of_its_own_and_the_largest_stays_finite() -> None:
    row = np.array([1.0, 0.9, 0.2], np.float32)
    owners = np.array([0, 1, 1], np.int32)
    scores = view_scores(np.stack([row, row]), owners, 2, np.array(POWERS))
    assert scores[:, 0].tolist() == pytest.approx([1, 1], abs=1e-5)
    # A power of 1 gives the harmonic mean of the distances.
    assert scores[0, 1] == pytest.approx(1 - 2 / (1 / 0.1 + 1 / 0.8), abs=1e-5)
    assert scores[0, 1] < scores[1, 1] < 0.9


def test_no_views_give_no_scores() -> None:
    empty = view_scores(np.zeros((2, 0), np.float32), np.zeros(0, np.int32), 3)
    assert empty.shape == (2, 3)
    assert np.isnan(empty).all()


@given(views=st.lists(COSINES, min_size=1, max_size=4))
def test_the_best_view_alone_can_be_asked_for(views: list[list[float]]) -> None:
    owners = np.repeat(np.arange(len(views)), [len(of) for of in views]).astype(np.int32)
    row = np.array([*itertools.chain(*views), 1.0], np.float32)
    scores = view_scores(row[np.newaxis], np.append(owners, -1), len(views) + 1, BEST_VIEW)
    assert scores[0, :-1].tolist() == [max(of) for of in views]
    assert np.isnan(scores[0, -1])
