"""Photos with what was found in them drawn on, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from bls_models.images.decoding import decode_image
from builders.graphs.calibration import spread
from evaluation.contact_sheet import GREEN, GREY, LIMITS, RED
from evaluation.scenes.figures import SceneOutcome, first_match
from evaluation.scenes.sets import Box

PHOTOS = 24
COLUMNS = 4
SIDE = 400
GAP = 10
LINE = 3
DASH = 7
FONT = 12
AMBER = (235, 150, 0)

Colour = tuple[int, int, int]


def scenes_sheet(outcomes: Sequence[SceneOutcome]) -> Image.Image:
    """Draw photos with a box for each object, and the name of its first match.

    Green boxes are products with the right first match and red ones with a wrong one; amber ones
    are no product's, and what was missed has a dashed grey one with its own name.

    Args:
        outcomes: photos; ``PHOTOS`` of them, evenly chosen, are drawn.
    """
    chosen = spread(outcomes, PHOTOS)
    columns = min(COLUMNS, len(chosen))
    lines = -(-len(chosen) // columns)
    step = SIDE + GAP
    sheet = Image.new("RGB", (columns * step + GAP, lines * step + GAP), "white")
    for number, outcome in enumerate(chosen):
        corner = (GAP + number % columns * step, GAP + number // columns * step)
        sheet.paste(_drawn(outcome), corner)
    return sheet


def _drawn(outcome: SceneOutcome) -> Image.Image:
    image = outcome.scene.image
    picture = Image.fromarray(decode_image(image.read_bytes(), str(image), LIMITS))
    scale = SIDE / max(picture.size)
    picture = picture.resize(
        (max(1, round(scale * picture.width)), max(1, round(scale * picture.height)))
    )
    draw = ImageDraw.Draw(picture)
    for item in outcome.further:
        _draw_box(draw, picture.size, item.box, AMBER)
        _write(draw, picture.size, item.box, AMBER, first_match(item) or "no match")
    for product, found in zip(outcome.scene.products, outcome.found, strict=True):
        if found is None:
            _draw_dashes(draw, picture.size, product.box)
            _write(draw, picture.size, product.box, GREY, product.name)
            continue
        name = first_match(found)
        colour = GREEN if name in product.product_ids else RED
        _draw_box(draw, picture.size, found.box, colour)
        _write(draw, picture.size, found.box, colour, name or "no match")
    return picture


def _pixels(size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """A box in pixels, within the picture."""
    x0, x1 = (min(max(0, round(box[at] * size[0])), size[0] - 1) for at in (0, 2))
    y0, y1 = (min(max(0, round(box[at] * size[1])), size[1] - 1) for at in (1, 3))
    return x0, y0, max(x0, x1), max(y0, y1)


def _draw_box(draw: ImageDraw.ImageDraw, size: tuple[int, int], box: Box, colour: Colour) -> None:
    draw.rectangle(_pixels(size, box), outline=colour, width=LINE)


def _draw_dashes(draw: ImageDraw.ImageDraw, size: tuple[int, int], box: Box) -> None:
    x0, y0, x1, y1 = _pixels(size, box)
    for low, high in _dashes(x0, x1):
        for y in (y0, y1):
            draw.line((low, y, high, y), fill=GREY, width=LINE)
    for low, high in _dashes(y0, y1):
        for x in (x0, x1):
            draw.line((x, low, x, high), fill=GREY, width=LINE)


def _dashes(start: int, end: int) -> Iterator[tuple[int, int]]:
    for low in range(start, end + 1, 2 * DASH):
        yield low, min(low + DASH, end)


def _write(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], box: Box, colour: Colour, text: str
) -> None:
    """A label inside the box's upper left corner, moved left where the picture ends."""
    font = ImageFont.load_default(FONT)
    x0, y0, _, _ = _pixels(size, box)
    width, height = round(font.getlength(text)) + 4, FONT + 4
    left, top = max(0, min(x0, size[0] - width)), max(0, min(y0, size[1] - height))
    draw.rectangle((left, top, left + width, top + height), fill=colour)
    draw.text((left + 2, top + 1), text, fill="white", font=font)
