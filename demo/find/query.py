"""What a visitor asks for, and the request that this becomes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from product_match_client.calls import MatchOptions
from product_match_client.documents import price_from_text
from product_match_client.errors import BadRequestError

NO_WEIGHT = 1.0


@dataclass(frozen=True)
class Liked:
    """A product that more are wanted like.

    Attributes:
        product_id: its id.
        name: what it is called on the page.
    """

    product_id: str
    name: str


@dataclass(frozen=True)
class Query:
    """One search.

    Attributes:
        photo: the visitor's file, as it was uploaded.
        words: what it should be, in words.
        liked: more like this one; the photo is then left out.
        filter: conditions, in the client's form; empty: none.
        photo_weight: of the photo beside words.
        words_weight: of the words beside a photo or a product.
        min_score: None: the server's own.
        top_k: matches wanted.
        objects: ``auto`` or ``never``.
    """

    photo: Path | None = None
    words: str = ""
    liked: Liked | None = None
    filter: dict[str, Any] = field(default_factory=dict)
    photo_weight: float = NO_WEIGHT
    words_weight: float = NO_WEIGHT
    min_score: float | None = None
    top_k: int = 6
    objects: str = "auto"

    @property
    def sends_photo(self) -> bool:
        """Whether the photo is part of the request."""
        return self.photo is not None and self.liked is None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.sends_photo or self.words or self.liked)

    def options(self) -> MatchOptions:
        """The client's options; what is as the server has it is left out."""
        options: MatchOptions = {}
        if self.liked:
            options["like"] = self.liked.product_id
        if self.words and (self.sends_photo or self.liked):
            if self.sends_photo and self.photo_weight != NO_WEIGHT:
                options["image_weights"] = [self.photo_weight]
            if self.words_weight != NO_WEIGHT:
                options["text_weights"] = [self.words_weight]
        options["top_k"] = self.top_k
        if self.filter:
            options["filter"] = self.filter
        if self.min_score is not None:
            options["min_score"] = self.min_score
        if self.sends_photo:
            options["objects"] = self.objects
        return options


def liked_from_text(text: str | None) -> Liked | None:
    """The product that the page's script names, as JSON of its id and name; None for none.

    Raises:
        BadRequestError: it is something else.
    """
    if not text:
        return None
    try:
        match json.loads(text):
            case [str(product_id), str(name)]:
                return Liked(product_id, name)
    except (ValueError, RecursionError):
        pass
    raise BadRequestError(f"like: got {text[:80]!r}; expected a list of an id and a name")


def number_of(label: str, text: str | None) -> float | None:
    """The number in one of the page's fields, read as prices are; None where the field is empty.

    Raises:
        BadRequestError: it is no finite number.
    """
    if not text or not text.strip():
        return None
    try:
        return price_from_text(text)
    except ValueError:
        raise BadRequestError(f"{label}: got {text!r}; expected a number, as 0.5 or 20") from None


def filter_of(
    categories: list[str], least_price: float | None, most_price: float | None
) -> dict[str, Any]:
    """The conditions of the page's filters; what is left open is no condition."""
    conditions: dict[str, Any] = {}
    if categories:
        conditions["category"] = {"$in": categories}
    bounds = {"$gte": least_price, "$lte": most_price}
    price = {name: bound for name, bound in bounds.items() if bound is not None}
    if price:
        conditions["price"] = price
    return conditions
