"""A bundle with a detector is built whole, noticed when it changes, and removed when it goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from architectures import TINY as TINY_ENCODERS
from architectures import bundle_config, write_bert, write_checkpoint
from detector_architectures import TINY, detector_config, write_detector

from bls_models.bundle import Bundle, DetectorBundle, graph_file
from bls_models.engines.cpu import CpuEngine
from bls_models.errors import BundleError
from bls_models.specs import ENCODER_SPECS, OBJECT_DETECTOR
from builders.bundle.building import build_bundle, is_built, precisions_of
from builders.bundle.detector import DetectorBuild
from builders.bundle.fingerprints import detector_fingerprint_of, fingerprint_of
from builders.commands.engines import engine_specs_of
from builders.config import BundleConfig, DetectorConfig, read_bundle_config
from builders.detectors import graphs as detector_graphs
from builders.detectors.graphs import BoxLikeness, likeness
from builders.engines.metadata import fingerprint_of_model
from builders.graphs.calibration import CalibrationData, calibration_from_catalogue
from builders.graphs.inventory import graph_precision
from builders.graphs.precisions import graph_path, graphs_folder

STALE = ("1/model.plan", "1/model.plan.json", "1/model.int8.onnx", "1/model.fp32.onnx")


@dataclass(frozen=True)
class Built:
    """A tiny bundle with a detector in a repository."""

    config: BundleConfig
    repository: Path
    lines: list[str]

    @property
    def detector(self) -> DetectorConfig:
        assert self.config.object_detector is not None
        return self.config.object_detector


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("detector-bundle")
    checkpoint = write_detector(TINY["rt_detr_v2"], folder / "detector")
    encoders = bundle_config(
        TINY_ENCODERS["dinov2"],
        write_checkpoint(TINY_ENCODERS["dinov2"], folder / "image"),
        write_bert(folder / "text"),
    )
    detector = detector_config(TINY["rt_detr_v2"], checkpoint, min_score=0.25, precision="int8")
    config = replace(encoders, object_detector=detector)
    built = Built(config, folder / "model_repository", [])
    with pytest.MonkeyPatch.context() as patch:
        # Boxes of random weights do not stand INT8.
        patch.setattr(detector_graphs, "SERVED", BoxLikeness(0, 1))
        build_bundle(built.config, built.repository, built.lines.append, calibration_data)
    return built


def calibration_data() -> CalibrationData:
    return calibration_from_catalogue(samples=8)


def test_the_manifest_has_the_detectors_sizes_and_files(built: Built) -> None:
    bundle = Bundle.read(built.repository)
    bundle.check_files(built.repository)
    assert bundle.detector == DetectorBundle(
        detector_fingerprint_of(built.detector), 64, "stretch", 8, 0.25
    )
    assert bundle.precisions == precisions_of(built.config)
    assert bundle.precisions[OBJECT_DETECTOR.name] == ["int8", "fp32"]
    assert engine_specs_of(bundle) == (*ENCODER_SPECS, OBJECT_DETECTOR)


def test_the_vectors_fingerprint_is_that_of_the_bundle_without_a_detector(built: Built) -> None:
    without = replace(built.config, object_detector=None)
    assert fingerprint_of(built.config) == fingerprint_of(without)


def test_engines_of_the_detector_belong_to_its_fingerprint(built: Built) -> None:
    bundle = Bundle.read(built.repository)
    wanted = detector_fingerprint_of(built.detector)
    assert fingerprint_of_model(OBJECT_DETECTOR, bundle) == wanted
    with pytest.raises(BundleError, match="has no detector; build one that has"):
        fingerprint_of_model(OBJECT_DETECTOR, replace(bundle, detector=None))


def test_graphs_that_are_served_find_boxes_in_the_precision_asked_for(built: Built) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    for precision in ("int8", "fp32"):
        path = built.repository / graph_file(OBJECT_DETECTOR.name, precision)
        assert graph_precision(path) == precision
        outputs = CpuEngine(path, OBJECT_DETECTOR).infer({"image": pixels})
        assert outputs["box"].shape == (3, 8, 4)
        assert outputs["box_score"].shape == (3, 8)
        assert (np.diff(outputs["box_score"], axis=1) <= 0).all()


def test_a_changed_detector_is_noticed(built: Built) -> None:
    assert is_built(built.config, built.repository)
    for other in (
        None,
        replace(built.detector, boxes=7),
        replace(built.detector, ignored_labels=["person"]),
        replace(built.detector, min_score=0.5),
        replace(built.detector, precision="fp16"),
    ):
        assert not is_built(replace(built.config, object_detector=other), built.repository)


def test_each_step_is_reported_with_its_likeness_to_the_original(built: Built) -> None:
    text = "\n".join(built.lines)
    assert "object_detector: overlap 0.99" in text.replace("1.0000", "0.9999")
    assert "object_detector: calibrating and quantising to INT8" in text
    assert "object_detector: int8: overlap" in text


def test_a_precision_that_finds_other_things_is_refused(built: Built) -> None:
    folder = graphs_folder(built.repository)
    graph = graph_path(folder, built.config.name, OBJECT_DETECTOR.name, "int8")
    with pytest.raises(
        BundleError, match="object_detector cannot be served as int8; choose another precision"
    ):
        DetectorBuild(built.detector).check_served(graph, calibration_data, print)


def test_a_bundle_without_a_detector_leaves_nothing_of_the_earlier_one(
    built: Built, tmp_path: Path
) -> None:
    repository = tmp_path / "model_repository"
    folder = repository / OBJECT_DETECTOR.name
    for name in (*STALE, "1/model.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"stale")
    config = replace(built.config, object_detector=None)
    bundle = build_bundle(config, repository, print)
    assert bundle.detector is None
    assert OBJECT_DETECTOR.name not in bundle.models
    assert is_built(config, repository)
    assert not any("detector" in name for name in (*bundle.files, *bundle.precisions))
    assert {path for path in folder.rglob("*") if path.is_file()} == {folder / "1" / "model.py"}


# --- comparing boxes --------------------------------------------------------------------------


BOX = np.array([[[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]]], np.float32)
SCORE = np.array([[0.9, 0.3]], np.float32)


def test_the_order_of_boxes_does_not_matter() -> None:
    found = likeness(BOX, SCORE, BOX[:, ::-1], SCORE[:, ::-1])
    assert (found.overlap, found.difference) == (pytest.approx(1), 0)


def test_a_box_counts_by_its_score() -> None:
    first = likeness(BOX, SCORE, BOX[:, :1], SCORE[:, :1])
    second = likeness(BOX, SCORE, BOX[:, 1:], SCORE[:, 1:])
    assert first.overlap == pytest.approx(0.75, abs=1e-3)
    assert second.overlap == pytest.approx(0.25, abs=1e-3)


def test_boxes_without_an_area_are_like_each_other_where_they_are() -> None:
    flat = np.array([[[1.0, 0.2, 1.0, 0.4]]], np.float32)
    score = np.ones((1, 1), np.float32)
    assert likeness(flat, score, flat, score).overlap == pytest.approx(1)
    assert likeness(flat, score, flat - [[[0.5, 0, 0.5, 0]]], score).overlap == 0


# --- bundle files -----------------------------------------------------------------------------


def test_a_bundle_file_has_a_table_for_the_detector(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    tables = (
        'name = "own"\ndescription = ""\nshared_space = true\n'
        '[image_encoder]\nfamily = "f"\ncheckpoint = "a"\n'
        '[text_encoder]\nfamily = "g"\ncheckpoint = "b"\nmax_tokens = 8\n'
    )
    path.write_text(tables)
    assert read_bundle_config(str(path)).object_detector is None
    path.write_text(
        f'{tables}[object_detector]\nfamily = "h"\ncheckpoint = "c"\nboxes = 9\n'
        'min_score = 0.4\nignored_labels = ["person"]\n'
    )
    assert read_bundle_config(str(path)).object_detector == DetectorConfig(
        "h", "c", boxes=9, min_score=0.4, ignored_labels=["person"]
    )
    path.write_text(f'{tables}[object_detector]\nfamily = "h"\ncheckpoint = "c"\nclasses = 9\n')
    with pytest.raises(BundleError, match=r"own\.toml is not a valid bundle file: .*'classes'"):
        read_bundle_config(str(path))
