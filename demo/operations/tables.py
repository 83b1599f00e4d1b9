"""Tables and cards as HTML; what is not made here is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class Markup(str):
    """HTML that this package made; all other text is escaped where it is put in."""


@dataclass(frozen=True)
class Column:
    """A column: its name, and whether it has numbers, which stand at the right."""

    name: str
    number: bool = False


def numbers(*names: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(name, number=True) for name in names)


def escaped(text: str) -> str:
    """Text as it may stand in HTML, also within a quoted attribute."""
    return text if isinstance(text, Markup) else html.escape(text)


def table(
    title: str, columns: Sequence[Column], rows: Iterable[Sequence[str]], nothing: str
) -> Markup:
    """A table that scrolls within its place, by keys too.

    Args:
        title: what is in it.
        columns: of it.
        rows: a cell for each column.
        nothing: said where there are no rows.
    """
    kinds = [' class="operations-number"' if column.number else "" for column in columns]
    lines = [
        "".join(f"<td{kind}>{escaped(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        for row in rows
    ]
    if not lines:
        return paragraph(nothing)
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(column.name)}</th>'
        for kind, column in zip(kinds, columns, strict=True)
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return Markup(
        f'<div class="operations-scroll" role="region" tabindex="0" '
        f'aria-label="{html.escape(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def paragraph(text: str) -> Markup:
    """A sentence or two."""
    return Markup(f"<p>{escaped(text)}</p>")


def card(title: str, *parts: str, wide: bool = False) -> Markup:
    """A part of the page under a heading of its own.

    Args:
        title: the heading.
        parts: what stands below.
        wide: whether it takes all of the width.
    """
    extra = " operations-wide" if wide else ""
    content = "".join(map(escaped, parts))
    return Markup(
        f'<section class="operations-card{extra}"><h3>{html.escape(title)}</h3>{content}</section>'
    )


def bar(share: float, low: float | None = None, high: float | None = None) -> Markup:
    """A share of one as a bar, with its interval where that is known; for numbers beside it."""
    style = f"--share:{_bounded(share):.4f}"
    if low is not None and high is not None:
        style += f";--low:{_bounded(low):.4f};--high:{_bounded(high):.4f}"
        return Markup(f'<span class="operations-meter operations-interval" style="{style}"></span>')
    return Markup(f'<span class="operations-meter" style="{style}"></span>')


def _bounded(share: float) -> float:
    return min(1.0, max(0.0, share))


def shortened(text: str, most: int = 120) -> str:
    """Text of at most so many characters, for a cell."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def hinted(text: str, hint: str) -> Markup:
    """Text that says more under the pointer."""
    return Markup(f'<span title="{html.escape(hint)}">{html.escape(text)}</span>')
