"""What was found in a photo, drawn on it: a box and the name of the first match for each object.

The photo is decoded as the server does it, upright and in the same colours, so that boxes are where
the server found them.
"""

from __future__ import annotations

import colorsys
import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from bls_models.errors import ImageError
from bls_models.images.decoding import ImageLimits, decode_image, encoded_bytes
from product_match_client.errors import BadRequestError
from product_match_client.results import Match, MatchedObject, MatchResult
from product_match_client.terminal import printable

# Whatever the server has taken can be drawn on.
LIMITS = ImageLimits(max_bytes=2**31, max_pixels=2**31)
# A smaller picture is enlarged, for its labels would hide it.
LEAST_LONGER_SIDE = 800
LEAST_FONT_SIZE = 11
# Beside Pillow's own, which has little more than ASCII: what is found of them on the machine, in
# this order, writes the names that Pillow's cannot.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
)
# A code point that no font has: what is drawn for it stands for all that are missing.
NO_CHARACTER = "\U0010fffe"
# Around lines and labels, so that they stand out from any photo.
DARK = (16, 16, 16)
WHITE = (255, 255, 255)
WIDEST_LABEL = 0.45
JPEG_QUALITY = 92

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Area:
    """A rectangle of pixels: ``x0`` and ``y0`` are in it, ``x1`` and ``y1`` are not."""

    x0: int
    y0: int
    x1: int
    y1: int

    def shared_with(self, other: Area) -> int:
        """How many pixels both have."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0, width) * max(0, height)


def picture_of_matches(photo: bytes, result: MatchResult) -> Image.Image:
    """The upright photo with a box and a label for each object.

    A label has the object's number and the name of its first match; without objects the whole
    photo has one. The object that fits the query's texts best has a thicker box.

    Args:
        photo: the encoded file, as it was sent.
        result: the answer.

    Returns:
        RGB, of the photo's size; a photo below 800 pixels is enlarged to that.

    Raises:
        BadRequestError: the photo cannot be decoded.
    """
    picture = _upright(photo)
    size = _font_size(picture.size)
    line = max(3, size // 6)
    whole = MatchedObject(0, (0.0, 0.0, 1.0, 1.0), 1.0, result.matches)
    objects = result.objects or (whole,)
    areas = [_area(item.box, picture.size) for item in objects]
    draw = ImageDraw.Draw(picture)
    for item, area in zip(objects, areas, strict=True):
        is_best = item.number > 0 and item.number == result.best_object
        _draw_box(draw, area, colour_of(item.number), 2 * line if is_best else line)
    fonts = _fonts(size)
    taken: list[Area] = []
    for item, area in zip(objects, areas, strict=True):
        most = max(area.x1 - area.x0, round(WIDEST_LABEL * picture.width))
        is_best = item.number > 0 and item.number == result.best_object
        label = _label(item, fonts, min(most, picture.width), is_best)
        place = place_of_label(area, label.size, picture.size, taken)
        picture.paste(label, (place.x0, place.y0))
        taken.append(place)
    return picture


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format that the name's ending says.

    Raises:
        BadRequestError: it cannot be written there, or the format cannot hold it.
    """
    stream = io.BytesIO()
    try:
        kind = Image.registered_extensions()[path.suffix.lower()]
        picture.save(stream, kind, quality=JPEG_QUALITY)
        path.write_bytes(stream.getvalue())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadRequestError(f"cannot write {path}: {reason}") from error


def colour_of(number: int) -> Colour:
    """A colour for the object of that number, unlike those of the numbers near it."""
    # Steps of the golden ratio never come close to where they were soon before.
    hue = (0.36 + number * 0.618034) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 1.0 if number % 2 else 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def name_of_match(match: Match, fonts: Sequence[Font]) -> tuple[str, Font]:
    """What a match is called on a label, and the font that can show it.

    That is the product's name; where no font has all of its characters, the name without accents,
    the product's id, or the name with a question mark for each that is missing.
    """
    name = one_line(match.product.get("name") or match.product_id)
    letters = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    for text in (name, plain, one_line(match.product_id)):
        for font in fonts:
            if not missing_characters(text, font):
                return text, font
    missing = missing_characters(name, fonts[0])
    return "".join("?" if letter in missing else letter for letter in name), fonts[0]


def missing_characters(text: str, font: Font) -> set[str]:
    """The characters of a text that a font cannot show."""
    nothing = font.getmask(NO_CHARACTER)
    shapes = {letter: font.getmask(letter) for letter in set(text) - {" "}}
    return {
        letter
        for letter, shape in shapes.items()
        if shape.size == nothing.size and bytes(shape) == bytes(nothing)
    }


def one_line(text: object) -> str:
    """A text in one line, what steers written as an escape."""
    return " ".join(printable(text).split())


def place_of_label(
    area: Area, label: tuple[int, int], picture: tuple[int, int], taken: Iterable[Area]
) -> Area:
    """Where a label goes: near its box, within the picture, over other labels only if it must.

    Args:
        area: the box.
        label: width and height of the label, pixels.
        picture: width and height of the picture, pixels.
        taken: where labels are already.
    """
    width, height = label
    most_x, most_y = max(0, picture[0] - width), max(0, picture[1] - height)
    left, right = min(area.x0, most_x), min(max(0, area.x1 - width), most_x)
    above, below, top, bottom = area.y0 - height, area.y1, area.y0, area.y1 - height
    near = [(x, y) for y in (above, below) for x in (left, right)]
    within = [(x, y) for y in (top, bottom) for x in (left, right)]
    elsewhere = sorted(range(0, most_y + 1, max(1, height // 2)), key=lambda y: abs(y - area.y0))
    places = [*near, *within, *((x, y) for y in elsewhere for x in (left, right))]
    fitting = [
        Area(x, y, x + width, y + height)
        for x, y in places
        if 0 <= x <= most_x and 0 <= y <= most_y
    ]
    others = list(taken)
    return min(fitting, key=lambda place: sum(place.shared_with(other) for other in others))


def _upright(photo: bytes) -> Image.Image:
    try:
        pixels = decode_image(encoded_bytes(photo, "image[0]", LIMITS), "image[0]", LIMITS)
    except ImageError as error:
        raise BadRequestError(f"cannot draw on the photo: {error}") from error
    picture = Image.fromarray(pixels)
    scale = LEAST_LONGER_SIDE / max(picture.size)
    if scale <= 1:
        return picture
    larger = (max(1, round(scale * picture.width)), max(1, round(scale * picture.height)))
    return picture.resize(larger, Image.Resampling.BICUBIC)


def _font_size(size: tuple[int, int]) -> int:
    """Of labels, pixels."""
    return max(LEAST_FONT_SIZE, min(max(size) // 44, min(size) // 12))


def _fonts(size: int) -> list[Font]:
    """Pillow's font, and those of the machine."""
    default = ImageFont.load_default(size)
    assert isinstance(default, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    fonts = [default]
    for name in SYSTEM_FONTS:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return fonts


def _area(box: Sequence[float], size: tuple[int, int]) -> Area:
    """The pixels of a box, at least one, within the picture."""
    width, height = size
    x0 = min(max(0, round(box[0] * width)), width - 1)
    y0 = min(max(0, round(box[1] * height)), height - 1)
    x1 = min(max(x0 + 1, round(box[2] * width)), width)
    y1 = min(max(y0 + 1, round(box[3] * height)), height)
    return Area(x0, y0, x1, y1)


def _draw_box(draw: ImageDraw.ImageDraw, area: Area, colour: Colour, line: int) -> None:
    """A line in the colour, with a dark edge on both sides."""
    edge = max(1, line // 3)
    corners = (area.x0, area.y0, area.x1 - 1, area.y1 - 1)
    draw.rectangle(corners, outline=DARK, width=line + 2 * edge)
    inner = (corners[0] + edge, corners[1] + edge, corners[2] - edge, corners[3] - edge)
    if inner[0] <= inner[2] and inner[1] <= inner[3]:
        draw.rectangle(inner, outline=colour, width=line)


def _label(item: MatchedObject, fonts: Sequence[Font], most: int, is_best: bool) -> Image.Image:
    """A label as a picture of its own, at most ``most`` pixels wide, so that nothing sticks out."""
    size = round(fonts[0].size)
    name, font = name_of_match(item.matches[0], fonts) if item.matches else ("no match", fonts[0])
    number = f"{item.number} " if item.number else ""
    end = " (best)" if is_best else ""
    padding, edge = max(2, size // 4), max(1, size // 14)
    room = most - 2 * (padding + edge)
    text = number + name + end
    while font.getlength(text) > room and name:
        name = name[:-1]
        text = number + name.rstrip() + "..." + end
    width = min(most, round(font.getlength(text)) + 2 * (padding + edge))
    height = round(1.25 * size) + 2 * (padding // 2 + edge)
    colour = colour_of(item.number)
    label = Image.new("RGB", (max(1, width), height), DARK)
    draw = ImageDraw.Draw(label)
    draw.rectangle((edge, edge, width - 1 - edge, height - 1 - edge), fill=colour)
    draw.text((padding + edge, height // 2), text, font=font, anchor="lm", fill=_ink(colour))
    return label


def _ink(colour: Colour) -> Colour:
    """Dark or white, whichever reads better on a colour."""
    red, green, blue = colour
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else WHITE
