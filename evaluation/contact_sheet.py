"""A picture of queries and what they found, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from bls_models.images.decoding import ImageLimits, decode_image
from builders.graphs.calibration import spread
from evaluation.figures import Outcome

ROWS = 24
MATCHES = 5
TILE = 132
FRAME = 5
LABEL = 30
GAP = 10
GREEN, RED, GREY = (22, 150, 70), (205, 40, 40), (150, 150, 150)
LIMITS = ImageLimits(max_bytes=256 * 1024 * 1024, max_pixels=200_000_000)


def contact_sheet(
    outcomes: Sequence[Outcome], pictures: Mapping[str, Sequence[Path]]
) -> Image.Image:
    """Draw queries with their best five products, framed green (right) or red (wrong).

    Args:
        outcomes: queries; ``ROWS`` of them, evenly chosen, are drawn, in two columns.
        pictures: each product's pictures; the first is drawn.
    """
    chosen = spread(outcomes, ROWS)
    columns = 2 if len(chosen) > 1 else 1
    lines = -(-len(chosen) // columns)
    width, height = (MATCHES + 1) * (TILE + GAP) + 2 * GAP, TILE + LABEL + GAP
    sheet = Image.new("RGB", (columns * width + GAP, lines * height + GAP), "white")
    for number, outcome in enumerate(chosen):
        left = GAP + (number // lines) * width
        top = GAP + (number % lines) * height
        _draw_row(sheet, (left, top), outcome, pictures)
    return sheet


def _draw_row(
    sheet: Image.Image,
    corner: tuple[int, int],
    outcome: Outcome,
    pictures: Mapping[str, Sequence[Path]],
) -> None:
    query, (left, top) = outcome.query, corner
    wanted = ", ".join(sorted(query.product_ids))
    _draw_tile(sheet, corner, query.image, GREY, wanted, query.text if not query.image else "query")
    ranking = list(zip(outcome.ranking.product_ids, outcome.ranking.scores, strict=True))
    for place, (product_id, score) in enumerate(ranking[:MATCHES], start=1):
        found = pictures.get(product_id, ())
        _draw_tile(
            sheet,
            (left + place * (TILE + GAP) + GAP, top),
            found[0] if found else None,
            GREEN if product_id in query.product_ids else RED,
            product_id,
            f"{score:.3f}",
        )


def _draw_tile(
    sheet: Image.Image,
    corner: tuple[int, int],
    path: Path | None,
    colour: tuple[int, int, int],
    name: str,
    note: str,
) -> None:
    left, top = corner
    tile = Image.new("RGB", (TILE, TILE), "white")
    if path is not None:
        picture = Image.fromarray(decode_image(path.read_bytes(), str(path), LIMITS))
        side = TILE - 2 * FRAME
        tile.paste(ImageOps.pad(picture, (side, side), color="white"), (FRAME, FRAME))
    ImageDraw.Draw(tile).rectangle((0, 0, TILE - 1, TILE - 1), outline=colour, width=FRAME)
    sheet.paste(tile, corner)
    font = ImageFont.load_default(12)
    draw = ImageDraw.Draw(sheet)
    draw.text((left, top + TILE + 1), _fitted(name, font), fill="black", font=font)
    draw.text((left, top + TILE + 14), _fitted(note, font), fill=colour, font=font)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, cut to a tile's width."""
    if font.getlength(text) <= TILE:
        return text
    while text and font.getlength(f"{text}…") > TILE:
        text = text[:-1]
    return f"{text}…"
