"""The fit in the background: when the catalogue stands still, and when a fifth has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from metric_support import noisy_products, store_products
from pymongo.database import Database
from serving_support import SMALL_BUNDLE, WAIT_SECONDS, wait_for

from bls_models.database.store import Document, Store
from bls_models.index.query import IndexQuery
from bls_models.metric.catalogue import NONE, CatalogueMetrics
from bls_models.replication.index_host import IndexHost
from bls_models.replication.metric_fitter import MetricFitter
from bls_models.settings import Settings

BUNDLE = replace(SMALL_BUNDLE, image_dim=300)
LOOK_SECONDS = 0.2


@pytest.fixture
def store(database: Database[Document]) -> Store:
    store = Store(database, 30)
    store_products(store, noisy_products(60), BUNDLE)
    return store


@pytest.fixture
def catalogue(store: Store) -> Iterator[CatalogueMetrics]:
    catalogue = CatalogueMetrics(store, BUNDLE)
    fitter = MetricFitter(catalogue, LOOK_SECONDS)
    fitter.start()
    yield catalogue
    fitter.close()


def fitted_version(catalogue: CatalogueMetrics, other_than: str) -> str:
    wait_for(lambda: catalogue.current().version != other_than, "another metric is named")
    return catalogue.current().version


def test_a_fit_follows_what_a_fifth_of_the_catalogue_is(
    store: Store, catalogue: CatalogueMetrics
) -> None:
    first = fitted_version(catalogue, NONE)
    store_products(store, noisy_products(6, seed=1), BUNDLE, start=60)
    assert 0.09 < catalogue.changed_share() < 0.11
    store.products.delete_many({"_id": {"$in": [f"p{number:03}" for number in range(8)]}})
    second = fitted_version(catalogue, first)
    assert [item["_id"] for item in catalogue.versions()] == [second, first]
    assert catalogue.changed_share() == 0


def test_the_server_that_fits_serves_what_it_found(store: Store, settings: Settings) -> None:
    own = settings.model_copy(update={"metric": "auto"})
    host = IndexHost(own, BUNDLE, store.database, look_seconds=LOOK_SECONDS)
    host.start(WAIT_SECONDS)
    (views,) = noisy_products(1)
    query = IndexQuery(
        views[:1], views[:1, 0] * 0 + 1, views[:0, :8], views[:0, 0], top_k=1, min_score=0.5
    )

    def served() -> str:
        (answer,), about = host.search([query])
        (match,) = answer.matches
        assert match.product_id == "p000"
        return str(about["metric"])

    wait_for(lambda: served() != NONE, "the metric serves")
    assert served() == CatalogueMetrics(store, BUNDLE).current().version
    host.close()
