"""Named colours shared by the catalogue, the variants and the materials."""

from __future__ import annotations

HEX: dict[str, str] = {
    "white": "f1efea",
    "cream": "eadcb9",
    "black": "1b1b1d",
    "grey": "85898e",
    "red": "c01a1c",
    "coral": "f0705c",
    "orange": "ea6a10",
    "yellow": "f4bd12",
    "lime": "9cc42a",
    "green": "24803c",
    "mint": "93d6bb",
    "teal": "0d777d",
    "sky": "74b4e8",
    "blue": "1a4fb4",
    "navy": "16244d",
    "purple": "5f2f97",
    "lilac": "b494da",
    "pink": "ee7fa8",
    "brown": "5c3620",
    "terracotta": "b4532f",
    "sand": "cdb48a",
    "oak": "c08a52",
    "walnut": "5f3a22",
    "beech": "dcb27c",
    "steel": "b9bdc2",
    "copper": "c8754a",
    "brass": "cfa24a",
    "graphite": "3a3d42",
}

Rgb = tuple[float, float, float]


def _linear(channel: int) -> float:
    """Convert one sRGB byte to scene-linear light."""
    value = channel / 255.0
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def linear(colour: str) -> Rgb:
    """Scene-linear RGB of a named colour, or of a bare six-digit hex value."""
    digits = HEX.get(colour, colour)
    red, green, blue = (_linear(int(digits[i : i + 2], 16)) for i in (0, 2, 4))
    return red, green, blue


def shade(rgb: Rgb, factor: float) -> Rgb:
    """Scale a linear colour, clipped to one."""
    red, green, blue = (min(1.0, c * factor) for c in rgb)
    return red, green, blue
