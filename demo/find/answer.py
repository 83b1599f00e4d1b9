"""An answer as the page shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from demo.find.cards import cards_html, name_of
from demo.find.query import Query
from demo.find.timings import timings_html
from demo.pictures import Picture
from product_match_client.results import Match, MatchedObject, MatchResult

MISSING_PARTS = {
    "documents": "The database did not answer: products are shown as they were last known.",
    "caption": "The photo could not be described.",
    "objects": "Not all of the photo could be searched for several products.",
}
WHOLE_PHOTO = 0
EVERYTHING = -1.0

HINT = (
    '<div class="find-hint"><p>Give a photo, some words, or both: what is found stands here.</p>'
    "</div>"
)


def pictures_of(result: MatchResult) -> Iterable[str | None]:
    """The sha256 of all pictures that the answer's cards show."""
    for matches in (result.matches, *(item.matches for item in result.objects)):
        yield from (match.picture for match in matches)


def answer_html(
    query: Query, result: MatchResult, pictures: Mapping[str | None, Picture], photo_url: str
) -> str:
    """All that is to say of an answer.

    Args:
        query: what was asked.
        result: what came back.
        pictures: those of `pictures_of`.
        photo_url: the photo, to draw boxes on; asked for where there are objects.
    """
    shown = shown_first(result)
    panels = [_panel(WHOLE_PHOTO, result.matches, query, result, pictures, shown)]
    for item in result.objects:
        panels.append(_panel(item.number, item.matches, query, result, pictures, shown))
    return "".join(
        (
            '<div class="find-answer">',
            _asked_html(query, result),
            _missing_html(result),
            _photo_html(result.objects, photo_url, shown) if result.objects else "",
            *panels,
            timings_html(result.details),
            "</div>",
        )
    )


def shown_first(result: MatchResult) -> int:
    """Whose matches are shown at first: 0 is the whole photo."""
    if result.best_object is not None:
        return result.best_object
    if not result.objects or result.details.get("likely"):
        return WHOLE_PHOTO
    return next((item.number for item in result.objects if item.matches), WHOLE_PHOTO)


def _asked_html(query: Query, result: MatchResult) -> str:
    """What was searched for, and the photo in words."""
    parts = []
    if query.liked:
        parts.append(
            f'<span class="find-liked">Like <strong>{escape(query.liked.name)}</strong>'
            '<button type="button" class="pm-button" data-does="unlike" '
            'aria-label="Search without this product">&times;</button></span>'
        )
        if query.words:
            parts.append(f"<span>and the words “{escape(query.words)}”</span>")
    caption = result.details.get("caption", {})
    if result.caption:
        sure = caption.get("confidence")
        number = "" if sure is None else f", {100 * sure:.0f}% sure"
        parts.append(
            f'<span class="find-caption">The photo in words: <strong>{escape(result.caption)}'
            f"</strong>{number}</span>"
        )
    return f'<p class="find-asked">{"".join(parts)}</p>' if parts else ""


def _missing_html(result: MatchResult) -> str:
    degraded = result.details.get("degraded", [])
    notes = [MISSING_PARTS.get(part, f"This part did not answer: {part}.") for part in degraded]
    return "".join(f'<p class="pm-note" role="status">{escape(note)}</p>' for note in notes)


def _photo_html(objects: Iterable[MatchedObject], photo_url: str, shown: int) -> str:
    """The photo with a button on each object, and one for the whole."""
    boxes = []
    # Larger ones first, so that a small box within a large one can be reached.
    for item in sorted(objects, key=_area, reverse=True):
        x0, y0, x1, y1 = (100 * side for side in item.box)
        name = name_of(item.matches[0]) if item.matches else "no match"
        # Its label has more room to the left.
        place = " find-right" if x0 > 100 - x1 else ""
        boxes.append(
            f'<button type="button" class="find-box{place}" data-does="show" '
            f'data-object="{item.number}" '
            f'aria-pressed="{_flag(item.number == shown)}" '
            f'aria-label="Object {item.number}: {escape(name)}" title="{escape(name)}" '
            f'style="left:{x0:.2f}%;top:{y0:.2f}%;width:{x1 - x0:.2f}%;height:{y1 - y0:.2f}%">'
            f'<span class="find-label"><b>{item.number}</b> {escape(name)}</span></button>'
        )
    return (
        '<div class="find-scene" role="group" aria-label="What the photo shows">'
        f'<div class="find-photo"><img src="{photo_url}" alt="The photo">{"".join(boxes)}</div>'
        f'<p>Choose a product in the photo, or <button type="button" class="pm-button" '
        f'data-does="show" data-object="{WHOLE_PHOTO}" '
        f'aria-pressed="{_flag(shown == WHOLE_PHOTO)}">the whole photo</button></p></div>'
    )


def _area(item: MatchedObject) -> float:
    x0, y0, x1, y1 = item.box
    return (x1 - x0) * (y1 - y0)


def _flag(is_true: bool) -> str:
    return "true" if is_true else "false"


def _panel(
    number: int,
    matches: tuple[Match, ...],
    query: Query,
    result: MatchResult,
    pictures: Mapping[str | None, Picture],
    shown: int,
) -> str:
    """The matches of the whole query, or of one object."""
    likely = result.details.get("likely") if number == WHOLE_PHOTO else None
    count = len(matches)
    title = f"{count} match{'' if count == 1 else 'es'}"
    if result.objects:
        title += f" of object {number}" if number else " of the whole photo"
    request_id = str(result.details.get("request_id", ""))
    parts = [f'<div role="status"><h2 class="find-count">{title}</h2></div>' if count else ""]
    if not matches or likely is False:
        parts.append(_nothing_html(query, result, count > 0))
    if matches:
        parts.append(cards_html(matches, pictures, query, request_id, bool(likely)))
    hidden = "" if number == shown else " hidden"
    return f'<div class="find-panel" data-panel="{number}"{hidden}>{"".join(parts)}</div>'


def _nothing_html(query: Query, result: MatchResult, has_weak: bool) -> str:
    """That nothing is like it, and what was left out for that."""
    least = result.details.get("min_score")
    if has_weak:
        why = "The server takes none of these for it; they are what comes nearest."
    elif least is not None and least > EVERYTHING:
        why = f"No product{_within(query)} reaches the least score of {least:.2f}."
    else:
        why = f"There is no product{_within(query)} to compare it with."
    weak = (
        '<button type="button" class="pm-button" data-does="weak">Show weak matches</button>'
        if not has_weak and least is not None and least > EVERYTHING
        else ""
    )
    return (
        f'<div class="find-nothing" role="status"><p><strong>Nothing like it here.</strong> '
        f"{why}</p>{weak}</div>"
    )


def _within(query: Query) -> str:
    return " that the filters leave" if query.filter else ""
