"""The committed demo detector, and what is wrong with other folders in its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bls_models.errors import BundleError
from bls_models.images.preprocessing import Preprocess
from bls_models.objects.boxes import overlaps
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.config import DetectorConfig
from builders.detectors.efficientnet import (
    FAMILY,
    DetectorCheckpoint,
    DetectorHead,
    EfficientNetDetector,
    efficientnet_detector_from_checkpoint,
    read_detector_checkpoint,
)
from builders.graphs.calibration import image_feeds

CHECKPOINT = Path(__file__).parents[3] / "builders" / "demo_detector"
MOST_BYTES = 3_000_000
BOXES = 32

# Of the catalogue pictures of the sample, on none of which the detector was trained, each with
# one product in its middle.
PICTURES = 24
LEAST_FOUND = 0.9


def load(folder: Path = CHECKPOINT, **settings: Any) -> EfficientNetDetector:
    config = DetectorConfig(FAMILY, str(folder), **{"boxes": BOXES, **settings})
    return efficientnet_detector_from_checkpoint(config, folder)


@pytest.fixture(scope="module")
def detector() -> EfficientNetDetector:
    return load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def test_the_weights_are_small_enough_to_be_committed() -> None:
    assert (CHECKPOINT / "model.safetensors").stat().st_size < MOST_BYTES


def test_boxes_are_shares_of_the_square_and_the_best_comes_first(
    detector: EfficientNetDetector,
) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2, 256, 256, 3), generator=generator, dtype=torch.uint8)
    with torch.inference_mode():
        boxes, scores = detector(image)
    assert boxes.dtype == scores.dtype == torch.float32
    assert boxes.shape == (2, BOXES, 4)
    assert scores.shape == (2, BOXES)
    assert torch.all((boxes >= 0) & (boxes <= 1))
    assert torch.all(boxes[..., 2:] > boxes[..., :2])
    assert torch.all(scores.diff(dim=1) <= 0)


def test_the_product_in_the_middle_of_a_picture_is_found(detector: EfficientNetDetector) -> None:
    pictures = [item.images[0] for item in read_catalogue(SAMPLE_CATALOGUE)][:PICTURES]
    preprocess = Preprocess(detector.pixels.image_size, detector.pixels.resize)
    covers = []
    for feed in image_feeds(pictures, preprocess):
        with torch.inference_mode():
            boxes, scores = detector(torch.from_numpy(feed["image"]))
        best = boxes[:, 0]
        covers += ((best[:, :2] < 0.5) & (best[:, 2:] > 0.5)).all(dim=1).tolist()
        assert torch.all(scores[:, 0] > 0.1)
    assert np.mean(covers) >= LEAST_FOUND


def test_a_thing_on_a_plain_ground_is_found_where_it_is(detector: EfficientNetDetector) -> None:
    y, x = np.mgrid[:256, :256]
    inside = (x - 90) ** 2 + (y - 150) ** 2 < 60**2
    image = np.full((256, 256, 3), 225, np.uint8)
    shade = 1 - ((x - 70) ** 2 + (y - 125) ** 2) / 20_000
    image[inside] = (np.array([220, 60, 40]) * shade[inside][:, None]).clip(0, 255)
    with torch.inference_mode():
        boxes, _ = detector(torch.from_numpy(image[None]))
    there = np.array([[30, 90, 150, 210]], np.float32) / 256
    assert overlaps(boxes[0, :1].numpy(), there)[0, 0] > 0.7


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    settings = read_detector_checkpoint(CHECKPOINT).settings
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = DetectorHead(settings.width, settings.depth)
    DetectorCheckpoint(settings, head).write(tmp_path / "checkpoint")
    again = read_detector_checkpoint(tmp_path / "checkpoint")
    assert again.settings == settings
    state = head.state_dict()
    for name, value in again.head.state_dict().items():
        torch.testing.assert_close(value, state[name], atol=1e-3, rtol=1e-3)


def test_size_and_resizing_are_taken_from_the_bundle(detector: EfficientNetDetector) -> None:
    assert (detector.pixels.image_size, detector.pixels.resize) == (256, "pad")
    other = load(image_size=320, resize="stretch")
    assert (other.pixels.image_size, other.pixels.resize) == (320, "stretch")
    with torch.inference_mode():
        boxes, _ = other(torch.zeros(1, 320, 320, 3, dtype=torch.uint8))
    assert boxes.shape == (1, BOXES, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ignored_labels": ["person"]}, "leave ignored_labels out"),
        ({"image_size": 200}, "image_size 200 is no multiple of 32"),
        ({"boxes": 321}, "has 320 boxes for a picture of 256 pixels; boxes is 321"),
        ({"boxes": 0}, "boxes is 0"),
    ],
)
def test_what_the_model_cannot_do_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load(**settings)


def edit_settings(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit_settings(model_type="llama"), "'llama' checkpoint"),
        (edit_settings(temperature=1), "temperature"),
        (edit_settings(width=64), "does not hold the weights"),
        (edit_settings(depth=1), "does not hold the weights"),
        (edit_settings(trunk="no/such/file"), "no/such/file does not exist"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (cut_weights, "model.safetensors does not hold the weights"),
    ],
)
def test_a_damaged_folder_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(BundleError, match=message):
        load(folder)
