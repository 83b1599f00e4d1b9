"""The index is made for the metric that is served, and gives way to one for another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from follower_support import Shop
from metric_support import metric
from serving_support import SMALL_BUNDLE, WAIT_SECONDS, blocks, image_vector, picture, wait_for

from bls_models import watchdog
from bls_models.errors import DatabaseError, IndexUnavailableError
from bls_models.images.preprocessing import prepare_pixels
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.metric.catalogue import NONE, CatalogueMetrics, Current
from bls_models.metric.fitting import Fit
from bls_models.metric.metric import Metric
from bls_models.replication import generation
from bls_models.replication.index_generation import IndexGeneration
from bls_models.replication.index_host import IndexHost
from bls_models.settings import Settings
from bls_models.telemetry.metrics import INDEX_FOLLOWING, Metrics, MetricSpec
from bls_models.vectors import FloatArray

DIM = 10


class KeptMetrics(Metrics):
    """Remembers gauges."""

    def __init__(self) -> None:
        self.kept: dict[MetricSpec, float] = {}

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        self.kept[spec] = value


def serve(shop: Shop, one: Metric) -> None:
    catalogue = CatalogueMetrics(shop.store, SMALL_BUNDLE)
    catalogue.add(Fit(one, "", (), 1, 1))
    catalogue.serve(one.version)


def vector_of(number: int) -> FloatArray:
    return image_vector(prepare_pixels(np.asarray(blocks(number)), SMALL_BUNDLE.preprocess))


def query_of(number: int) -> IndexQuery:
    return IndexQuery(
        vector_of(number)[np.newaxis],
        np.ones(1, np.float32),
        np.zeros((0, SMALL_BUNDLE.text_dim), np.float32),
        np.zeros(0, np.float32),
        top_k=10,
    )


def last(host: IndexHost, number: int, raw: bool = False) -> tuple[IndexMatch, dict[str, Any]]:
    (answer,), about = host.search([replace(query_of(number), raw=raw)])
    return answer.matches[-1], about


def expected(one: Metric | None, first: int, second: int) -> float:
    """The score of one picture for another."""
    vectors = np.stack([vector_of(first), vector_of(second)])
    if one is None:
        return float(vectors[0] @ vectors[1])
    return max(-1.0, float(one.queries(vectors)[0] @ one.rows(vectors)[1]))


@pytest.fixture
def two(shop: Shop) -> Shop:
    for number in (0, 1):
        shop.put(number, picture(number))
    return shop


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    folder = str(tmp_path / "snapshots")
    return settings.model_copy(update={"snapshot_folder": folder, "metric": "manual"})


@pytest.fixture
def host(two: Shop, own: Settings) -> Iterator[IndexHost]:
    host = IndexHost(own, SMALL_BUNDLE, two.database, keeps_raw=True)
    host.start(WAIT_SECONDS)
    yield host
    host.close()


def names(host: IndexHost, version: str) -> None:
    wait_for(lambda: last(host, 0)[1]["metric"] == version, f"metric {version} serves")


def test_what_is_named_in_the_database_is_served_and_can_be_taken_back(
    two: Shop, host: IndexHost
) -> None:
    match, about = last(host, 0)
    assert about["metric"] == NONE
    assert match.score == pytest.approx(expected(None, 0, 1), abs=1e-5)
    first, second = metric("first"), metric("second", 1)
    for one in (first, second):
        serve(two, one)
        names(host, one.version)
        match, about = last(host, 0)
        assert match.score == pytest.approx(expected(one, 0, 1), abs=1e-5)
        assert about["products"] == 2
    # Changes reach the index that serves now.
    two.put(2, picture(2))
    wait_for(lambda: last(host, 0)[1]["products"] == 3, "the change is seen")
    CatalogueMetrics(two.store, SMALL_BUNDLE).serve("first")
    names(host, "first")
    assert last(host, 0)[1]["products"] == 3


def test_searches_go_on_while_another_index_is_built(two: Shop, host: IndexHost) -> None:
    one = metric("first")
    scores = {NONE: expected(None, 0, 1), "first": expected(one, 0, 1)}

    def served() -> str:
        match, about = last(host, 0)
        # Rows and queries are of one metric.
        assert match.score == pytest.approx(scores[about["metric"]], abs=1e-5)
        return str(about["metric"])

    assert served() == NONE
    serve(two, one)
    wait_for(lambda: served() == "first", "the metric serves")


def test_raw_vectors_can_be_asked_for_beside_a_metric(two: Shop, host: IndexHost) -> None:
    one = metric("first")
    serve(two, one)
    names(host, "first")
    assert last(host, 0, raw=True)[0].score == pytest.approx(expected(None, 0, 1), abs=1e-5)
    both_are_right(host, one)
    # Back to raw vectors it is the same index for all, and with another metric again two.
    CatalogueMetrics(two.store, SMALL_BUNDLE).serve(NONE)
    names(host, NONE)
    assert last(host, 0, raw=True)[0].score == pytest.approx(expected(None, 0, 1), abs=1e-5)
    two.put(2, picture(2))
    wait_for(lambda: last(host, 0)[1]["products"] == 3, "the change is seen")
    two.delete(2)
    serve(two, metric("second", 1))
    names(host, "second")
    wait_for(lambda: last(host, 0)[1]["products"] == 2, "the change is seen")
    both_are_right(host, metric("second", 1))


def both_are_right(host: IndexHost, one: Metric) -> None:
    """One call may ask for both."""
    plain = query_of(0)
    answers, about = host.search([replace(plain, raw=True), plain])
    assert about["metric"] == one.version
    assert [answer.matches[-1].score for answer in answers] == pytest.approx(
        [expected(None, 0, 1), expected(one, 0, 1)], abs=1e-5
    )


def test_a_server_that_starts_is_loaded_when_both_indexes_are(two: Shop, own: Settings) -> None:
    one = metric("first")
    serve(two, one)
    with closing(IndexHost(own, SMALL_BUNDLE, two.database, keeps_raw=True)) as host:
        host.start(0.0)

        def answers() -> bool:
            try:
                both_are_right(host, one)
            except IndexUnavailableError:
                return False
            return True

        wait_for(answers, "both are loaded")


def test_an_index_that_cannot_be_loaded_leaves_nothing_behind(
    two: Shop, host: IndexHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()
    tried: list[IndexGeneration] = []

    class Failing(IndexGeneration):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            tried.append(self)
            self.follower.wait_loaded = self.fail  # type: ignore[method-assign]

        @staticmethod
        def fail(seconds: float) -> bool:
            raise DatabaseError("away")

    monkeypatch.setattr(generation, "IndexGeneration", Failing)
    serve(two, metric("first"))
    wait_for(lambda: len(tried) > 2, "it is tried again and again")
    assert last(host, 0)[1]["metric"] == NONE
    monkeypatch.undo()
    names(host, "first")
    # The one of raw vectors is still there, for those who ask for it.
    wait_for(lambda: threading.active_count() <= before + 4, "the others have ended")


def test_a_database_that_is_away_at_the_start_is_told_of(
    two: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: CatalogueMetrics) -> Current:
        raise DatabaseError("nobody is there")

    monkeypatch.setattr(CatalogueMetrics, "current", away)
    metrics = KeptMetrics()
    with closing(IndexHost(own, SMALL_BUNDLE, two.database, metrics)) as host:
        host.start(0.0)
        assert metrics.kept[INDEX_FOLLOWING] == 0
        with pytest.raises(IndexUnavailableError, match="not loaded yet: "):
            last(host, 0)
        monkeypatch.undo()
        host.start(WAIT_SECONDS)
        assert last(host, 0)[1]["metric"] == NONE


def test_who_follows_the_database_does_not_stand_in_for_work_that_hangs(
    host: IndexHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    current = CatalogueMetrics.current

    def noted(catalogue: CatalogueMetrics) -> Current:
        found = current(catalogue)
        looked.set()
        return found

    with watchdog.watched():
        (moved,) = watchdog._moved.values()
        monkeypatch.setattr(CatalogueMetrics, "current", noted)
        assert looked.wait(WAIT_SECONDS)
        assert list(watchdog._moved.values()) == [moved]


def test_a_server_may_keep_to_raw_vectors(two: Shop, own: Settings) -> None:
    serve(two, metric("first"))
    raw = own.model_copy(update={"metric": NONE})
    with closing(IndexHost(raw, SMALL_BUNDLE, two.database)) as host:
        host.start(WAIT_SECONDS)
        assert last(host, 0)[1]["metric"] == NONE


def test_a_snapshot_is_of_one_metric(
    two: Shop, own: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    serve(two, metric("first"))
    for version, line in (
        ("first", ""),
        ("first", "the index took 2 products from a snapshot"),
        ("second", "it is of metric first, not of second"),
        ("second", "the index took 2 products from a snapshot"),
    ):
        if version == "second" and "second" not in {
            item["_id"] for item in CatalogueMetrics(two.store, SMALL_BUNDLE).versions()
        }:
            serve(two, metric("second", 1))
        caplog.clear()
        host = IndexHost(own, SMALL_BUNDLE, two.database)
        with caplog.at_level("INFO"), closing(host):
            host.start(WAIT_SECONDS)
            assert last(host, 0)[1]["metric"] == version
        assert line in caplog.text


def test_a_metric_that_is_not_there_leaves_the_one_that_serves(
    two: Shop, host: IndexHost, caplog: pytest.LogCaptureFixture
) -> None:
    serve(two, metric("first"))
    names(host, "first")
    two.database["metrics"].delete_one({"_id": "first"})
    two.database["metrics"].update_one(
        {"_id": f"current-{SMALL_BUNDLE.fingerprint}"}, {"$set": {"version": "lost"}}
    )
    wait_for(lambda: "there is no metric 'lost'" in caplog.text, "it is told of")
    assert last(host, 0)[1]["metric"] == "first"
