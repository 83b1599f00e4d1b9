"""Made-up catalogues lie as real ones do, and a large one is searched nearly as well as exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loadtest import catalogue_scale
from loadtest.catalogue_scale import fitted_metric, main, measured_size
from loadtest.synthetic_catalogue import (
    RealCatalogue,
    SyntheticCatalogue,
    real_catalogue,
    spread,
)

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def real() -> RealCatalogue:
    return real_catalogue(PROJECT / "model_repository", PROJECT / "seed" / "sample")


def test_made_up_views_lie_as_those_of_the_real_products_do(real: RealCatalogue) -> None:
    (products,) = SyntheticCatalogue(real).products(len(real.images), block=10_000)
    assert len(products) == len(real.images) // 3
    images = np.concatenate([product.image_vectors for product in products])
    owners = np.repeat(np.arange(len(products)), 3)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    made, found = spread(images, owners), spread(real.images, real.owners)
    assert made["same_product"] == pytest.approx(found["same_product"], abs=0.05)
    assert made["nearest_other"] == pytest.approx(found["nearest_other"], abs=0.12)
    assert made["dimension"] == pytest.approx(found["dimension"], rel=0.35)
    # No easier than real: the nearest view does not stand out more.
    assert 0.1 * found["gap"] < made["gap"] < 1.2 * found["gap"]


def test_a_catalogue_is_the_same_every_time(real: RealCatalogue) -> None:
    first, again = (
        [item for block in SyntheticCatalogue(real).products(90, block=7) for item in block]
        for _ in range(2)
    )
    assert len(first) == 30
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image_vectors, other.image_vectors)
        assert one.fields == other.fields


@pytest.mark.parametrize("projected", [False, True], ids=["raw", "with the metric"])
def test_candidate_lists_find_what_exact_search_finds_among_30_000_views(
    real: RealCatalogue, monkeypatch: pytest.MonkeyPatch, projected: bool
) -> None:
    monkeypatch.setattr(catalogue_scale, "MIN_SECONDS", 0.05)
    metric = fitted_metric(real) if projected else None
    row = measured_size(30_000, real, flat_rows=8_000, metric=metric)
    assert row["views"] == 30_000
    # Texts may be just enough for lists of their own, of another number.
    kinds = row["type"]
    assert (kinds if isinstance(kinds, str) else kinds["image"]) == "IVF256,SQ8"
    for kind, recall in row["recall_at_10"].items():
        assert recall >= 0.98, kind


def test_the_report_says_what_each_kind_of_query_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_scale, "MIN_SECONDS", 0.01)
    report = tmp_path / "reports" / "scale.json"
    assert main(["--sizes", "600", "--report", str(report)]) == 0
    written = json.loads(report.read_text())
    for (row,) in (written["sizes"], written["metric"]):
        assert row["type"] == "Flat"
        assert set(row["recall_at_10"]) == set(row["ms_per_query"]) == set(row["flat_ms_per_query"])
        assert set(row["recall_at_10"].values()) == {1.0}
    printed = capsys.readouterr().out
    for words in ("recall@10", "bytes/view", "both, filter keeps 1%", "vectors: metric"):
        assert words in printed
