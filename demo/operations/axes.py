"""Where the axes of a chart have their ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

# Distances of ticks in time, in seconds.
STEPS_S = (10, 30, 60, 300, 600, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800)
MINUTE_S, DAY_S = 60, 86400
# More would touch each other on a phone.
MOST_TIMES = 5
VALUES = 4


def value_ticks(values: Iterable[float]) -> list[float]:
    """Round numbers from 0 to the largest value or more.

    Args:
        values: finite, from 0 on; there may be none.

    Returns:
        Two or more, evenly spaced, the last one not below any value.
    """
    highest = max(values, default=0.0)
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / VALUES
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    steps = math.ceil(round(highest / step, 6))
    return [step * number for number in range(steps + 1)]


def whole_ticks(values: Iterable[float]) -> list[float]:
    """`value_ticks` for what is counted: none between whole numbers."""
    return [tick for tick in value_ticks([1.0, *values]) if tick == int(tick)]


def time_ticks(begin: datetime, end: datetime) -> list[tuple[datetime, str]]:
    """Round times of a span, with how they are written; UTC.

    Args:
        begin: of the span.
        end: of it, later.
    """
    span = (end - begin).total_seconds()
    step = next((step for step in STEPS_S if span / step <= MOST_TIMES), None)
    # Beyond five weeks: whole weeks.
    step = step or math.ceil(span / MOST_TIMES / STEPS_S[-1]) * STEPS_S[-1]
    first = math.ceil(begin.timestamp() / step) * step
    count = math.floor((end.timestamp() - first) / step) + 1
    times = [datetime.fromtimestamp(first + step * number, UTC) for number in range(count)]
    return [(time, _written(time, step)) for time in times]


def _written(time: datetime, step: int) -> str:
    if step >= DAY_S:
        return f"{time.day} {time:%b}"
    return f"{time:%H:%M}" if step >= MINUTE_S else f"{time:%H:%M:%S}"
