"""Random new products of every family, with matching shop data, to train and test on."""

from __future__ import annotations

import random
import re

from .look import Look, Product, seeded
from .ranges import RANGES, Range

BRANDS = ("Aldermoor", "Brackwell Goods", "Tindlewick", "Osprava", "Marrowby", "Kestelund")
PLAIN_COLOURS = (
    "white", "cream", "black", "grey", "red", "coral", "orange", "yellow", "lime", "green",
    "mint", "teal", "sky", "blue", "navy", "purple", "lilac", "pink", "brown",
)  # fmt: skip
SPOKEN = {"sky": "sky blue", "oak": "oak", "beech": "beech", "steel": "steel"}
PATTERN_WORDS = {
    "stripes": ("striped", "with {} stripes"),
    "bands": ("banded", "with {} bands"),
    "dots": ("dotted", "with {} dots"),
    "checks": ("checked", "with {} checks"),
    "zigzag": ("zigzag", "with a {} zigzag"),
    "speckle": ("speckled", "with {} speckles"),
}


def say(colour: str) -> str:
    """A colour as people write it."""
    return SPOKEN.get(colour, colour)


def _number(rng: random.Random, value: tuple[float, float]) -> float:
    """A proportion within its range, rounded so that records stay short."""
    return round(rng.uniform(*value), 2)


def _look(family: str, span: Range, rng: random.Random) -> tuple[Look, str]:
    """Draw a look; also return the word for its proportions, or nothing."""
    finish = rng.choice(list(span.finishes))
    colour = rng.choice(span.colours.get(finish, PLAIN_COLOURS))
    pattern = rng.choice(span.patterns) if finish not in span.colours else "plain"
    if rng.random() < 0.3:
        pattern = "plain"
    pool = [c for c in (span.accents if pattern == "plain" else PLAIN_COLOURS) if c != colour]
    if pattern != "plain":
        # Light on light and dark on dark would hide the pattern.
        light = ("white", "cream", "yellow", "mint", "sky", "lilac", "lime", "pink")
        pool = [c for c in pool if (c in light) != (colour in light)]
    shape: dict[str, float] = {k: _number(rng, v) for k, v in span.shape.items()}
    shape |= {k: rng.choice(v) for k, v in span.choices.items()}
    word = ""
    if span.words is not None:
        key, low, high = span.words
        bottom, top = span.shape[key]
        place = (shape[key] - bottom) / (top - bottom)
        word = low if place < 0.3 else high if place > 0.7 else ""
    repeats = rng.choice(span.repeats)
    return Look(family, colour, rng.choice(pool), pattern, finish, repeats, shape), word


def variant(family: str, number: int, seed: int) -> Product:
    """The numbered random product of a family."""
    rng = seeded("variant", seed, family, number)
    span = RANGES[family]
    look, word = _look(family, span, rng)
    material = span.finishes[look.finish]
    style = PATTERN_WORDS.get(look.pattern, ("", ""))
    noun = next((n for flag, n in span.nouns.items() if look.get(flag, 0)), span.noun)
    title = " ".join(w for w in (word, style[0], noun) if w)
    details = [style[1].format(say(look.accent))] if style[1] else []
    if span.part and (not span.part_flag or look.get(span.part_flag, 0)):
        details.append(span.part.format(say(look.accent)))
    words = [w for w in (word, say(look.colour)) if w]
    if look.finish not in span.colours:  # "a walnut wooden stool" says it twice
        words.append(material)
    sentence = f"a {' '.join(words)} {noun}"
    if details:
        joined = " and ".join(details)
        sentence += " " + joined.replace("and with", "and").replace("and holding", "holding")
    sentence = re.sub(r"\ba (?=[aeiou])", "an ", sentence)
    facts = [
        table[look.shape[key]] for key, table in span.facts.items() if look.shape[key] in table
    ]
    text = " ".join([f"{sentence[0].upper()}{sentence[1:]}.", *facts[:2]])
    price = round(rng.uniform(*span.price)) - 0.1
    return Product(
        product_id=f"{family}-v{seed}-{number:04d}",
        name=f"{title[0].upper()}{title[1:]}, {say(look.colour)}",
        description=text,
        category=span.category or span.noun,
        price=round(price, 2),
        material=material,
        brand=rng.choice(BRANDS),
        size=rng.choice(span.sizes),
        look=look,
    )


def variants(count: int, seed: int) -> list[Product]:
    """`count` random products of every family."""
    return [variant(family, i, seed) for family in RANGES for i in range(count)]
