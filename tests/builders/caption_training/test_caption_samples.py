"""What captions should say, and which pictures are held out."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from PIL import Image

from bls_models.errors import SetupError
from builders.caption_training.phrases import GARMENTS, phrase, product_words
from builders.caption_training.samples import (
    COLOURS_FILE,
    clothing_samples,
    product_samples,
    split_by_product,
)
from builders.caption_training.tokenizer import SPECIAL, tokenizer_from_captions
from builders.catalogue import SAMPLE_CATALOGUE, CatalogueProduct, read_catalogue


def products() -> dict[str, CatalogueProduct]:
    return {item.product["product_id"]: item for item in read_catalogue(SAMPLE_CATALOGUE)}


@pytest.mark.parametrize(
    ("product", "caption"),
    [
        ("mug-dots-red", "red dotted mug"),
        ("bottle-slim-sky", "sky blue water bottle"),
        ("jar-storage-checks", "white checked storage jar"),
        ("rings-rainbow", "rainbow stacking rings"),
        ("rings-ocean-tall", "blue stacking rings"),
    ],
)
def test_a_product_is_said_in_few_words(product: str, caption: str) -> None:
    colour, pattern, noun = product_words(products()[product].product)
    assert phrase(colour, noun, pattern) == caption


def test_products_are_held_out_and_not_only_pictures_of_them() -> None:
    train, test = split_by_product(read_catalogue(SAMPLE_CATALOGUE))
    pictures = {sample.picture for sample in product_samples(train)}
    held_out = {sample.picture for sample in product_samples(test)}
    assert pictures.isdisjoint(held_out)
    assert len(pictures) + len(held_out) == 4 * len(products())
    catalogue = {sample.picture for sample in product_samples(train, queries=False)}
    assert catalogue == {picture for item in train for picture in item.images}
    categories = [item.product["category"] for item in test]
    assert sorted(categories) == sorted({item.product["category"] for item in train})


def test_a_catalogue_of_something_else_is_refused() -> None:
    item = CatalogueProduct({"product_id": "x", "category": "book", "attributes": {}}, (), ())
    with pytest.raises(SetupError, match="product x has no 'colour'"):
        product_samples([item])


def test_clothing_photos_have_their_class_and_their_colours(tmp_path: Path) -> None:
    with COLOURS_FILE.open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if "|" in row["colours"])
    split = row["photo"].partition("/")[0]
    for name in GARMENTS:
        (tmp_path / split / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / split / name / "unknown.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / row["photo"])
    samples = {sample.picture: sample for sample in clothing_samples(tmp_path, split)}
    assert len(samples) == len(GARMENTS) + 1
    known = samples[tmp_path / row["photo"]]
    assert known.colours == tuple(row["colours"].split("|"))
    assert known.noun == GARMENTS[row["photo"].split("/")[1]]
    unknown = samples[tmp_path / split / "t-shirt" / "unknown.jpg"]
    assert (unknown.colours, unknown.caption) == ((), "t-shirt")


def test_a_folder_without_the_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"holds no \.jpg photos"):
        clothing_samples(tmp_path, "train")


def test_the_colours_of_photos_name_each_photo_once() -> None:
    with COLOURS_FILE.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    photos = [row["photo"] for row in rows]
    assert len(set(photos)) == len(photos)
    assert all(re.fullmatch(r"(train|test)/[a-z-]+/[0-9a-f-]+\.jpg", photo) for photo in photos)
    assert {photo.split("/")[1] for photo in photos} == set(GARMENTS)
    # Only what is measured on may have several answers.
    assert all("|" not in row["colours"] for row in rows if row["photo"].startswith("train"))


def test_any_lower_case_words_can_be_written() -> None:
    tokenizer = tokenizer_from_captions(["red mug", "red striped mug"])
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3]
    assert len(tokenizer.encode("striped mug").ids) == 2
    for text in ("red mug", "jigsaw puzzle", "off-white t-shirt"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
