"""The mini bundle's encoders: torch, FP32, FP16 and INT8 graphs find the same products.

``make quality DATASET=folder`` compares them on real photos, too.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from serving_support import REPOSITORY

from bls_models.bundle import TOKENIZER_FILE, Bundle
from bls_models.specs import IMAGE_ENCODER, TEXT_ENCODER, ModelSpec
from bls_models.vectors import FloatArray
from builders.bundle.graphs import BundleGraphs, GraphInputs
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.config import read_bundle_config
from builders.graphs.calibration import (
    Feed,
    calibration_from_catalogue,
    image_calibration,
    text_calibration,
)
from builders.graphs.checks import check_graph_for_tensorrt
from builders.graphs.precisions import PRECISIONS, graphs_folder
from builders.quality.congruence import EncoderQuality, measure_encoder, shortfalls
from builders.quality.runners import Runner, TorchRunner, graph_runner
from builders.quality.sets import (
    photo_set_from_catalogue,
    text_set_from_catalogue,
)

CONFIG = read_bundle_config("mini")

# Cosine to torch, mean and least, over all pictures and texts of the sample catalogue.
COSINES = {
    ("image_encoder", "fp32"): (0.99999, 0.99999),
    ("image_encoder", "fp16"): (0.9999, 0.9998),
    ("image_encoder", "int8"): (0.997, 0.993),
    ("text_encoder", "fp32"): (0.99999, 0.99999),
    ("text_encoder", "fp16"): (0.9999, 0.9999),
    ("text_encoder", "int8"): (0.996, 0.992),
}
ROWS = [(model, precision) for model, precision in COSINES if precision != "fp32"]

Rows = dict[tuple[str, str], EncoderQuality]


@pytest.fixture(scope="module")
def graphs(bundle: Bundle) -> BundleGraphs:
    """The built graphs; what is missing is made."""
    return BundleGraphs(
        graphs_folder(REPOSITORY), CONFIG, GraphInputs(bundle.preprocess, tokenizer_json()), print
    )


@pytest.fixture(scope="module")
def image_runners(graphs: BundleGraphs) -> list[Runner]:
    from builders.encoders.image import image_encoder_from_config

    module = image_encoder_from_config(CONFIG.image_encoder)
    return [TorchRunner(module, IMAGE_ENCODER), *graph_runners(graphs, IMAGE_ENCODER)]


@pytest.fixture(scope="module")
def text_runners(graphs: BundleGraphs) -> list[Runner]:
    from builders.encoders.text import text_encoder_from_config

    module = text_encoder_from_config(CONFIG.text_encoder)
    return [TorchRunner(module, TEXT_ENCODER), *graph_runners(graphs, TEXT_ENCODER)]


def tokenizer_json() -> str:
    return (REPOSITORY / TOKENIZER_FILE).read_text(encoding="utf-8")


def graph_runners(graphs: BundleGraphs, spec: ModelSpec) -> list[Runner]:
    return [graph_runner(graphs.path(spec.name, name), spec, name) for name in PRECISIONS]


@pytest.fixture(scope="module")
def rows(bundle: Bundle, image_runners: list[Runner], text_runners: list[Runner]) -> Rows:
    products = read_catalogue(SAMPLE_CATALOGUE)
    photos = photo_set_from_catalogue(products, bundle.preprocess)
    words = text_set_from_catalogue(products, tokenizer_json())
    measured = [
        *measure_encoder(IMAGE_ENCODER, image_runners, photos, [], [], 1, print),
        *measure_encoder(TEXT_ENCODER, text_runners, words, [], [], 1, print),
    ]
    return {(row.model, row.precision): row for row in measured}


@pytest.mark.parametrize(("model", "precision"), COSINES)
def test_vectors_are_near_the_originals(rows: Rows, model: str, precision: str) -> None:
    row = rows[model, precision]
    mean, least = COSINES[model, precision]
    assert row.cosine_mean >= mean
    assert row.cosine_min >= least


@pytest.mark.parametrize(("model", "precision"), ROWS)
def test_accuracy_and_first_matches_are_those_of_fp32(
    rows: Rows, model: str, precision: str
) -> None:
    assert shortfalls([rows[model, "fp32"], rows[model, precision]]) == []


@pytest.mark.parametrize(("model", "precision"), ROWS)
def test_vectors_of_two_precisions_can_be_mixed(rows: Rows, model: str, precision: str) -> None:
    (own,), (usual,) = (rows[model, name].retrieval.values() for name in (precision, "fp32"))
    assert own.mixed_top1_accuracy >= usual.top1_accuracy - 0.005


@pytest.mark.parametrize("model", ["image_encoder", "text_encoder"])
def test_quantised_graphs_are_smaller_and_fit_for_tensorrt(
    rows: Rows, graphs: BundleGraphs, model: str
) -> None:
    sizes = [rows[model, precision].size for precision in PRECISIONS]
    assert sizes[1] < 0.55 * sizes[0]
    assert sizes[2] < 0.7 * sizes[0]
    for precision in PRECISIONS:
        check_graph_for_tensorrt(graphs.path(model, precision))


@pytest.mark.parametrize(
    ("model", "runners"),
    [("image_encoder", "image_runners"), ("text_encoder", "text_runners")],
)
def test_fp16_holds_where_every_operator_rounds_to_fp16(
    bundle: Bundle, graphs: BundleGraphs, request: pytest.FixtureRequest, model: str, runners: str
) -> None:
    """OpenVINO computes in FP32 here and would hide an overflow; onnxruntime rounds as it goes."""
    import onnxruntime

    path = graphs.path(model, "fp16")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    original = request.getfixturevalue(runners)[0]
    data = calibration_from_catalogue(samples=8)
    feeds: Iterable[Feed] = (
        image_calibration(data.pictures, bundle.preprocess).feeds()
        if model == IMAGE_ENCODER.name
        else text_calibration(data.texts, tokenizer_json()).feeds()
    )
    for feed in feeds:
        (vectors,) = session.run(None, feed)
        near: FloatArray = (vectors * original.encode(feed)).sum(axis=1)
        assert np.isfinite(vectors).all()
        assert near.min() > 0.999
