"""How a product is said in a caption: colour, pattern, noun, in few words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PATTERNS: Mapping[str, str] = {
    "plain": "",
    "stripes": "striped",
    "bands": "banded",
    "dots": "dotted",
    "checks": "checked",
    "zigzag": "zigzag",
    "speckle": "speckled",
}

# The catalogue's names of colours that a caption says otherwise.
SPOKEN: Mapping[str, str] = {"sky": "sky blue"}

# Folders of the clothing photos -> nouns.
GARMENTS: Mapping[str, str] = {
    "dress": "dress",
    "hat": "hat",
    "longsleeve": "long-sleeved top",
    "outwear": "jacket",
    "pants": "trousers",
    "shirt": "shirt",
    "shoes": "shoes",
    "shorts": "shorts",
    "skirt": "skirt",
    "t-shirt": "t-shirt",
}

# Sets of rings have a colour each; the product's own colour is that of the post.
MULTICOLOURED = "stacking rings"
RING_COLOURS: Mapping[str, str] = {
    "rainbow": "rainbow",
    "pastel": "pastel",
    "shades of wood": "wooden",
    "navy": "blue",
    "ocean": "blue",
    "brown": "brown",
}


def phrase(colour: str, noun: str, pattern: str = "") -> str:
    """A caption from its words; the pattern may be empty."""
    return " ".join(word for word in (colour, pattern, noun) if word)


def product_words(product: Mapping[str, Any]) -> tuple[str, str, str]:
    """Colour, pattern and noun of a product of the sample catalogue or of the renderer.

    Raises:
        KeyError: it has no category, or attributes without a colour.
    """
    attributes = product["attributes"]
    noun = product["category"]
    colour = SPOKEN.get(attributes["colour"], attributes["colour"])
    if noun == MULTICOLOURED:
        colour = _ring_colour(f"{product['name']} {product['description']}".lower(), colour)
    return colour, PATTERNS[attributes.get("pattern", "plain")], noun


def _ring_colour(text: str, default: str) -> str:
    found = re.search("|".join(RING_COLOURS), text)
    return RING_COLOURS[found[0]] if found else default
