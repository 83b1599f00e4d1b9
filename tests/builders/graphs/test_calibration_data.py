"""Calibration takes real pictures and texts, the same ones each time."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from bls_models.errors import ImageError, SetupError
from bls_models.images.preprocessing import Preprocess
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.graphs.calibration import (
    CalibrationData,
    add_calibration_flags,
    calibration_from_catalogue,
    calibration_from_flags,
    image_calibration,
    image_feeds,
    pictures_of_folder,
    spread,
    text_calibration,
    text_feeds,
    texts_of_file,
)

PIXELS = Preprocess(size=16, resize="pad")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number in range(10):
        name = f"below/{number}.png" if number % 2 else f"{number}.JPG"
        Image.new("RGB", (20, 10), (number * 20, 0, 0)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "mug": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def test_items_are_spread_evenly_and_always_the_same() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]


def test_pictures_of_a_folder_are_found_below_it_in_a_fixed_order(pictures: Path) -> None:
    found = pictures_of_folder(pictures, 4)
    assert found == pictures_of_folder(pictures, 4)
    assert len(found) == 4
    assert len(pictures_of_folder(pictures)) == 10


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"holds no pictures \(\.jpeg, \.jpg"):
        pictures_of_folder(tmp_path)


def test_image_batches_are_pixels_as_the_encoder_takes_them(pictures: Path) -> None:
    feeds = list(image_feeds(pictures_of_folder(pictures), PIXELS))
    assert [feed["image"].shape for feed in feeds] == [(8, 16, 16, 3), (2, 16, 16, 3)]
    assert {feed["image"].dtype for feed in feeds} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("size", [0, 9])
def test_a_batch_size_out_of_range_is_refused(pictures: Path, size: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 8"):
        list(image_feeds(pictures_of_folder(pictures), PIXELS, size))


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"words")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        list(image_feeds([tmp_path / "bad.jpg"], PIXELS))


def test_text_batches_are_padded_ids_and_masks(tokenizer: Tokenizer) -> None:
    (feed,) = text_feeds(["mug", "mug mug cup"], tokenizer)
    assert feed["input_ids"].tolist() == [[2, 0, 0], [2, 2, 1]]
    assert feed["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert feed["input_ids"].dtype == feed["attention_mask"].dtype == np.int64


def test_texts_of_a_file_are_its_lines_without_blank_ones(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("red mug\n\n  blue vase \n", encoding="utf-8")
    assert texts_of_file(tmp_path / "texts.txt") == ("red mug", "blue vase")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"\n \n", "holds no text")],
)
def test_a_file_without_texts_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError, match=rf"texts\.txt {message}"):
        texts_of_file(path)


def test_the_digest_follows_whatever_decides_the_batches(
    pictures: Path, tokenizer: Tokenizer
) -> None:
    files = pictures_of_folder(pictures)
    rules = tokenizer.to_str()
    digests = [
        image_calibration(files, PIXELS).digest,
        image_calibration(files[1:], PIXELS).digest,
        image_calibration(files, Preprocess(16, "stretch")).digest,
        text_calibration(["a", "b"], rules).digest,
        text_calibration(["b", "a"], rules).digest,
        text_calibration(["a", "b"], rules + " ").digest,
    ]
    assert len(set(digests)) == len(digests)
    assert image_calibration(files, PIXELS).digest == digests[0]


def test_a_calibration_gives_its_batches_again(pictures: Path) -> None:
    calibration = image_calibration(pictures_of_folder(pictures), PIXELS)
    first, second = (
        np.concatenate([feed["image"] for feed in calibration.feeds()]) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_the_sample_catalogue_calibrates_without_its_held_out_photos() -> None:
    data = calibration_from_catalogue(samples=16)
    assert data == calibration_from_catalogue(samples=16)
    assert len(data.pictures) == len(data.texts) == 16
    assert not any("queries" in path.parts for path in data.pictures)
    assert all(path.is_file() for path in data.pictures)


def test_flags_replace_the_samples_pictures_or_texts(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("red mug")
    parser = argparse.ArgumentParser()
    add_calibration_flags(parser)
    sample = calibration_from_flags(parser.parse_args([]))
    assert sample == calibration_from_catalogue()
    pictures_flag = f"--calibration-pictures={pictures}"
    texts_flag = f"--calibration-texts={tmp_path / 'texts.txt'}"
    own = calibration_from_flags(parser.parse_args([pictures_flag, texts_flag]))
    assert own == CalibrationData(pictures_of_folder(pictures), ("red mug",))


def write_catalogue(folder: Path, *lines: object) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "products.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_the_sample_catalogue_has_pictures_and_held_out_photos_of_each_product() -> None:
    products = read_catalogue(SAMPLE_CATALOGUE)
    assert all(item.images and item.queries for item in products)


def test_a_missing_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="give a folder that holds a products"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: .*expected a JSON object"),
        ("[]", "line 2: .*expected a JSON object"),
        ({"images": []}, "line 2: .*'queries'"),
        ({"images": ["none.png"], "queries": []}, r"line 2: the picture .*none\.png does not"),
    ],
)
def test_a_line_that_is_no_product_is_named(tmp_path: Path, line: object, message: str) -> None:
    folder = write_catalogue(tmp_path, {"images": [], "queries": []}, line)
    with pytest.raises(SetupError, match=message):
        read_catalogue(folder)


def test_a_catalogue_without_products_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="holds no products"):
        read_catalogue(write_catalogue(tmp_path))
