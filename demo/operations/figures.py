"""Figures as the tab writes them: short, with their units, in UTC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

NOTHING = "–"  # noqa: RUF001


def count(value: float) -> str:
    """A number of things: ``1,234``; from a million on ``1.2 M``."""
    for size, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:,.1f} {sign}"
    return f"{value:,.0f}"


def milliseconds(value: float | None) -> str:
    """A duration with the unit that suits it: ``8.2 ms``, ``850 ms``, ``12 s``, ``3 min``."""
    return seconds(None if value is None else value / 1000)


def seconds(value: float | None) -> str:
    """A duration with the unit that suits it."""
    if value is None or not math.isfinite(value):
        return NOTHING
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{_short(value / size)} {unit}"
    return f"{_short(value)} s" if value >= 1 or not value else f"{_short(value * 1000)} ms"


def _short(value: float) -> str:
    """At most two digits behind the point, fewer for larger numbers."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def share(value: float | None) -> str:
    """A share of one as percent."""
    return NOTHING if value is None else f"{value:.1%}"


def interval(bounds: Sequence[float]) -> str:
    """The bounds of a share."""
    low, high = bounds
    return f"{low:.0%} to {high:.0%}"


def moment(text: str) -> datetime:
    """A time of a report; one without a zone is UTC."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def clock(time: datetime, now: datetime) -> str:
    """A time of today as ``14:03:22``, another with its day before: ``30 Nov 14:03:22``."""
    if time.date() == now.date():
        return f"{time:%H:%M:%S}"
    return f"{time.day} {time:%b %H:%M:%S}"
