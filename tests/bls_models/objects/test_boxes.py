"""Boxes: what they share, which are of one object, and where they lie on a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bls_models.images.preprocessing import RESIZE_MODES, Crop, Preprocess, prepare_pixels
from bls_models.objects.boxes import of_whole, on_picture, overlaps, with_margin, without_repeats
from bls_models.vectors import FloatArray

SIDE = 64


def boxes(*corners: tuple[float, float, float, float]) -> FloatArray:
    return np.array(corners, np.float32).reshape(-1, 4)


def test_overlaps_are_shares_of_what_both_cover() -> None:
    found = overlaps(
        boxes((0, 0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)),
        boxes((0, 0, 0.5, 0.5), (0.25, 0, 0.75, 0.5), (0.5, 0.5, 1, 1), (0.5, 0.5, 0.5, 0.5)),
    )
    np.testing.assert_allclose(found[0], [1, 1 / 3, 0, 0])
    # What has no area shares nothing, itself included.
    np.testing.assert_array_equal(found[1], [0, 0, 0, 0])


def test_of_boxes_that_share_much_the_first_is_kept() -> None:
    several = boxes((0, 0, 0.5, 0.5), (0.02, 0, 0.52, 0.5), (0.3, 0, 0.8, 0.5), (0, 0, 0.5, 0.49))
    assert without_repeats(several, 0.5).tolist() == [0, 2]
    assert without_repeats(several[::-1], 0.5).tolist() == [0, 1]
    assert without_repeats(several, 1.0).tolist() == [0, 1, 2, 3]
    assert without_repeats(boxes(), 0.5).tolist() == []


@pytest.mark.parametrize("resize", RESIZE_MODES)
@pytest.mark.parametrize("size", [(120, 60), (60, 120), (80, 80)])
def test_a_box_found_in_the_square_lies_where_it_was_seen(
    resize: str, size: tuple[int, int]
) -> None:
    """A red patch is looked for in the pixels, and its box must cover it in the picture."""
    width, height = size
    patch = (width * 0.4, height * 0.45, width * 0.65, height * 0.6)
    picture = Image.new("RGB", size, "black")
    picture.paste("red", tuple(map(round, patch)))
    preprocess = Preprocess(SIDE, resize)
    pixels = prepare_pixels(np.asarray(picture), preprocess)
    # The padding is white.
    rows, columns = np.nonzero((pixels[..., 0] > 127) & (pixels[..., 2] < 64))
    seen = np.array(
        [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32
    ) / np.float32(SIDE)
    (placed,) = on_picture(seen, size, preprocess)
    expected = np.array(patch) / [width, height, width, height]
    np.testing.assert_allclose(placed, expected, atol=2.5 / SIDE)


def test_padding_is_not_of_the_picture() -> None:
    wide = on_picture(boxes((0, 0, 1, 1), (0.2, 0, 0.4, 0.2)), (200, 100), Preprocess(SIDE, "pad"))
    np.testing.assert_allclose(wide[0], [0, 0, 1, 1])
    # That one was above it.
    assert wide[1, 1] == wide[1, 3] == 0


@pytest.mark.parametrize("part", [None, (0.5, 0.25, 1.0, 0.75)])
def test_shares_of_a_part_become_shares_of_the_whole(part: Crop | None) -> None:
    found = of_whole((0.5, 0.0, 1.0, 0.5), part)
    assert found == ((0.5, 0.0, 1.0, 0.5) if part is None else (0.75, 0.25, 1.0, 0.5))


def test_a_margin_ends_where_the_picture_does() -> None:
    assert with_margin((0.4, 0.0, 0.6, 0.5), 0.5) == pytest.approx((0.3, 0.0, 0.7, 0.75))
    assert with_margin((0.0, 0.0, 1.0, 1.0), 0.1) == (0.0, 0.0, 1.0, 1.0)
