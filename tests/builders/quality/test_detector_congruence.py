"""The bundle's detector finds the same objects in every precision, as it is served."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from serving_support import REPOSITORY

from bls_models.bundle import TOKENIZER_FILE, Bundle, graph_file
from bls_models.engines.cpu import CpuEngine
from bls_models.engines.precisions import int8_support
from bls_models.specs import OBJECT_DETECTOR
from bls_models.vectors import FloatArray
from builders.bundle.graphs import BundleGraphs, GraphInputs
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.config import read_bundle_config
from builders.detectors.graphs import BoxLikeness, likeness
from builders.graphs.calibration import image_feeds
from builders.graphs.precisions import graphs_folder
from builders.quality.runners import LiteralRunner

# To FP32, over a picture of each product.
LIMITS = {"fp16": BoxLikeness(0.98, 0.01), "int8": BoxLikeness(0.9, 0.08)}


@pytest.fixture(scope="module")
def graphs(bundle: Bundle) -> BundleGraphs:
    assert bundle.detector is not None
    inputs = GraphInputs(
        bundle.preprocess,
        (REPOSITORY / TOKENIZER_FILE).read_text(encoding="utf-8"),
        detector_pictures=bundle.detector.preprocess,
    )
    return BundleGraphs(graphs_folder(REPOSITORY), read_bundle_config(bundle.name), inputs, print)


@pytest.fixture(scope="module")
def pixels(bundle: Bundle) -> npt.NDArray[np.uint8]:
    assert bundle.detector is not None
    pictures = [path for item in read_catalogue(SAMPLE_CATALOGUE) for path in item.images[:1]]
    feeds = image_feeds(pictures, bundle.detector.preprocess)
    return np.concatenate([feed["image"] for feed in feeds])


def found(
    graphs: BundleGraphs, precision: str, pixels: npt.NDArray[np.uint8]
) -> tuple[FloatArray, FloatArray]:
    path = graphs.path(OBJECT_DETECTOR.name, precision)
    if precision == "int8" and not int8_support().exact:
        # For TensorRT alone where OpenVINO's products overflow.
        outputs = LiteralRunner(path, OBJECT_DETECTOR, precision).infer({"image": pixels})
    else:
        engine = CpuEngine(path, OBJECT_DETECTOR, split_rows=True)
        outputs = engine.infer({"image": pixels})
    return outputs["box"], outputs["box_score"]


@pytest.mark.parametrize("precision", LIMITS)
def test_objects_are_those_of_fp32(
    precision: str, graphs: BundleGraphs, pixels: npt.NDArray[np.uint8]
) -> None:
    near = likeness(*found(graphs, "fp32", pixels), *found(graphs, precision, pixels))
    assert near.overlap >= LIMITS[precision].overlap
    assert near.difference <= LIMITS[precision].difference


def test_graphs_to_serve_have_the_precisions_that_the_bundle_names(
    graphs: BundleGraphs, bundle: Bundle
) -> None:
    assert bundle.precisions[OBJECT_DETECTOR.name][0] == "int8"
    for precision in bundle.precisions[OBJECT_DETECTOR.name]:
        served = REPOSITORY / graph_file(OBJECT_DETECTOR.name, precision)
        assert served.read_bytes() == graphs.path(OBJECT_DETECTOR.name, precision).read_bytes()
