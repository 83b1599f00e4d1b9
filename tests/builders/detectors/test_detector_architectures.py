"""The hub's detector families find, in every runtime, what transformers finds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from detector_architectures import (
    LABELS,
    TINY,
    TRUE_SIZE,
    DetectorArchitecture,
    detector_config,
    write_detector,
)
from PIL import Image
from serving_support import SAMPLE
from transformers import AutoModelForObjectDetection, DetrImageProcessorPil, RTDetrImageProcessorPil

from bls_models.bundle import Bundle, DetectorBundle
from bls_models.engines.cpu import CpuEngine
from bls_models.images.preprocessing import prepare_pixels
from bls_models.specs import OBJECT_DETECTOR
from bls_models.vectors import FloatArray
from builders.config import DetectorConfig
from builders.detectors.families import detector_from_config
from builders.detectors.graphs import export_detector
from builders.detectors.modules import DetectorModule
from builders.engines.building import engine_from_onnx
from builders.engines.profiles import profiles_for
from builders.engines.reading import check_engine
from builders.engines.tensorrt_api import compiler_for_target
from builders.graphs.calibration import Calibration, example_images
from builders.graphs.inventory import graph_precision
from builders.graphs.precisions import graph_from_fp32, recipe_of

BOXES = 8
# Of each family, as it is published.
QUERIES = 300
IGNORED = "person"
BATCHES = (1, 3, 5)
# Of shares of the picture and of scores.
MAX_DIFFERENCE = 1e-3
MAX_PIXEL_DIFFERENCE = 1e-5
PROCESSORS = {
    "RTDetrImageProcessor": RTDetrImageProcessorPil,
    "DetrImageProcessor": DetrImageProcessorPil,
}


@dataclass(frozen=True)
class Built:
    """A detector of random weights and its graph, with what transformers makes of the folder."""

    architecture: DetectorArchitecture
    config: DetectorConfig
    module: DetectorModule
    graph: Path

    @cached_property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """Real pictures as the server prepares them, (B, S, S, 3)."""
        paths = sorted((SAMPLE / "images").glob("*/*.webp"))[::9][: max(BATCHES)]
        size = (self.architecture.size,) * 2
        pictures = [Image.open(path).convert("RGB").resize(size) for path in paths]
        preprocess = self.module.pixels.preprocess
        return np.stack([prepare_pixels(np.asarray(picture), preprocess) for picture in pictures])

    def processed(self) -> torch.Tensor:
        """The same pictures as transformers prepares them, (B, 3, S, S)."""
        processor = PROCESSORS[self.architecture.processor].from_pretrained(self.config.checkpoint)
        pictures = [Image.fromarray(item) for item in self.pixels]
        values: torch.Tensor = processor(images=pictures, return_tensors="pt").pixel_values
        return values

    @cached_property
    def expected(self) -> tuple[FloatArray, FloatArray]:
        """Best boxes (B, N, 4) and scores (B, N) by the model's own ``forward``."""
        model: Any = AutoModelForObjectDetection.from_pretrained(self.config.checkpoint).eval()
        with torch.inference_mode():
            output = model(pixel_values=self.processed())
        kept = [number for number, name in model.config.id2label.items() if name != IGNORED]
        score, order = output.logits.sigmoid()[..., kept].amax(-1).sort(dim=1, descending=True)
        x, y, width, height = output.pred_boxes.unbind(-1)
        width, height = width.clamp(min=0), height.clamp(min=0)
        box = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)
        box = torch.stack([item[rows] for item, rows in zip(box, order[:, :BOXES], strict=True)])
        return box.clamp(0, 1).numpy(), score[:, :BOXES].numpy()


def built(architecture: DetectorArchitecture, folder: Path, **options: Any) -> Built:
    checkpoint = write_detector(architecture, folder / "checkpoint")
    config = detector_config(architecture, checkpoint, **{"boxes": BOXES} | options)
    module = detector_from_config(config)
    graph = folder / "b" / "object_detector.fp32.onnx"
    graph.parent.mkdir()
    export_detector(module, example_images(architecture.size), graph, lambda line: None)
    return Built(architecture, config, module, graph)


@pytest.fixture(scope="module", params=TINY)
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(
        TINY[request.param], tmp_path_factory.mktemp(request.param), ignored_labels=[IGNORED]
    )


def runtimes(detector: Built) -> dict[str, Any]:
    """The module and its graph in ONNX Runtime and OpenVINO, from pixels to boxes and scores."""
    session = onnxruntime.InferenceSession(str(detector.graph), providers=["CPUExecutionProvider"])
    engine = CpuEngine(detector.graph, OBJECT_DETECTOR)

    def by_torch(pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        with torch.inference_mode():
            return [item.numpy() for item in detector.module(torch.from_numpy(pixels))]

    return {
        "torch": by_torch,
        "onnxruntime": lambda pixels: session.run(OBJECT_DETECTOR.output_names, {"image": pixels}),
        "openvino": lambda pixels: list(engine.infer({"image": pixels}).values()),
    }


def test_pixels_in_the_graph_are_those_of_the_checkpoints_processor(detector: Built) -> None:
    found = detector.module.normalised(torch.from_numpy(detector.pixels))
    assert (found - detector.processed()).abs().max() <= MAX_PIXEL_DIFFERENCE


def test_boxes_are_those_of_transformers_in_every_runtime_and_batch(detector: Built) -> None:
    box, score = detector.expected
    # Pictures that give the same, or boxes that are all alike, would prove little.
    assert np.abs(box[0] - box[1]).max() > 0.1
    assert np.abs(box[:, 0] - box[:, -1]).max() > 0.1
    for name, run in runtimes(detector).items():
        for size in BATCHES:
            found_box, found_score = run(detector.pixels[:size])
            assert (found_box.dtype, found_score.dtype) == (np.float32, np.float32)
            for found, wanted in ((found_box, box[:size]), (found_score, score[:size])):
                assert found.shape == wanted.shape, name
                assert np.abs(found - wanted).max() <= MAX_DIFFERENCE, (name, size)


def test_boxes_lie_within_the_picture_and_the_best_comes_first(detector: Built) -> None:
    for run in runtimes(detector).values():
        box, score = run(detector.pixels)
        assert ((box >= 0) & (box <= 1)).all()
        assert (box[..., :2] <= box[..., 2:]).all()
        assert ((score >= 0) & (score <= 1)).all()
        assert (np.diff(score, axis=1) <= 0).all()


def test_a_class_that_is_ignored_gives_no_score(detector: Built) -> None:
    def scores(ignored: list[str]) -> FloatArray:
        options = {"boxes": BOXES, "ignored_labels": ignored}
        config = detector_config(detector.architecture, Path(detector.config.checkpoint), **options)
        with torch.inference_mode():
            pixels = torch.from_numpy(detector.pixels)
            found: FloatArray = detector_from_config(config)(pixels)[1].numpy()
        return found

    without = [scores([name]) for name in LABELS.values()]
    # The best class of a box is one of them.
    np.testing.assert_allclose(np.maximum.reduce(without), scores([]), atol=1e-6)
    assert len({item.tobytes() for item in without}) > 1


def test_the_graph_has_the_tensors_of_its_spec_and_any_batch(detector: Built) -> None:
    session = onnxruntime.InferenceSession(str(detector.graph), providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    size = detector.architecture.size
    assert (image.name, image.shape) == ("image", ["batch", size, size, 3])
    assert [(item.name, item.shape[1:]) for item in session.get_outputs()] == [
        ("box", [BOXES, 4]),
        ("box_score", [BOXES]),
    ]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_takes_the_graph(detector: Built, precision: str, tmp_path: Path) -> None:
    compiled(detector, precision, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("name", TRUE_SIZE)
def test_graphs_at_true_size_find_the_same_and_compile(name: str, tmp_path: Path) -> None:
    # All boxes: of random weights scores are so close that the best are others in each runtime.
    detector = built(TRUE_SIZE[name], tmp_path, boxes=QUERIES)
    original = runtimes(detector)["torch"](detector.pixels[:1])
    served = runtimes(detector)["openvino"](detector.pixels[:1])
    np.testing.assert_allclose(served[1], original[1], atol=0.01)
    for precision in ("fp16", "int8"):
        compiled(detector, precision, tmp_path)


def compiled(detector: Built, precision: str, folder: Path) -> None:
    """Compile the graph in a precision for one GPU and read it back."""
    found = detector.module.pixels
    part = DetectorBundle("d" * 16, found.image_size, found.resize, detector.config.boxes, 0.3)
    bundle = Bundle("b", "f" * 16, 64, "pad", 8, 8, 8, False, {}, detector=part)
    # Enough for ranges: boxes of random weights have no quality to keep.
    feed = {"image": example_images(found.image_size)}
    graph = graph_from_fp32(
        detector.graph,
        precision,
        recipe_of(detector.config.family),
        lambda: Calibration("random", lambda: [feed]),
        lambda line: None,
    )
    assert graph_precision(graph) == precision
    compiler = compiler_for_target("rtx", ["8.9"])
    engine = engine_from_onnx(
        graph,
        OBJECT_DETECTOR,
        profiles_for(OBJECT_DETECTOR, bundle),
        compiler,
        folder / f"{precision}.plan",
        bundle=bundle,
        precision=precision,
        report=lambda line: None,
    )
    check_engine(engine.path, OBJECT_DETECTOR, bundle, compiler)
