"""A metric is found where views hide which product they show, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from metric_support import noisy_products

from bls_models.metric.fitting import MIN_PRODUCTS, MIN_VIEWS, Fit, Scatter, fit
from bls_models.metric.metric import Metric
from bls_models.vectors import FloatArray


def fitted(products: list[FloatArray]) -> Fit:
    scatter = Scatter(products[0].shape[1])
    # In two parts, as the pages of a catalogue.
    scatter.add(products[:10])
    scatter.add(products[10:])
    return fit(scatter, products, "v1")


@pytest.fixture(scope="module")
def noisy() -> Fit:
    """A fit to products whose noise is stronger than what tells them apart."""
    return fitted(noisy_products(60))


def metric_of(found: Fit) -> Metric:
    assert found.metric is not None, found.reason
    return found.metric


def first_right(products: list[FloatArray], metric: Metric | None) -> float:
    """How often a product's first view finds another of its own before all others."""
    asked = np.stack([views[0] for views in products])
    rows = np.concatenate([views[1:] for views in products])
    owners = np.repeat(np.arange(len(products)), [len(views) - 1 for views in products])
    if metric is not None:
        asked, rows = metric.queries(asked), metric.rows(rows)
    found = owners[np.argmax(asked @ rows.T, axis=1)]
    return float((found == np.arange(len(products))).mean())


def test_left_out_views_find_their_product_more_often(noisy: Fit) -> None:
    raw, *tried = noisy.gains
    best = max(tried, key=lambda gain: gain.both)
    assert raw.name == "raw"
    assert best.seen > raw.seen + 0.2
    assert best.unseen > raw.unseen + 0.2
    # Each product is left out of one fit, with all its views.
    assert raw.unseen_count > 0.9 * noisy.views
    assert raw.seen_count > 100
    assert metric_of(noisy).version == "v1"
    assert (noisy.products, noisy.views, noisy.reason) == (60, 360, "")


def test_products_that_the_fit_never_saw_are_found_more_often(noisy: Fit) -> None:
    strangers = noisy_products(60, seed=1)
    assert first_right(strangers, metric_of(noisy)) > first_right(strangers, None) + 0.2


def test_the_very_picture_scores_one_and_nothing_scores_more(noisy: Fit) -> None:
    metric = metric_of(noisy)
    views = np.concatenate(noisy_products(30, seed=2))
    rows, queries = metric.rows(views), metric.queries(views)
    assert rows.shape == (len(views), 256)
    assert rows.dtype == queries.dtype == np.float32
    assert metric.dim == 256
    scores = queries @ rows.T
    np.testing.assert_allclose(np.diagonal(scores), 1.0, atol=1e-5)
    assert scores.max() < 1 + 1e-5


def test_another_product_is_in_the_middle_as_far_as_it_was(noisy: Fit) -> None:
    metric, views = metric_of(noisy), [item[0] for item in noisy_products(60, seed=3)]
    stacked = np.stack(views)
    raw, spread = stacked @ stacked.T, metric.queries(stacked) @ metric.rows(stacked).T
    np.fill_diagonal(raw, -1)
    np.fill_diagonal(spread, -1)
    # Of the nearest other product, which is what was measured with more views.
    assert np.median(spread.max(axis=1)) == pytest.approx(np.median(raw.max(axis=1)), abs=0.15)


def test_the_same_catalogue_gives_the_same_metric(noisy: Fit) -> None:
    again = metric_of(fitted(noisy_products(60)))
    np.testing.assert_array_equal(again.matrix, metric_of(noisy).matrix)
    assert again.spread == metric_of(noisy).spread


def test_small_vectors_get_a_metric_of_their_own_length() -> None:
    found = metric_of(fitted(noisy_products(60, dim=40)))
    # The whole space with the strengthened directions beside it, and the two that carry scores.
    assert found.dim <= 2 * 40 + 2
    assert found.matrix.shape[0] == 40


@pytest.mark.parametrize(
    ("products", "views", "said"),
    [
        (MIN_PRODUCTS - 1, 6, "29 products with several views"),
        (MIN_VIEWS + 50, 1, "0 products with several views, 200 views in all"),
        (MIN_PRODUCTS, 4, "120 views in all"),
    ],
)
def test_too_little_gives_none_and_says_why(products: int, views: int, said: str) -> None:
    found = fitted(noisy_products(products, views=views))
    assert found.metric is None
    assert said in found.reason
    assert f"takes {MIN_PRODUCTS} and {MIN_VIEWS}" in found.reason
    assert found.gains == ()
    assert found.views == products * views


def test_series_of_the_same_picture_teach_nothing() -> None:
    series = [np.repeat(views[:1], 6, axis=0) for views in noisy_products(60)]
    found = fitted(series)
    assert found.metric is None
    assert "too few views differ from the other views of their product" in found.reason


def test_where_views_are_found_already_there_is_no_metric() -> None:
    found = fitted(noisy_products(60, noise=0.5))
    assert found.metric is None
    assert "no metric finds more" in found.reason
    assert found.gains[0].both > 0.9
