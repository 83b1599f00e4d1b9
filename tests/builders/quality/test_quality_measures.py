"""The measures of congruence, on vectors whose answers are known."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bls_models.errors import SetupError
from bls_models.images.preprocessing import Preprocess
from bls_models.specs import IMAGE_ENCODER
from bls_models.vectors import FloatArray
from builders.commands.quality import main
from builders.graphs.calibration import Feed
from builders.quality.congruence import EncoderQuality, measure_encoder, shortfalls
from builders.quality.metrics import Retrieval, Vectors, cosines, ranked_products, retrieval
from builders.quality.report import report_from_rows, table_from_rows
from builders.quality.runners import Latency, Runner, alternating_latencies
from builders.quality.sets import RetrievalSet, photo_set_from_dataset

AXES = np.eye(4, dtype=np.float32)


class Turned:
    """A runner whose vectors are the feed's, turned by an angle in the plane of axes 0 and 1."""

    backend = "numpy"
    size = 3_000_000

    def __init__(self, precision: str, degrees: float) -> None:
        self.precision = precision
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        self._turn = AXES.copy()
        self._turn[:2, :2] = [[cos, sin], [-sin, cos]]

    def encode(self, feed: Feed) -> FloatArray:
        vectors: FloatArray = feed["image"] @ self._turn
        return vectors


def retrieval_set(name: str) -> RetrievalSet:
    """Four products, one on each axis; each is searched by its own vector."""
    ids = ["a", "b", "c", "d"]

    def feeds() -> list[Feed]:
        return [{"image": AXES[:3]}, {"image": AXES[3:]}]

    return RetrievalSet(name, feeds, ids, feeds, ids)


def test_cosines_are_those_of_unit_vectors() -> None:
    np.testing.assert_allclose(cosines(AXES[:2], AXES[[0, 2]]), [1, 0])


def test_a_products_rank_is_that_of_its_best_view() -> None:
    catalogue = np.array([[0, 1], [1, 0], [0.6, 0.8]], np.float32)
    queries = np.array([[1, 0], [0, 1]], np.float32)
    found = ranked_products(queries, catalogue, ["a", "a", "b"])
    assert found.tolist() == [["a", "b"], ["a", "b"]]
    assert ranked_products(queries, catalogue, ["a", "b", "a"]).tolist() == [["b", "a"], ["a", "b"]]


def test_no_more_than_ten_products_are_ranked() -> None:
    catalogue = np.eye(12, dtype=np.float32)
    assert ranked_products(catalogue, catalogue, [str(n) for n in range(12)]).shape == (12, 10)


def test_retrieval_compares_with_the_truth_and_with_the_reference() -> None:
    ids = ["a", "b", "c", "d"]
    right = Vectors(AXES, AXES)
    swapped = Vectors(AXES, AXES[[1, 0, 2, 3]])
    assert retrieval(right, right, ids, ids) == Retrieval(1, 1, 1, 1)
    assert retrieval(swapped, right, ids, ids) == Retrieval(0.5, 0.5, 1, 0.5)
    moved = Vectors(AXES[[1, 0, 2, 3]], AXES[[1, 0, 2, 3]])
    assert retrieval(moved, right, ids, ids) == Retrieval(1, 1, 1, 0.5)


@pytest.fixture(scope="module")
def rows() -> list[EncoderQuality]:
    runners: list[Runner] = [Turned("torch", 0), Turned("fp32", 0), Turned("int8", 8)]
    return measure_encoder(
        IMAGE_ENCODER,
        runners,
        retrieval_set("sample photos"),
        [retrieval_set("shop")],
        [{"image": AXES[:1]}, {"image": AXES}],
        2,
        lambda _: None,
    )


def test_each_runner_is_measured_against_the_original_and_fp32(rows: list[EncoderQuality]) -> None:
    original, fp32, int8 = rows
    assert (fp32.cosine_mean, fp32.cosine_min) == pytest.approx((1, 1))
    assert int8.cosine_min == pytest.approx(np.cos(np.radians(8)), abs=1e-6)
    assert int8.cosine_mean == pytest.approx((1 + np.cos(np.radians(8))) / 2, abs=1e-6)
    assert list(original.retrieval) == ["sample photos"]
    assert list(int8.retrieval) == ["sample photos", "shop"]
    assert list(int8.latency) == [1, 4]
    assert fp32.latency[4].ratio == 1
    assert original.latency == {}


def test_latencies_are_per_item_and_relative_to_the_reference() -> None:
    runners = [Turned("fp32", 0), Turned("int8", 0)]
    first, second = alternating_latencies(runners, {"image": AXES}, rounds=3, reference=0)
    assert first.ratio == 1
    assert min(first.ms_per_item, second.ms_per_item) > 0


def with_retrieval(row: EncoderQuality, name: str, item: Retrieval) -> EncoderQuality:
    return replace(row, retrieval=row.retrieval | {name: item})


def test_vectors_that_find_the_same_have_no_shortfall(rows: list[EncoderQuality]) -> None:
    assert shortfalls(rows) == []


@pytest.mark.parametrize(
    ("place", "item", "message"),
    [
        ("sample photos", Retrieval(1, 0.94, 1, 1), "agrees with fp32 on 94.0% of the first"),
        ("sample photos", Retrieval(0.99, 1, 1, 1), r"loses 1\.00 points .* on sample photos"),
        ("shop", Retrieval(0.99, 1, 1, 1), r"loses 1\.00 points of top-1 accuracy on shop"),
    ],
)
def test_a_shortfall_is_said_in_words(
    rows: list[EncoderQuality], place: str, item: Retrieval, message: str
) -> None:
    (problem,) = shortfalls([*rows[:2], with_retrieval(rows[2], place, item)])
    assert problem.startswith("image_encoder int8 ")
    assert re.search(message, problem)


def test_near_ties_on_a_data_set_are_no_shortfall(rows: list[EncoderQuality]) -> None:
    tied = with_retrieval(rows[2], "shop", Retrieval(1, 0.8, 1, 1))
    assert shortfalls([*rows[:2], tied]) == []


def test_the_table_has_a_line_a_runner_and_the_report_every_number(
    rows: list[EncoderQuality],
) -> None:
    rows = [replace(row, latency={1: Latency(1.5, 0.5)}) for row in rows]
    stream = io.StringIO()
    Console(file=stream, width=200).print(table_from_rows(rows))
    text = stream.getvalue()
    for words in ("numpy", "torch", "int8", "sample photos", "shop", "same 10", "0.9951"):
        assert words in text
    report = json.loads(json.dumps(report_from_rows("mini", "f" * 16, {"cores": 2}, rows, [])))
    assert report["rows"][2]["retrieval"]["shop"]["top1_accuracy"] == 1
    assert report["rows"][2]["latency"] == {"batch_1": {"ms_per_item": 1.5, "ratio_to_fp32": 0.5}}
    assert report["rows"][2]["bytes"] == 3_000_000


def test_a_data_sets_lists_give_the_catalogue_and_the_queries(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "train.txt").write_text("one.png, 7, 1\n")
    (tmp_path / "val.txt").write_text("two.png, 7, 1\n")
    photos = photo_set_from_dataset(tmp_path, Preprocess(8, "pad"))
    assert (photos.name, photos.catalogue_ids, photos.query_ids) == (tmp_path.name, ["7"], ["7"])
    assert [feed["image"].shape for feed in photos.queries()] == [(1, 8, 8, 3)]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, "does not exist; give a folder with train.txt and val.txt"),
        ("", "names no pictures"),
        ("none.png, 1, 1", "line 1: .* names no picture with a class"),
    ],
)
def test_a_wrong_data_set_is_refused(tmp_path: Path, train: str | None, message: str) -> None:
    if train is not None:
        (tmp_path / "train.txt").write_text(train)
    with pytest.raises(SetupError, match=message):
        photo_set_from_dataset(tmp_path, Preprocess(8, "pad"))


def test_the_command_refuses_what_it_cannot_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "quality.json"
    assert main(["--bundle", "nope", "--output", str(output)]) == 1
    assert "error: no bundle 'nope'" in capsys.readouterr().err
    assert main(["--calibration-texts", str(tmp_path / "none.txt"), "--output", str(output)]) == 1
    assert "none.txt cannot be read as UTF-8 text" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.nightly
def test_the_command_builds_measures_and_writes_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "reports" / "quality.json"
    arguments = ["--repository", str(tmp_path / "models"), "--output", str(output)]
    assert main([*arguments, "--rounds", "1"]) == 0
    shown = capsys.readouterr().out
    assert "image_encoder" in shown
    assert "openvino" in shown
    report = json.loads(output.read_text())
    assert report["bundle"] == "mini"
    assert report["shortfalls"] == []
    names = [(row["model"], row["precision"]) for row in report["rows"]]
    precisions = ("torch", "fp32", "fp16", "int8")
    assert names == [
        (model, precision)
        for model in ("image_encoder", "text_encoder")
        for precision in precisions
    ]
