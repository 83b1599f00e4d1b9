"""The measurement behind the threshold of near duplicates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from serving_support import REPOSITORY, SAMPLE, unit

from bls_models.bundle import Bundle
from builders.catalogue import read_catalogue
from builders.commands.duplicate_threshold import (
    COPIES,
    PictureEncoder,
    main,
    measured,
    nearest_of_others,
    shares_above,
)


def test_the_nearest_picture_of_another_product_counts_and_not_one_of_its_own() -> None:
    vectors = unit(np.array([[1, 0], [1, 0.01], [0, 1], [1, 1]], np.float32))
    nearest = nearest_of_others(vectors, ["a", "a", "b", "c"])
    np.testing.assert_allclose(nearest[[0, 2, 3]], [0.70711, 0.70711, 0.71414], atol=1e-4)


def test_a_share_is_of_those_that_reach_the_threshold() -> None:
    shares = shares_above(np.array([0.9, 0.95, 0.96, 1.0], np.float32))
    assert (shares["0.92"], shares["0.95"], shares["0.99"]) == (0.75, 0.75, 0.25)


def test_copies_reach_what_pictures_of_other_products_do_not(bundle: Bundle) -> None:
    pictures = [
        (item.images[0], str(item.product["product_id"])) for item in read_catalogue(SAMPLE)[::6]
    ]
    found = measured(PictureEncoder(REPOSITORY), pictures, lambda what: None)
    assert set(found) == {"another", *COPIES}
    assert found["another"]["0.95"] == 0
    assert found["JPEG 75"]["0.95"] == 1


def test_a_data_set_that_is_not_there_is_one_sentence(
    tmp_path: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert main(["--dataset", str(tmp_path), "--report", str(report)]) == 1
    assert "train.txt does not exist" in capsys.readouterr().err
    assert not report.exists()


def test_the_report_has_every_set(tmp_path: Path, bundle: Bundle) -> None:
    first = read_catalogue(SAMPLE)[0].images[0]
    (tmp_path / "products.jsonl").write_text(
        "".join(
            json.dumps({"product_id": key, "name": key, "category": "c", "images": [str(first)],
                        "queries": []}) + "\n"
            for key in "ab"
        )
    )  # fmt: skip
    report = tmp_path / "report.json"
    assert main(["--catalog", str(tmp_path), "--report", str(report)]) == 0
    (shares,) = json.loads(report.read_text()).values()
    assert shares["another"]["0.99"] == 1, "two products with one picture"
