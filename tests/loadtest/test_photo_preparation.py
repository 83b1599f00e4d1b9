from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from serving_support import encoded, picture

from bls_models.errors import SetupError
from bls_models.images.decoding import ImageLimits, decode_image
from loadtest.photos import (
    FIRST_SERIAL,
    MOST_SCENES,
    four_in_one,
    read_any_photos,
    read_photos,
    scenes_from_photos,
    with_serial,
)


def write_picture(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path)


def test_photos_carry_the_product_they_show_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("mug-red/1.webp", "bowl/2.png", "bowl/1.jpg"):
        write_picture(tmp_path / name)
    assert [photo.product_id for photo in read_photos(tmp_path, 64)] == ["bowl", "bowl", "mug-red"]


def test_photos_become_jpegs_of_the_wanted_side(tmp_path: Path) -> None:
    write_picture(tmp_path / "mug" / "1.webp")
    (photo,) = read_photos(tmp_path, 128)
    image = Image.open(io.BytesIO(photo.data))
    assert (image.format, image.size) == ("JPEG", (128, 128))


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    write_picture(tmp_path / "mug" / "1.png")
    assert read_photos(tmp_path, 128) == read_photos(tmp_path, 128)


def test_side_0_leaves_the_files_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mug" / "1.webp"
    write_picture(path)
    (photo,) = read_photos(tmp_path, 0)
    assert photo.data == path.read_bytes() + FIRST_SERIAL


def test_other_files_are_left_out_and_a_folder_without_photos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mug").mkdir()
    (tmp_path / "mug" / "notes.txt").write_text("no photo")
    with pytest.raises(SetupError, match="holds no photos"):
        read_photos(tmp_path, 0)


def test_own_photos_may_lie_anywhere_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.jpg", "shelf/b.png", "shelf/left/c.webp"):
        write_picture(tmp_path / name)
    paths = [tmp_path / name for name in ("a.jpg", "shelf/b.png", "shelf/left/c.webp")]
    assert read_any_photos(tmp_path, 0) == [path.read_bytes() + FIRST_SERIAL for path in paths]


def test_a_scene_has_four_photos_as_its_quarters_and_one_serial() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    photos = [encoded(Image.new("RGB", (64, 48), colour)) + FIRST_SERIAL for colour in colours]
    data = four_in_one(photos)
    assert data.count(FIRST_SERIAL) == 1
    scene = Image.open(io.BytesIO(data))
    assert (scene.format, scene.size) == ("JPEG", (64, 48))
    centres = [scene.getpixel((x, y)) for y in (12, 36) for x in (16, 48)]
    for found, colour in zip(centres, colours, strict=True):
        assert found == pytest.approx(colour, abs=6)


@pytest.mark.parametrize(("photos", "scenes"), [(1, 1), (5, 5), (100, MOST_SCENES)])
def test_there_are_scenes_of_as_few_as_one_photo(photos: int, scenes: int) -> None:
    found = scenes_from_photos([picture(seed) + FIRST_SERIAL for seed in range(photos)])
    assert len(found) == len(set(found)) == scenes


@pytest.mark.parametrize("kind", ["a.jpg", "a.png", "a.webp"])
def test_another_serial_makes_another_file_of_the_same_pixels(tmp_path: Path, kind: str) -> None:
    write_picture(tmp_path / kind)
    (photo,) = read_any_photos(tmp_path, 0)
    fresh = bytes(with_serial(b"head" + photo, 2**63))[4:]
    assert fresh != photo
    assert len(fresh) == len(photo)
    limits = ImageLimits(10**6, 10**6)
    first, second = (decode_image(data, "image", limits).tobytes() for data in (photo, fresh))
    assert first == second
