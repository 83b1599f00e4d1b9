"""The picture of what was found in a photo."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont
from serving_support import encoded, picture

from product_match_client import BadRequestError, Match, MatchedObject, MatchResult, drawing
from product_match_client.drawing import (
    Area,
    colour_of,
    name_of_match,
    picture_of_matches,
    place_of_label,
    save_picture,
)

GREY = (128, 128, 128)
BOX = (0.25, 0.5, 0.5, 0.75)
FONT: Any = ImageFont.load_default(20)


@pytest.fixture(autouse=True)
def only_pillows_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "SYSTEM_FONTS", ())


def match(name: str, product_id: str = "id-1") -> Match:
    return Match(product_id, 0.9, 0.9, None, {"name": name})


def photo(width: int, height: int, kind: str = "PNG", **options: Any) -> bytes:
    return encoded(Image.new("RGB", (width, height), GREY), kind, **options)


def objects(*boxes: tuple[float, float, float, float], name: str = "Mug") -> MatchResult:
    found = [
        MatchedObject(number, box, 0.5, (match(name),)) for number, box in enumerate(boxes, start=1)
    ]
    return MatchResult((), {"best_object": None}, "", tuple(found))


def changed(image: Image.Image) -> Any:
    """(H, W) bool: where there is something else than the grey photo."""
    return (np.asarray(image) != GREY).any(-1)


def has_colour(image: Image.Image, number: int) -> Any:
    """(H, W) bool: where the object's colour is."""
    return (np.asarray(image) == colour_of(number)).all(-1)


def test_a_box_is_drawn_where_the_object_is() -> None:
    image = picture_of_matches(photo(1000, 800), objects(BOX))
    assert image.size == (1000, 800)
    rows, columns = np.nonzero(has_colour(image, 1)[400:, :])
    assert (columns.min(), columns.max()) == (pytest.approx(250, abs=4), pytest.approx(499, abs=4))
    assert rows.max() == pytest.approx(199, abs=4)
    # Nothing is drawn over the object itself, nor far from its box.
    drawn = changed(image)
    assert not drawn[420:580, 270:480].any()
    assert not drawn[:340, :].any()


def test_boxes_are_drawn_on_the_upright_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image = picture_of_matches(photo(1000, 800, "JPEG", exif=exif), objects(BOX))
    assert image.size == (800, 1000)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "WEBP", "GIF", "BMP"])
def test_any_format_that_the_server_takes_is_drawn_on(kind: str) -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    assert picture_of_matches(photo(900, 810, kind), objects(BOX)).size == (900, 810)


def test_what_is_no_photo_is_a_bad_request() -> None:
    with pytest.raises(BadRequestError, match="cannot draw on the photo"):
        picture_of_matches(b"no photo", objects(BOX))


def test_a_small_photo_is_enlarged_for_its_labels() -> None:
    assert picture_of_matches(photo(60, 40), objects(BOX)).size == (800, 533)


@pytest.mark.parametrize("size", [(1, 1), (2000, 7), (7, 2000), (4000, 3000)])
def test_a_photo_of_any_shape_is_drawn_on(size: tuple[int, int]) -> None:
    result = objects((0, 0, 1, 1), (0.5, 0.5, 0.5, 0.5), (0.999, 0.999, 1, 1), (0, 0, 0.001, 0.001))
    assert picture_of_matches(photo(*size), result).size[0] >= size[0]


def test_labels_of_a_larger_photo_are_larger() -> None:
    heights = []
    for side in (1000, 3000):
        image = picture_of_matches(photo(side, side), objects(BOX))
        heights.append(int(changed(image)[: side // 2, :].any(1).sum()))
    assert heights[1] == pytest.approx(3 * heights[0], rel=0.2)


def test_without_objects_the_whole_photo_has_a_label() -> None:
    image = picture_of_matches(photo(900, 900), MatchResult((match("Mug"),), {}))
    drawn = changed(image)
    assert drawn[0, :].all()
    assert drawn[-1, :].all()
    assert not drawn[100:800, 100:800].any()


def test_the_object_that_fits_the_texts_best_stands_out() -> None:
    result = objects(BOX, (0.6, 0.5, 0.85, 0.75))
    marked = MatchResult((), {"best_object": 2}, "", result.objects)
    plain, best = (picture_of_matches(photo(900, 900), item) for item in (result, marked))
    assert has_colour(best, 1).sum() == has_colour(plain, 1).sum()
    assert has_colour(best, 2).sum() > 1.5 * has_colour(plain, 2).sum()


def test_an_object_without_matches_is_drawn_like_one_of_that_name() -> None:
    unknown = MatchResult((), {}, "", (MatchedObject(1, BOX, 0.5, ()),))
    named = picture_of_matches(photo(900, 900), objects(BOX, name="no match"))
    assert picture_of_matches(photo(900, 900), unknown) == named


def test_objects_have_different_colours() -> None:
    colours = [colour_of(number) for number in range(21)]
    for one, other in itertools.pairwise(colours):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 80
    assert len(set(colours)) == 21


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Classic mug, red", "Classic mug, red"),
        ("two\n lines\tin one", "two lines in one"),
        ("Täßchen", "id-1"),
        ("Café au lait", "Cafe au lait"),
        ("日本の湯のみ", "id-1"),
        ("", "id-1"),
        ("\x1b[31m \ud800 \u202e", r"\x1b[31m \ud800 \u202e"),
    ],
)
def test_a_name_that_no_font_has_is_shown_as_well_as_can_be(name: str, shown: str) -> None:
    assert name_of_match(match(name), [FONT])[0] == shown


def test_a_name_and_an_id_that_no_font_has_are_question_marks() -> None:
    assert name_of_match(match("Mug 日本", "日本"), [FONT])[0] == "Mug ??"


@pytest.mark.parametrize("name", ["M" * 512, "\U0001f375" * 512, "e\u0301" * 256, "\u0335" * 512])
def test_a_name_of_any_length_stays_in_its_label(name: str) -> None:
    image = picture_of_matches(photo(1000, 800), objects((0.4, 0.5, 0.6, 0.7), name=name))
    assert changed(image).any(0).sum() < 0.5 * 1000


def overlap(places: list[Area]) -> int:
    return sum(one.shared_with(other) for one, other in itertools.combinations(places, 2))


def test_labels_stay_in_the_picture_and_do_not_hide_each_other() -> None:
    size, label = (1000, 800), (300, 30)
    placed: list[Area] = []
    # One box twenty times.
    for _ in range(20):
        placed.append(place_of_label(Area(900, 5, 1000, 700), label, size, placed))
    assert overlap(placed) == 0
    for place in placed:
        assert 0 <= place.x0 <= place.x1 <= 1000
        assert 0 <= place.y0 <= place.y1 <= 800


def test_a_label_is_above_its_box_where_there_is_room() -> None:
    size, label = (1000, 800), (100, 30)
    assert place_of_label(Area(200, 300, 400, 500), label, size, []) == Area(200, 270, 300, 300)
    assert place_of_label(Area(200, 10, 400, 500), label, size, []) == Area(200, 500, 300, 530)
    assert place_of_label(Area(0, 0, 1000, 800), label, size, []) == Area(0, 0, 100, 30)


def test_a_picture_is_written_in_the_format_of_its_name(tmp_path: Path) -> None:
    image = Image.open(io.BytesIO(picture(1)))
    for name, kind in (("a.png", "PNG"), ("b.JPEG", "JPEG"), ("c.webp", "WEBP")):
        save_picture(image, tmp_path / name)
        with Image.open(tmp_path / name) as written:
            assert written.format == kind
    with pytest.raises(BadRequestError, match=r"cannot write .*: No such file"):
        save_picture(image, tmp_path / "no" / "a.png")
    # More than the format can hold.
    with pytest.raises(BadRequestError, match=r"cannot write .*a\.webp"):
        save_picture(Image.new("RGB", (20_000, 1)), tmp_path / "a.webp")
