"""Pictures in other colours, so that a captioner cannot learn colours by heart from kinds."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image

from bls_models.vectors import Pixels
from builders.caption_training.phrases import SPOKEN
from seed.render.palette import HEX

# Palette colours that any surface can have; the others are woods, metals and clay.
TARGETS = (
    "red", "coral", "orange", "yellow", "lime", "green", "mint", "teal", "sky", "blue", "navy",
    "purple", "lilac", "pink", "brown", "white", "grey", "black",
)  # fmt: skip
ACHROMATIC = ("white", "black", "grey", "steel", "graphite")

# Share of the saturation that is left where the target has no hue.
WASHED = 0.06

# Beyond these exponents shadows and highlights no longer look like a photo's.
SATURATION_EXPONENTS = (0.2, 6.0)
VALUE_EXPONENTS = (0.3, 4.0)

_BY_WORDS = {SPOKEN.get(name, name): name for name in HEX}


def targets(colour: str) -> list[str]:
    """Colours, as captions say them, that a picture of a product can be given.

    Args:
        colour: the product's, as captions say it; it is among the answers if it has a hue. For a
            colour without a hue the only answer is itself, for an unknown one there is none.
    """
    source = _BY_WORDS.get(colour)
    if source is None:
        return []
    if source in ACHROMATIC:
        return [colour]
    return [SPOKEN.get(name, name) for name in TARGETS if _reachable(source, name)]


def recoloured(image: Image.Image, source: str, target: str, turn: float = 0.0) -> Image.Image:
    """A picture changed as a whole, so that what had one colour has the other.

    White stays white and black black; other things in the picture change along.

    Args:
        image: RGB.
        source: a colour as captions say it, of the palette of the renders.
        target: one of ``targets(source)``.
        turn: change of hue, 0 to 1, where the source has none and is the target too.
    """
    hue, saturation, value, wash = 0.0, 1.0, 1.0, 1.0
    if source in ACHROMATIC:
        hue = turn
    elif source != target:
        before, after = _hsv(_BY_WORDS[source]), _hsv(_BY_WORDS[target])
        hue = after[0] - before[0]
        saturation, value = (_exponent(before[channel], after[channel]) for channel in (1, 2))
        if target in ACHROMATIC:
            saturation, wash = 1.0, WASHED
    pixels = np.asarray(image.convert("HSV"), np.float32) / 255
    pixels[..., 0] = (pixels[..., 0] + hue) % 1.0
    pixels[..., 1] = pixels[..., 1] ** saturation * wash
    pixels[..., 2] **= value
    changed: Pixels = np.round(pixels * 255).astype(np.uint8)
    return Image.fromarray(changed, "HSV").convert("RGB")


def _reachable(source: str, target: str) -> bool:
    before, after = _hsv(source), _hsv(target)
    bounds = {1: SATURATION_EXPONENTS, 2: VALUE_EXPONENTS}
    if target in ACHROMATIC:
        del bounds[1]
    return all(
        low <= _exponent(before[channel], after[channel]) <= high
        for channel, (low, high) in bounds.items()
    )


def _hsv(name: str) -> tuple[float, float, float]:
    red, green, blue = (byte / 255 for byte in bytes.fromhex(HEX[name]))
    return colorsys.rgb_to_hsv(red, green, blue)


def _exponent(before: float, after: float) -> float:
    """The power that leads from one share to the other; both lie between 0 and 1."""
    return math.log(after) / math.log(before)
