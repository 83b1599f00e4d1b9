"""Detector checkpoints and bundle tables that do not fit are refused, with what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from detector_architectures import TINY, detector_config, write_detector
from transformers import RTDetrV2ForObjectDetection

from bls_models.errors import BundleError
from builders.bundle.fingerprints import detector_fingerprint_of
from builders.config import DetectorConfig
from builders.detectors.families import detector_from_config


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(TINY["rt_detr_v2"], tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def config(checkpoint: Path) -> DetectorConfig:
    return detector_config(TINY["rt_detr_v2"], checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "yolo"}, "unknown object_detector family 'yolo'; known: efficientnet_d"),
        ({"boxes": 0}, "boxes is 0, expected 1 or more"),
        ({"boxes": 21}, r"boxes is 21, but the model of .* gives 20; set boxes to that or less"),
        ({"min_score": 1.5}, "min_score is 1.5, expected 0 to 1"),
        ({"image_size": 70}, "image_size 70 is no multiple of the model's 32 pixels; set "
            "image_size = 64 or 96"),
        ({"resize": "squeeze"}, "squeeze"),
        ({"ignored_labels": ["dog"]}, r"ignored_labels has 'dog', which .* does not know; it has 4 "
            "classes, such as bottle, cup, person, tie"),
        ({"ignored_labels": ["bottle", "cup", "person", "tie"]}, "ignored_labels leaves no class"),
        ({"family": "d_fine"}, "is a 'rt_detr_v2' checkpoint .*; d_fine needs 'd_fine': correct"),
        ({"checkpoint": "/nowhere"}, "/nowhere does not exist; correct the bundle file's path"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused(
    config: DetectorConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        detector_from_config(replace(config, **changes))


def test_the_windows_of_rf_detr_must_fill_the_picture(tmp_path: Path) -> None:
    config = detector_config(TINY["rf_detr"], write_detector(TINY["rf_detr"], tmp_path))
    assert detector_from_config(replace(config, image_size=48)).pixels.image_size == 48
    with pytest.raises(BundleError, match="image_size 56 is no multiple of the model's 16 pixels"):
        detector_from_config(replace(config, image_size=56))


def changed(folder: Path, name: str, **content: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "preprocessor_config.json",
            {"do_center_crop": True, "size": {"shortest_edge": 96}, "crop_size": 64},
            "cuts the centre of 64 pixels out of 96; set image_size and resize",
        ),
        ("preprocessor_config.json", {"do_normalize": True, "image_mean": [0.5]}, "image_mean"),
        ("preprocessor_config.json", {"size": {"longest_edge": 64}}, "gives no square"),
    ],
    ids=["a part of the picture", "one channel", "no square"],
)
def test_a_checkpoint_of_a_kind_that_is_not_supported_is_refused(
    tmp_path: Path, name: str, content: dict[str, Any], message: str
) -> None:
    folder = write_detector(TINY["rt_detr_v2"], tmp_path)
    changed(folder, name, **content)
    with pytest.raises(BundleError, match=message):
        detector_from_config(detector_config(TINY["rt_detr_v2"], folder))


def test_queries_that_do_not_come_from_the_picture_are_refused(tmp_path: Path) -> None:
    def learnt() -> RTDetrV2ForObjectDetection:
        config = TINY["rt_detr_v2"].model().config
        config.learn_initial_query = True
        return RTDetrV2ForObjectDetection(config)

    architecture = replace(TINY["rt_detr_v2"], model=learnt)
    folder = write_detector(architecture, tmp_path)
    with pytest.raises(BundleError, match=r"learn_initial_query .* is not supported"):
        detector_from_config(detector_config(architecture, folder))


def test_pixels_that_are_not_normalised_need_no_mean(tmp_path: Path) -> None:
    folder = write_detector(TINY["rt_detr_v2"], tmp_path)
    changed(folder, "preprocessor_config.json", image_mean=None, image_std=None)
    pixels = detector_from_config(detector_config(TINY["rt_detr_v2"], folder)).pixels
    assert (pixels.mean, pixels.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_a_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    folder = write_detector(TINY["rt_detr_v2"], tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"has no weights \(model.safetensors\); download"):
        detector_from_config(detector_config(TINY["rt_detr_v2"], folder))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = write_detector(TINY["rt_detr_v2"], tmp_path)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BundleError, match="cannot be loaded as RTDetrV2ForObjectDetection"):
        detector_from_config(detector_config(TINY["rt_detr_v2"], folder))


def test_the_fingerprint_changes_with_all_that_decides_a_box(
    config: DetectorConfig, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write_detector(TINY["rt_detr_v2"], other)
    changed(other, "config.json", decoder_offset_scale=0.25)
    variants = [
        config,
        replace(config, image_size=96),
        replace(config, resize="pad"),
        replace(config, boxes=7),
        replace(config, ignored_labels=["person"]),
        replace(config, checkpoint=str(other)),
    ]
    assert len({detector_fingerprint_of(item) for item in variants}) == len(variants)
    for same in (replace(config, min_score=0.9), replace(config, precision="int8")):
        assert detector_fingerprint_of(same) == detector_fingerprint_of(config)


def test_the_fingerprint_changes_with_the_trunk_that_a_checkpoint_names(tmp_path: Path) -> None:
    (tmp_path / "trunk.pth").write_bytes(b"weights")
    (tmp_path / "config.json").write_text(json.dumps({"trunk": str(tmp_path / "trunk.pth")}))
    config = DetectorConfig("f", str(tmp_path))
    before = detector_fingerprint_of(config)
    (tmp_path / "trunk.pth").write_bytes(b"other weights")
    assert detector_fingerprint_of(config) != before
