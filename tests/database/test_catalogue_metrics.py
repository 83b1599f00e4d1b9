"""Metrics in a real database: fitted from stored views, kept by version, one is served."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from bson.binary import Binary
from metric_support import noisy_products, store_products
from pymongo.database import Database
from serving_support import SMALL_BUNDLE

from bls_models.database.store import Document, Store
from bls_models.errors import ConflictError, SetupError
from bls_models.metric import catalogue as module
from bls_models.metric import fitting
from bls_models.metric.catalogue import (
    CHANGED_SHARE,
    LEASE,
    METRICS,
    NONE,
    CatalogueMetrics,
)
from bls_models.metric.fitting import Fit

pytestmark = pytest.mark.server

DIM = 60
BUNDLE = replace(SMALL_BUNDLE, image_dim=DIM)
PRODUCTS, VIEWS = 50, 5


@pytest.fixture
def metrics(store: Store) -> CatalogueMetrics:
    """Metrics of a catalogue that one can be fitted to."""
    store_products(store, noisy_products(PRODUCTS, VIEWS, DIM), BUNDLE)
    return CatalogueMetrics(store, BUNDLE)


def quietly(_: int) -> None:
    """Progress that nobody looks at."""


def fitted_version(metrics: CatalogueMetrics) -> str:
    found = metrics.fit(quietly)
    assert found.metric is not None, found.reason
    return found.metric.version


def current_document(database: Database[Document]) -> Document:
    found = database[METRICS].find_one({"_id": {"$regex": "^current-"}})
    assert found is not None
    return found


def test_before_any_fit_raw_vectors_are_served(store: Store) -> None:
    metrics = CatalogueMetrics(store, BUNDLE)
    assert metrics.current().version == NONE
    assert metrics.current().fitted is None
    assert metrics.read(NONE) is None
    assert metrics.versions() == []
    assert metrics.changed_share() == 0


def test_a_fit_is_stored_served_and_read_back_as_it_was(metrics: CatalogueMetrics) -> None:
    seen: list[int] = []
    before = datetime.now(UTC)
    found = metrics.fit(seen.append)
    assert found.metric is not None
    assert (found.products, found.views) == (PRODUCTS, PRODUCTS * VIEWS)
    assert seen[-1] == PRODUCTS

    current = metrics.current()
    assert (current.version, current.products) == (found.metric.version, PRODUCTS)
    assert current.views == PRODUCTS * VIEWS
    assert current.fitted is not None
    assert abs(current.fitted - before) < timedelta(minutes=5)
    read = metrics.read(current.version)
    assert read is not None
    np.testing.assert_array_equal(read.matrix, found.metric.matrix)
    np.testing.assert_array_equal(read.centre, found.metric.centre)
    assert read.spread == found.metric.spread
    assert read.version == found.metric.version
    assert read.dim == found.metric.dim


def test_versions_are_listed_with_their_gains_the_newest_first(metrics: CatalogueMetrics) -> None:
    first, second = fitted_version(metrics), fitted_version(metrics)
    listed = metrics.versions()
    assert [item["_id"] for item in listed] == [second, first]
    assert metrics.current().version == second
    assert listed[0]["gains"][0]["name"] == "raw"
    assert listed[0]["products"] == PRODUCTS
    assert "matrix" not in listed[0]


def test_another_version_is_served_and_raw_vectors_again(metrics: CatalogueMetrics) -> None:
    first, second = fitted_version(metrics), fitted_version(metrics)
    for version in (first, NONE, second):
        metrics.serve(version)
        assert metrics.current().version == version
        # A choice counts as a fit: nothing else is served until the catalogue has changed.
        assert metrics.changed_share() < CHANGED_SHARE
    assert len(metrics.versions()) == 2


def test_a_dry_run_leaves_the_database_as_it_is(
    metrics: CatalogueMetrics, database: Database[Document]
) -> None:
    found = metrics.fit(quietly, dry_run=True)
    assert found.metric is not None
    assert database[METRICS].count_documents({}) == 0
    assert metrics.current().fitted is None


def test_too_few_views_leave_raw_vectors_and_are_not_tried_again(
    metrics: CatalogueMetrics, store: Store
) -> None:
    fitted_version(metrics)
    store.products.delete_many({"_id": {"$gte": "p010"}})
    store.embeddings.delete_many({"product_id": {"$gte": "p010"}})
    found = metrics.fit(quietly)
    assert found.metric is None
    assert "10 products with several views" in found.reason
    assert metrics.current().version == NONE
    assert metrics.changed_share() == 0


# --- what has changed -------------------------------------------------------------------------


def test_a_growing_first_catalogue_has_no_share_that_stands_still(store: Store) -> None:
    metrics, shares = CatalogueMetrics(store, BUNDLE), []
    for start in (0, 5):
        store_products(store, noisy_products(5, VIEWS, DIM), BUNDLE, start)
        shares.append(metrics.changed_share())
    assert CHANGED_SHARE <= shares[0] < shares[1]


def test_new_and_deleted_products_and_views_count_as_changes(
    metrics: CatalogueMetrics, store: Store
) -> None:
    fitted_version(metrics)
    assert metrics.changed_share() == 0
    store_products(store, noisy_products(5, VIEWS, DIM, seed=4), BUNDLE, start=PRODUCTS)
    assert metrics.changed_share() == pytest.approx(5 / PRODUCTS)

    # As many go as came: their number is the same, and a fifth of the catalogue is another.
    gone = [f"p{number:03}" for number in range(5)]
    store.products.delete_many({"_id": {"$in": gone}})
    store.embeddings.delete_many({"product_id": {"$in": gone}})
    assert metrics.changed_share() == pytest.approx(10 / PRODUCTS)
    assert metrics.changed_share() >= CHANGED_SHARE

    fitted_version(metrics)
    assert metrics.changed_share() == 0


def test_more_views_of_the_same_products_count_too(metrics: CatalogueMetrics, store: Store) -> None:
    fitted_version(metrics)
    (extra,) = noisy_products(1, 100, DIM, seed=5)
    store_products(store, [extra], BUNDLE, start=900)
    store.products.delete_one({"_id": "p900"})
    assert metrics.changed_share() >= 100 / (PRODUCTS * VIEWS)


# --- the lease --------------------------------------------------------------------------------


def test_of_two_fits_at_once_one_is_refused_and_changes_nothing(metrics: CatalogueMetrics) -> None:
    refusals: list[str] = []

    def meanwhile(_: int) -> None:
        if not refusals:
            with pytest.raises(ConflictError) as refused:
                metrics.fit(quietly)
            refusals.append(str(refused.value))

    found = metrics.fit(meanwhile)
    assert found.metric is not None
    assert "a metric is being fitted" in refusals[0]
    assert [item["_id"] for item in metrics.versions()] == [found.metric.version]
    assert metrics.current().version == found.metric.version
    # The lease has ended with it.
    fitted_version(metrics)


def test_what_is_chosen_during_a_fit_stays_chosen(metrics: CatalogueMetrics) -> None:
    first = fitted_version(metrics)
    found = metrics.fit(lambda _: metrics.serve(NONE))
    assert found.metric is not None
    assert metrics.current().version == NONE
    assert [item["_id"] for item in metrics.versions()] == [found.metric.version, first]


def test_old_versions_go_but_for_the_one_that_is_served(
    metrics: CatalogueMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_VERSIONS", 2)
    first = fitted_version(metrics)
    others = [metric_fitted_beside(metrics, first) for _ in range(3)]
    assert [item["_id"] for item in metrics.versions()] == [*reversed(others[-2:]), first]
    metrics.serve(NONE)
    others.append(fitted_version(metrics))
    assert [item["_id"] for item in metrics.versions()] == [*reversed(others[-2:])]


def metric_fitted_beside(metrics: CatalogueMetrics, served: str) -> str:
    """The version of a fit during which another one is chosen."""
    found = metrics.fit(lambda _: metrics.serve(served))
    assert found.metric is not None
    return found.metric.version


def test_a_fit_that_fails_lets_the_next_one_begin(metrics: CatalogueMetrics) -> None:
    def failing(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        metrics.fit(failing)
    assert metrics.current().fitted is None
    fitted_version(metrics)


def test_the_lease_of_a_server_that_died_ends_by_itself(
    metrics: CatalogueMetrics, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted_version(metrics)
    for until, refused in ((LEASE / 2, True), (-LEASE / 2, False)):
        lease = {"by": "dead", "until": datetime.now(UTC) + until}
        key = {"_id": current_document(database)["_id"]}
        database[METRICS].update_one(key, {"$set": {"fitting": lease}})
        if refused:
            with pytest.raises(ConflictError):
                metrics.fit(quietly)
            # Choosing a version takes no lease.
            metrics.serve(NONE)
        else:
            version = fitted_version(metrics)
            assert metrics.current().version == version
            assert "fitting" not in current_document(database)


# --- what cannot be served ---------------------------------------------------------------------


def test_versions_that_there_are_not_are_refused_with_what_to_do(
    metrics: CatalogueMetrics, store: Store
) -> None:
    version = fitted_version(metrics)
    with pytest.raises(SetupError, match=r"no metric 'nowhere'.*LIST=yes"):
        metrics.serve("nowhere")
    with pytest.raises(SetupError, match="no metric"):
        metrics.serve(f"current-{BUNDLE.fingerprint}")
    other = CatalogueMetrics(store, replace(BUNDLE, fingerprint="f" * 16))
    with pytest.raises(SetupError, match="no metric"):
        other.serve(version)
    assert other.versions() == []
    assert other.current().version == NONE
    assert metrics.current().version == version


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("matrix", Binary(b"no vector")),
        ("dimensions", 3),
        ("dimensions", "many"),
        ("spread", None),
        ("spread", float("nan")),
        ("spread", 0.0),
        ("centre", 5),
    ],
)
def test_a_damaged_version_is_refused(
    metrics: CatalogueMetrics, database: Database[Document], name: str, value: Any
) -> None:
    version = fitted_version(metrics)
    database[METRICS].update_one({"_id": version}, {"$set": {name: value}})
    with pytest.raises(SetupError, match=f"metric '{version}' is damaged"):
        metrics.read(version)


# --- which views are taken ----------------------------------------------------------------------


def test_damaged_views_and_those_of_other_bundles_are_left_out(
    metrics: CatalogueMetrics, store: Store
) -> None:
    store.embeddings.update_one({"product_id": "p000", "kind": "image"}, {"$set": {"vector": 1}})
    store.embeddings.update_many(
        {"product_id": "p001", "kind": "image"}, {"$set": {"fingerprint": "f" * 16}}
    )
    # Left behind by a write that never counted.
    store.embeddings.update_many({"product_id": "p002"}, {"$set": {"write_id": "other"}})
    store.products.insert_one({"_id": 5, "name": "put there by hand"})
    found = metrics.fit(quietly)
    assert (found.products, found.views) == (PRODUCTS - 2, (PRODUCTS - 2) * VIEWS - 1)
    assert found.metric is not None


def test_of_a_large_catalogue_a_part_is_taken(
    metrics: CatalogueMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VIEWS", PRODUCTS * VIEWS * 4 // 5)
    found = metrics.fit(quietly)
    assert 0.5 * PRODUCTS < found.products < PRODUCTS
    assert found.metric is not None


def test_choosing_takes_a_bounded_sample_of_whole_products(
    metrics: CatalogueMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[int] = []

    def chosen(scatter: Any, sample: list[Any], version: str) -> Fit:
        samples.append(sum(map(len, sample)))
        assert all(len(views) == VIEWS for views in sample)
        return Fit(None, "nothing is chosen here", (), scatter.products, scatter.views)

    monkeypatch.setattr(module, "fit", chosen)
    monkeypatch.setattr(fitting, "CHOOSING_VIEWS", 8 * VIEWS + 1)
    assert metrics.fit(quietly).products == PRODUCTS
    assert samples == [8 * VIEWS]
