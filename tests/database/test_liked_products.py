"""More like this: what a product's own vectors find, raw and under a metric, and without itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from follower_support import Shop
from serving_support import (
    SMALL_BUNDLE,
    WAIT_SECONDS,
    blocks,
    image_vector,
    picture,
    text_vector,
)

from bls_models.errors import RequestError
from bls_models.images.preprocessing import prepare_pixels
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.metric.catalogue import CatalogueMetrics
from bls_models.metric.fitting import Fit
from bls_models.metric.metric import Metric
from bls_models.replication.index_host import IndexHost
from bls_models.settings import Settings
from bls_models.vectors import FloatArray, unit

PRODUCTS = 6
NONE = np.zeros((0, SMALL_BUNDLE.image_dim), np.float32)
NO_TEXT = np.zeros((0, SMALL_BUNDLE.text_dim), np.float32)
NO_WEIGHTS = np.zeros(0, np.float32)


def made_metric() -> Metric:
    random = np.random.default_rng(3)
    matrix = random.normal(size=(SMALL_BUNDLE.image_dim, 10)).astype(np.float32)
    return Metric("made", np.full(SMALL_BUNDLE.image_dim, 0.01, np.float32), matrix, 2.0)


@pytest.fixture
def shop_of_six(shop: Shop) -> Shop:
    """Products of one picture each, but ``p0``, which has two, and ``p5``, which has none."""
    for number in range(PRODUCTS - 1):
        shop.put(number, picture(number), *([picture(10)] if number == 0 else []))
    shop.put(PRODUCTS - 1)
    return shop


@pytest.fixture(params=["raw", "metric"])
def host(
    request: pytest.FixtureRequest, shop_of_six: Shop, settings: Settings
) -> Iterator[IndexHost]:
    if request.param == "metric":
        catalogue = CatalogueMetrics(shop_of_six.store, SMALL_BUNDLE)
        catalogue.add(Fit(made_metric(), "", (), 1, 1))
        catalogue.serve("made")
    own = settings.model_copy(update={"metric": "manual"})
    host = IndexHost(own, SMALL_BUNDLE, shop_of_six.database)
    host.start(WAIT_SECONDS)
    yield host
    host.close()


def vector_of(number: int) -> FloatArray:
    return image_vector(prepare_pixels(np.asarray(blocks(number)), SMALL_BUNDLE.preprocess))


def likes(*like: tuple[str, float], **options: object) -> IndexQuery:
    query = IndexQuery(NONE, NO_WEIGHTS, NO_TEXT, NO_WEIGHTS, PRODUCTS, like=like)
    return replace(query, **options)  # type: ignore[arg-type]


def found(host: IndexHost, query: IndexQuery) -> list[IndexMatch]:
    (answer,), _ = host.search([query])
    assert answer.refusal is None, answer.refusal
    return answer.matches


def scores(matches: list[IndexMatch]) -> dict[str, tuple[float, float]]:
    return {match.product_id: (match.image_score, match.text_score) for match in matches}


def test_a_products_vectors_search_for_others(shop_of_six: Shop, host: IndexHost) -> None:
    """The same as its picture and its own text, and the product itself is left out."""
    matches = found(host, likes(("p1", 1.0)))
    assert {match.product_id for match in matches} == {"p0", "p2", "p3", "p4", "p5"}
    (own,) = shop_of_six.store.embeddings.find({"product_id": "p1", "kind": "text"})
    text = np.array(own["vector"].as_vector().data, np.float32)
    one = np.ones(1, np.float32)
    sent = IndexQuery(vector_of(1)[np.newaxis], one, text[np.newaxis], one, PRODUCTS)
    expected = scores(found(host, sent))
    for product_id, (image, words) in scores(matches).items():
        assert words == pytest.approx(expected[product_id][1], abs=1e-5)
        # That of a product without pictures is NaN.
        np.testing.assert_allclose(image, expected[product_id][0], atol=1e-5)


def test_of_several_views_the_mean_counts(host: IndexHost) -> None:
    matches = scores(found(host, likes(("p0", 1.0))))
    metric = made_metric()
    views = np.stack([vector_of(0), vector_of(10)])
    raw = float(unit(views.mean(axis=0, keepdims=True))[0] @ vector_of(3))
    (projected,) = metric.queries_of_rows(metric.rows(views).mean(axis=0, keepdims=True))
    under = max(-1.0, float(projected @ metric.rows(vector_of(3)[np.newaxis])[0]))
    assert matches["p3"][0] in (pytest.approx(raw, abs=1e-5), pytest.approx(under, abs=1e-5))


def test_weights_of_either_sign_and_words_beside(host: IndexHost) -> None:
    toward = found(host, likes(("p1", 1.0), ("p2", -1.0)))
    assert {match.product_id for match in toward} == {"p0", "p3", "p4", "p5"}
    away = found(host, likes(("p1", -1.0), ("p2", 1.0)))
    for product_id, (image, words) in scores(toward).items():
        other = scores(away)[product_id]
        np.testing.assert_allclose((image, words), (-other[0], -other[1]), atol=1e-5)
    with_words = likes(
        ("p1", 1.0),
        text_vectors=text_vector("blue")[np.newaxis],
        text_weights=np.full(1, 3.0, np.float32),
    )
    alone = scores(found(host, likes(("p1", 1.0))))
    both = scores(found(host, with_words))
    assert both.keys() == alone.keys()
    assert any(abs(both[name][1] - alone[name][1]) > 0.01 for name in both)


def test_a_filter_is_heeded_and_pages_follow_each_other(host: IndexHost) -> None:
    every = [match.product_id for match in found(host, likes(("p1", 1.0)))]
    pages = [
        match.product_id
        for offset in range(0, PRODUCTS, 2)
        for match in found(host, likes(("p1", 1.0), top_k=2, offset=offset))
    ]
    assert pages == every
    kept = found(host, likes(("p1", 1.0), filter=b'{"product_id": {"$in": ["p1", "p2", "p3"]}}'))
    assert {match.product_id for match in kept} == {"p2", "p3"}


def test_a_product_that_is_not_there_refuses_its_query_alone(
    shop_of_six: Shop, host: IndexHost
) -> None:
    answers, _ = host.search([likes(("p1", 1.0)), likes(("p1", 1.0), ("none", 1.0))])
    assert answers[0].refusal is None
    assert isinstance(answers[1].refusal, RequestError)
    assert "like[1]: no product 'none'" in str(answers[1].refusal)


def test_a_product_without_pictures_searches_by_its_text(host: IndexHost) -> None:
    matches = found(host, likes(("p5", 1.0)))
    assert len(matches) == PRODUCTS - 1
    assert all(np.isnan(match.image_score) and match.view is None for match in matches)
