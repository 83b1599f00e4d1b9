"""The bundle's captions are the same in every precision, wherever they are sure enough to use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from serving_support import REPOSITORY, ROOT

from bls_models.bundle import TOKENIZER_FILE, Bundle, graph_file
from bls_models.captions.captioner import Caption, Captioner
from bls_models.engines.cpu import CpuEngine, CpuEngines
from bls_models.engines.precisions import int8_support
from bls_models.specs import CAPTION_ENGINE_SPECS, CAPTION_VISION, ModelSpec
from builders.bundle.graphs import BundleGraphs, GraphInputs
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.config import read_bundle_config
from builders.graphs.calibration import image_feeds
from builders.graphs.precisions import graphs_folder
from builders.quality.runners import LiteralRunner

# Shares of the pictures whose captions have exactly FP32's tokens.
MIN_AGREEMENT = 0.95
MIN_AGREEMENT_OF_SURE = 0.99


@pytest.fixture(scope="module")
def graphs(bundle: Bundle) -> BundleGraphs:
    captioner = bundle.require_captioner()
    inputs = GraphInputs(
        bundle.preprocess,
        (REPOSITORY / TOKENIZER_FILE).read_text(encoding="utf-8"),
        captioner.preprocess,
    )
    return BundleGraphs(graphs_folder(REPOSITORY), read_bundle_config(bundle.name), inputs, print)


@pytest.fixture(scope="module")
def pixels(bundle: Bundle) -> npt.NDArray[np.uint8]:
    """A catalogue picture and a held-out photo of every product."""
    captioner = bundle.require_captioner()
    preprocess = captioner.preprocess
    pictures = [
        path
        for product in read_catalogue(SAMPLE_CATALOGUE)
        for path in (*product.images[:1], *product.queries[:1])
    ]
    return np.concatenate([feed["image"] for feed in image_feeds(pictures, preprocess)])


@pytest.fixture(scope="module")
def reference(graphs: BundleGraphs, bundle: Bundle, pixels: npt.NDArray[np.uint8]) -> list[Caption]:
    return captions(
        {spec.name: graphs.path(spec.name, "fp32") for spec in CAPTION_ENGINE_SPECS}, bundle, pixels
    )


def captions(
    paths: dict[str, Path], bundle: Bundle, pixels: npt.NDArray[np.uint8]
) -> list[Caption]:
    engines = CpuEngines(engine(paths[spec.name], spec) for spec in CAPTION_ENGINE_SPECS)
    return Captioner.from_repository(engines, bundle, REPOSITORY).caption(pixels)


def engine(path: Path, spec: ModelSpec) -> CpuEngine | LiteralRunner:
    """Vision in INT8 is for TensorRT alone where OpenVINO's products overflow."""
    precision = path.suffixes[0].removeprefix(".")
    if spec is CAPTION_VISION and precision == "int8" and not int8_support().exact:
        return LiteralRunner(path, spec, precision)
    return CpuEngine(path, spec, split_rows=True)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_captions_are_those_of_fp32(
    precision: str,
    graphs: BundleGraphs,
    bundle: Bundle,
    pixels: npt.NDArray[np.uint8],
    reference: list[Caption],
) -> None:
    paths = {spec.name: graphs.path(spec.name, precision) for spec in CAPTION_ENGINE_SPECS}
    found = captions(paths, bundle, pixels)
    same = np.array(
        [own.token_ids == exact.token_ids for own, exact in zip(found, reference, strict=True)]
    )
    least = bundle.require_captioner().min_confidence
    sure = np.array([exact.confidence >= least for exact in reference])
    assert sure.sum() > len(sure) / 4
    assert same.mean() >= MIN_AGREEMENT
    assert same[sure].mean() >= MIN_AGREEMENT_OF_SURE


def test_graphs_to_serve_have_the_precisions_that_the_bundle_names(
    graphs: BundleGraphs, bundle: Bundle
) -> None:
    for spec in CAPTION_ENGINE_SPECS:
        for precision in bundle.precisions[spec.name]:
            graph = graphs.path(spec.name, precision)
            served = REPOSITORY / graph_file(spec.name, precision)
            assert served.read_bytes() == graph.read_bytes()
            assert graph.is_relative_to(ROOT / "build")
