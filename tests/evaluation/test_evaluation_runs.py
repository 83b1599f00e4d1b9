"""Evaluations of the real bundle: in this process, through the server, and on real photos."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from serving_support import REPOSITORY, SAMPLE, SampleProduct

from bls_models.bundle import Bundle
from evaluation.__main__ import main
from evaluation.ranking import DirectRanker, Ranking, served_ranker
from evaluation.sets import EvaluationSet, evaluation_set

PRODUCTS = 12


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, sample: list[SampleProduct]) -> Path:
    """A CSV of queries on every sixth sample product, which lie in a folder beside it."""
    folder = tmp_path_factory.mktemp("small")
    chosen = sample[:: len(sample) // PRODUCTS]
    lines = []
    for item in chosen:
        for path in (*item.images, *item.queries):
            place = folder / "catalogue" / path.relative_to(SAMPLE)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        images = [str(path.relative_to(SAMPLE)) for path in item.images]
        lines.append(json.dumps({**item.product, "images": images}))
    (folder / "catalogue" / "products.jsonl").write_text("\n".join(lines))
    with (folder / "queries.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "text", "product_id"])
        for item in chosen:
            photo = Path("catalogue") / item.queries[0].relative_to(SAMPLE)
            writer.writerow([photo, item.product["name"], item.product_id])
    return folder


@pytest.fixture(scope="module")
def content(small: Path) -> EvaluationSet:
    return evaluation_set(small / "queries.csv", small / "catalogue")


def run(tmp_path: Path, *flags: str) -> dict[str, Any]:
    """The report of an evaluation in this process."""
    output = tmp_path / "eval.json"
    assert main(["--direct", "--output", str(output), *flags]) == 0
    report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    with Image.open(output.with_suffix(".png")) as sheet:
        assert sheet.width > 800
    return report


def test_a_csv_of_queries_is_evaluated_by_photo_by_words_and_by_both(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(
        tmp_path, "--dataset", str(small / "queries.csv"), "--catalog", str(small / "catalogue")
    )
    assert report["queries"] == report["kinds"]["both"]["queries"] == PRODUCTS
    assert report["top1"] == report["kinds"]["image"]["top1"] >= 0.9
    assert report["kinds"]["text"]["top1"] >= 0.9
    assert report["path"] == "direct"
    assert f"{PRODUCTS} products with several views" in report["metric"]["reason_for_none"]
    shown = capsys.readouterr().out
    assert f"image: {PRODUCTS} of {PRODUCTS} queries" in shown
    assert "what comes through at a least score of" in shown


@pytest.mark.server
def test_the_server_ranks_as_this_process_does(content: EvaluationSet) -> None:
    direct = DirectRanker(REPOSITORY, content, print)
    with served_ranker(REPOSITORY, content, print) as served:
        for query in content.queries[:6]:
            for image, text in ((query.image, ""), (None, query.text), (query.image, query.text)):
                here, there = direct(image, text), served(image, text)
                assert len(here.product_ids) == len(there.product_ids) == PRODUCTS
                assert here.product_ids[0] == there.product_ids[0]
                # INT8 texts differ a little by what they are padded with in their batch.
                assert by_product(here) == pytest.approx(by_product(there), abs=0.01)


@pytest.mark.server
def test_with_a_metric_both_paths_find_the_products_by_other_scores() -> None:
    content = evaluation_set(None)
    queries = content.queries[::8]
    direct = DirectRanker(REPOSITORY, content, print)
    with served_ranker(REPOSITORY, content, print) as served:
        for ranker in (direct, served):
            before = [ranker(query.image, "") for query in queries]
            assert ranker.fit_metric().metric is not None
            after = [ranker(query.image, "") for query in queries]
            for query, old, new in zip(queries, before, after, strict=True):
                assert new.product_ids[0] in query.product_ids
                assert abs(new.scores[0] - old.scores[0]) > 1e-4


def test_products_are_found_that_the_metrics_fit_did_not_see() -> None:
    content = evaluation_set(None)
    ranker = DirectRanker(REPOSITORY, content, print)
    hidden = frozenset(str(row.product["product_id"]) for row in content.rows[::4])
    fitted = ranker.fit_metric(left_out=hidden)
    assert fitted.products == len(content.rows) - len(hidden)
    asked = [query for query in content.queries if query.product_ids <= hidden]
    right = [ranker(query.image, "").product_ids[0] in query.product_ids for query in asked]
    assert sum(right) >= 0.9 * len(right)


def by_product(ranking: Ranking) -> dict[str, float]:
    return dict(zip(ranking.product_ids, ranking.scores, strict=True))


def test_products_that_are_left_out_of_the_catalogue_find_less_like_photos(
    content: EvaluationSet, sample: list[SampleProduct], bundle: Bundle
) -> None:
    """Photos of other categories, whose products are not in the index, are mostly told apart."""
    mugs = [row for row in content.rows if row.product["category"] == "mug"]
    assert mugs
    ranker = DirectRanker(
        REPOSITORY, EvaluationSet("mugs", tuple(mugs), content.queries, ""), print
    )
    known = {row.product["product_id"] for row in mugs}
    least = bundle.min_scores["image"]
    strange = [
        ranker(item.queries[0], "").scores[0]
        for item in sample
        if item.product["category"] != "mug"
    ]
    right = [ranker(item.queries[0], "").scores[0] for item in sample if item.product_id in known]
    assert min(right) >= least
    assert min(right) > sorted(strange)[round(0.9 * len(strange))]


@pytest.mark.photos
def test_real_photos_find_their_products_as_often_as_the_documentation_says(
    tmp_path: Path,
) -> None:
    report = run(tmp_path, "--dataset", os.environ["QUALITY_DATASET"])
    assert report["queries"] == 296
    assert report["top1"] >= 0.60
    assert report["top5"] >= 0.90
    default = report["kinds"]["image"]["scores"]["default_min_score"]
    assert default["right"] >= 0.99
