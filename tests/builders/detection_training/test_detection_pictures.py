"""What the detector is trained on: scenes, cut-out things, composites and altered copies."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bls_models.errors import SetupError
from builders.detection_training.alterations import altered_copy
from builders.detection_training.backgrounds import KINDS, Backgrounds, read_panorama
from builders.detection_training.composites import Composer
from builders.detection_training.cutouts import (
    Cutout,
    box_of,
    cut_out,
    garment_mask,
    on_plain_ground,
)
from builders.detection_training.features import in_square
from builders.detection_training.scenes import Picture, Scene, read_scenes
from builders.detection_training.sources import composer_of_pictures, garments_of_photos, photos_of

RED = (200, 30, 30)


def disc(ground: int, size: tuple[int, int] = (120, 160), radius: int = 35) -> Picture:
    """A red disc, its centre at a half of the width and of the height."""
    picture = np.full((*size, 3), ground, np.uint8)
    cv2.circle(picture, (size[1] // 2, size[0] // 2), radius, RED, -1)
    return picture


def red_disc() -> Cutout:
    found = on_plain_ground(disc(255))
    assert found is not None
    return found


def red_box(picture: Picture) -> np.ndarray:
    """The box around what is much redder than green, in shares."""
    red = picture[:, :, 0].astype(int) - picture[:, :, 1] > 60
    y, x = np.nonzero(red)
    height, width = red.shape
    return np.array([x.min() / width, y.min() / height, (x.max() + 1) / width,
                     (y.max() + 1) / height])  # fmt: skip


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- scenes -----------------------------------------------------------------------------------


def write_scene(folder: Path, line: object) -> None:
    cv2.imwrite(str(folder / "1.png"), disc(255))
    (folder / "scenes.jsonl").write_text(json.dumps(line) + "\n")


def test_scenes_are_read_with_boxes_and_labels(tmp_path: Path) -> None:
    objects = [
        {"product_id": "mug-1", "box": [0.1, 0.2, 0.5, 0.6]},
        {"label": "apple", "box": [0, 0, 1, 1]},
    ]
    write_scene(tmp_path, {"file": "1.png", "objects": objects})
    (scene,) = read_scenes(tmp_path)
    assert scene.labels == ("mug-1", "apple")
    assert scene.boxes.tolist() == [pytest.approx([0.1, 0.2, 0.5, 0.6]), [0, 0, 1, 1]]
    assert scene.read().picture.shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"objects": []}, "line 1: KeyError"),
        ({"file": "1.png", "objects": [{"box": [0, 1]}]}, "a box of four numbers each"),
        ({"file": "2.png", "objects": []}, r"2\.png does not exist"),
    ],
)
def test_a_line_that_is_no_scene_is_named(tmp_path: Path, line: object, message: str) -> None:
    write_scene(tmp_path, line)
    with pytest.raises(SetupError, match=message):
        read_scenes(tmp_path)


def test_a_folder_without_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="does not exist; give a folder of"):
        read_scenes(tmp_path)
    (tmp_path / "scenes.jsonl").write_text("")
    with pytest.raises(SetupError, match="holds no scenes"):
        read_scenes(tmp_path)


def test_boxes_of_a_wide_picture_lie_between_the_bars_of_its_square() -> None:
    boxes = in_square(np.array([[0, 0, 1, 1]], np.float32), np.zeros((50, 100, 3), np.uint8))
    assert boxes.tolist() == [[0, 0.25, 1, 0.75]]


# --- cut-out things ---------------------------------------------------------------------------


def test_a_thing_is_cut_from_a_white_ground() -> None:
    found = red_disc()
    assert abs(found.shape[0] - 70) < 6
    assert abs(found.shape[1] - 70) < 6
    middle = found[found.shape[0] // 2, found.shape[1] // 2]
    assert middle.tolist() == [*RED, 255]
    assert found[0, 0, 3] == 0


def test_nothing_is_cut_from_a_ground_without_a_thing(rng: np.random.Generator) -> None:
    assert on_plain_ground(np.full((80, 80, 3), 255, np.uint8)) is None
    assert on_plain_ground(rng.integers(0, 200, (80, 80, 3), dtype=np.uint8)) is None


def test_a_garment_is_told_from_its_ground_where_that_is_clear(rng: np.random.Generator) -> None:
    picture = disc(150, (224, 224), 70)
    picture = (picture + rng.integers(0, 20, picture.shape)).astype(np.uint8)
    mask = garment_mask(picture)
    assert mask is not None
    assert np.allclose(box_of(mask), (42 / 224, 42 / 224, 182 / 224, 182 / 224), atol=0.04)
    assert abs(cut_out(picture, mask).shape[0] - 140) < 10
    assert garment_mask(np.full((224, 224, 3), 128, np.uint8)) is None


# --- grounds and composites -------------------------------------------------------------------


def test_grounds_of_every_kind_have_the_size_asked_for(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    photo = tmp_path / "1.png"
    cv2.imwrite(str(photo), rng.integers(0, 256, (64, 128, 3), dtype=np.uint8))
    grounds = Backgrounds([read_panorama(photo)], [photo])
    for _ in range(8 * len(KINDS)):
        ground = grounds.draw((80, 60), rng)
        assert ground.shape == (60, 80, 3)
        assert ground.dtype == np.uint8


def test_a_file_that_is_no_panorama_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.exr").write_bytes(b"nothing")
    with pytest.raises(SetupError, match="cannot be read as a panorama"):
        read_panorama(tmp_path / "1.exr")


def test_composites_have_boxes_within_them_and_a_seed_repeats_them() -> None:
    composer = Composer([[red_disc()]], [1.0], Backgrounds([], []))
    counts = []
    for seed in range(30):
        scene = composer.draw(np.random.default_rng(seed))
        again = composer.draw(np.random.default_rng(seed))
        assert np.array_equal(scene.picture, again.picture)
        assert np.array_equal(scene.boxes, again.boxes)
        assert max(scene.picture.shape) == 320
        assert np.all((scene.boxes >= 0) & (scene.boxes <= 1))
        assert np.all(scene.boxes[:, 2:] > scene.boxes[:, :2])
        counts.append(len(scene.boxes))
    assert min(counts) == 0  # some show nothing
    assert max(counts) > 5


def test_folders_become_a_composer(tmp_path: Path) -> None:
    iconic = tmp_path / "grocery" / "iconic-images-and-descriptions" / "Fruit"
    for name in ("Apple", "Kiwi"):  # the latter shows several
        (iconic / name).mkdir(parents=True)
        cv2.imwrite(str(iconic / name / f"{name}.jpg"), disc(255)[:, :, ::-1])
    shirts = tmp_path / "clothing" / "train" / "shirt"
    shirts.mkdir(parents=True)
    cv2.imwrite(str(shirts / "1.jpg"), disc(150, (224, 224), 70)[:, :, ::-1])
    photos = photos_of(tmp_path / "clothing", "train")
    garments = garments_of_photos(photos)
    assert [item.scene.labels for item in garments] == [("shirt",)]
    composer = composer_of_pictures(tmp_path / "grocery", garments, photos, None)
    assert composer.draw(np.random.default_rng(0)).picture.dtype == np.uint8
    with pytest.raises(SetupError, match="0 garments can be cut out"):
        composer_of_pictures(tmp_path / "grocery", [], photos, None)
    with pytest.raises(SetupError, match=r"holds no \.jpg photos"):
        photos_of(tmp_path / "clothing", "test")


# --- altered copies ---------------------------------------------------------------------------


def test_boxes_follow_what_is_done_to_a_picture(rng: np.random.Generator) -> None:
    picture = disc(235, (240, 320), 60)
    box = red_box(picture).astype(np.float32)
    sizes = set()
    for _ in range(60):
        copy = altered_copy(Scene(picture, box[None]), rng)
        sizes.add(copy.picture.shape)
        if len(copy.boxes):
            expected = red_box(copy.picture)
            assert np.allclose(copy.boxes[0], expected, atol=0.05)
    assert len(sizes) > 10
