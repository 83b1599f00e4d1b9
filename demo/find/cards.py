"""Matches as cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from demo.find.query import Query
from demo.pictures import Picture
from product_match_client.results import Match

CAPTION_CHARACTERS = 160


def cards_html(
    matches: Sequence[Match],
    pictures: Mapping[str | None, Picture],
    query: Query,
    request_id: str,
    is_likely: bool,
) -> str:
    """A list of matches.

    Args:
        matches: best first.
        pictures: by their sha256.
        query: that they answer.
        request_id: of its answer, which feedback names.
        is_likely: whether the server takes the first for the one that was asked for.
    """
    cards = "".join(
        _card(match, pictures[match.picture], query, request_id, is_likely and rank == 0)
        for rank, match in enumerate(matches)
    )
    return f'<ol class="find-cards">{cards}</ol>'


def name_of(match: Match) -> str:
    """What a product is called; its id where the database did not answer."""
    return str(match.product.get("name") or match.product_id)


def price_of(product: Mapping[str, Any]) -> str:
    """A price with its currency; empty where there is none."""
    price = product.get("price")
    return "" if price is None else f"{price:,.2f} {product.get('currency') or ''}".strip()


def _card(match: Match, picture: Picture, query: Query, request_id: str, is_likely: bool) -> str:
    name, product = name_of(match), match.product
    badge = '<span class="find-likely">likely</span>' if is_likely else ""
    about = " · ".join(part for part in (price_of(product), product.get("category")) if part)
    description = str(product.get("description") or "")
    if len(description) > CAPTION_CHARACTERS:
        description = description[:CAPTION_CHARACTERS].rstrip() + "…"
    looks = "Photo" if query.sends_photo else "Pictures"
    bars = _bar(looks, match.image_score) + _bar("Words", match.text_score)
    about_product = f'data-product="{escape(match.product_id)}"'
    told = f'{about_product} data-request="{escape(request_id)}"'
    return (
        f'<li class="find-card" {about_product}>{badge}{picture.html(name)}'
        f'<h3 class="find-name">{escape(name)}</h3>'
        f'<p class="find-about">{escape(about)}</p>'
        f'<p class="find-description">{escape(description)}</p>'
        f'<dl class="find-scores">{_bar("Score", match.score)}{bars}</dl>'
        '<div class="find-actions">'
        f"{_button('like', 'More like this', f'{about_product} data-name={quoted(name)}', name)}"
        f"{_button('edit', 'Edit', about_product, name)}"
        f"{_button('judge', 'Right', f'{told} data-event=accepted', name)}"
        f"{_button('judge', 'Wrong', f'{told} data-event=rejected', name)}"
        "</div></li>"
    )


def quoted(text: str) -> str:
    """A value of an HTML attribute."""
    return f'"{escape(text)}"'


def _button(does: str, label: str, told: str, name: str) -> str:
    return (
        f'<button type="button" class="pm-button" data-does="{does}" {told} '
        f'aria-label="{label}: {escape(name)}">{label}</button>'
    )


def _bar(label: str, score: float | None) -> str:
    """A score from -1 to 1 as a number and a bar, which begins at 0."""
    if score is None:
        return ""
    width = 100 * min(max(score, 0.0), 1.0)
    return (
        f"<div><dt>{label}</dt><dd>{score:.2f}</dd>"
        f'<span class="find-bar" aria-hidden="true"><i style="width:{width:.0f}%"></i></span></div>'
    )
