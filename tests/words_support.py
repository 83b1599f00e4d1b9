"""The share of a text's words that products have, counted by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bls_models.index.words.shares import NUMBER_WEIGHT
from bls_models.index.words.tokens import chunks, is_number, singular, whole_name, with_whole, words


def shares_by_hand(text: str, products: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """By product id the share, 0 to 1, for texts without numbers that are mistyped or in groups.

    Args:
        text: of a query.
        products: fields by product id.
    """
    having = {product_id: _words_of(product_id, held) for product_id, held in products.items()}

    def weight(word: str) -> float:
        count = sum(word in own for own in having.values())
        return math.log(1 + (len(having) - count + 0.5) / (count + 0.5))

    def is_known(word: str) -> bool:
        return any(word in own for own in having.values())

    asked: dict[str, float] = {}
    parts = chunks(text)
    for own in parts:
        whole, excused = "".join(own), False
        if is_number(whole) or len(own) > 1:
            excused = is_known(singular(whole))
            if excused:
                factor = NUMBER_WEIGHT if is_number(whole) else 1
                asked.setdefault(singular(whole), factor * weight(singular(whole)))
        for word in map(singular, own):
            if is_known(word) or not excused:
                asked.setdefault(word, weight(word))
    name = whole_name(word for own in parts for word in with_whole(own))
    if is_known(name):
        asked[name] = weight(name)
    total = sum(asked.values())
    return {
        product_id: sum(asked[word] for word in asked.keys() & own) / total if total else 0.0
        for product_id, own in having.items()
    }


def _words_of(product_id: str, fields: Mapping[str, Any]) -> set[str]:
    found = {words(product_id)[-1], *words(fields.get("category", ""))}
    if "name" in fields:
        found |= {*words(fields["name"]), whole_name(words(fields["name"]))}
    for value in fields.get("attributes", {}).values():
        if isinstance(value, str):
            found |= set(words(value))
    return found
