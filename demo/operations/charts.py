"""Charts over time as SVG, with axes, a legend and what they say in words.

The drawing stretches with its place; what is written stands beside it as HTML and keeps its size,
so it can be read on a phone.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from demo.operations.axes import time_ticks, value_ticks, whole_ticks

# Units of the drawing, which are stretched to what there is.
WIDTH, HEIGHT = 1000.0, 100.0
# Between two bars, as a share of each.
GAP = 0.15


@dataclass(frozen=True)
class Span:
    """A part of the time axis, with all values of it."""

    begin: datetime
    end: datetime
    label: str


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour.

    Attributes:
        name: in the legend.
        colour: ``operations-`` and this is the class that has the colour.
        values: one a span; None: there is none.
    """

    name: str
    colour: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Chart:
    """A chart without its marks.

    Attributes:
        title: what it shows, with the unit.
        says: the same in a sentence, also for those who do not see it.
        spans: of all series, by time.
        series: with a value for each span.
        write: a value with its unit.
    """

    title: str
    says: str
    spans: Sequence[Span]
    series: Sequence[Series]
    write: Callable[[float], str]


def line_chart(chart: Chart) -> str:
    """Lines through the middles of the spans, broken where there is no value."""
    ticks = value_ticks(_finite(value for line in chart.series for value in line.values))
    marks = []
    for line in chart.series:
        points = [
            None if y is None else f"{_middle(chart, span):.1f},{_y(y, ticks):.2f}"
            for span, y in zip(chart.spans, map(_drawn, line.values), strict=True)
        ]
        for run in _runs(points):
            # A line of no length is drawn as a dot.
            kind, path = (
                ("line", "M" + "L".join(run))
                if len(run) > 1
                else ("line operations-point", f"M{run[0]}h0")
            )
            marks.append(f'<path class="operations-{kind} operations-{line.colour}" d="{path}"/>')
    return _figure(chart, ticks, "".join(marks))


def bar_chart(chart: Chart) -> str:
    """Bars of counts, the series upon each other, the first one at the bottom."""
    rows = [[_drawn(value) or 0.0 for value in line.values] for line in chart.series]
    ticks = whole_ticks(map(sum, zip(*rows, strict=True)))
    marks = []
    floors = [0.0] * len(chart.spans)
    for line, row in zip(chart.series, rows, strict=True):
        for number, (span, value) in enumerate(zip(chart.spans, row, strict=True)):
            if value:
                left, right = _x(chart, span.begin), _x(chart, span.end)
                margin = (right - left) * GAP / 2
                top = _y(floors[number] + value, ticks)
                marks.append(
                    f'<rect class="operations-bar operations-{line.colour}" '
                    f'x="{left + margin:.1f}" width="{right - left - 2 * margin:.1f}" '
                    f'y="{top:.2f}" height="{_y(floors[number], ticks) - top:.2f}"/>'
                )
            floors[number] += value
    return _figure(chart, ticks, "".join(marks))


def _drawn(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else max(0.0, value)


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in map(_drawn, values) if value is not None]


def _x(chart: Chart, time: datetime) -> float:
    begin, end = chart.spans[0].begin, chart.spans[-1].end
    return (time - begin) / (end - begin) * WIDTH


def _middle(chart: Chart, span: Span) -> float:
    return (_x(chart, span.begin) + _x(chart, span.end)) / 2


def _y(value: float, ticks: Sequence[float]) -> float:
    return HEIGHT * (1 - value / ticks[-1])


def _runs(points: Sequence[str | None]) -> Iterator[list[str]]:
    """Points that are neighbours."""
    for drawn, run in itertools.groupby(points, key=lambda point: point is not None):
        if drawn:
            yield [point for point in run if point is not None]


def _figure(chart: Chart, ticks: Sequence[float], marks: str) -> str:
    begin, end = chart.spans[0].begin, chart.spans[-1].end
    grid = "".join(
        f'<path class="operations-grid" d="M0,{_y(tick, ticks):.2f}h{WIDTH:.0f}"/>'
        for tick in ticks
    )
    values = "".join(
        f'<span style="top:{_y(tick, ticks):.1f}%">{html.escape(chart.write(tick))}</span>'
        for tick in ticks
    )
    times = "".join(
        f'<span style="left:{_x(chart, time) / WIDTH:.1%}">{html.escape(label)}</span>'
        for time, label in time_ticks(begin, end)
    )
    hovers = "".join(_hover(chart, number) for number in range(len(chart.spans)))
    entries = "".join(
        f'<li class="operations-{line.colour}">{html.escape(line.name)}</li>'
        for line in chart.series
    )
    legend = f'<ul class="operations-legend" aria-hidden="true">{entries}</ul>'
    says = html.escape(chart.says)
    return f"""<figure class="operations-card operations-chart">
<figcaption>{html.escape(chart.title)}</figcaption>
<p>{says}</p>
<div class="operations-plot">
<div class="operations-values" aria-hidden="true">{values}</div>
<svg role="img" aria-label="{html.escape(chart.title)}. {says}" \
viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none">{grid}{marks}{hovers}</svg>
<div class="operations-times" aria-hidden="true">{times}</div>
</div>
{legend if len(chart.series) > 1 else ""}
</figure>"""


def _hover(chart: Chart, number: int) -> str:
    span = chart.spans[number]
    lines = [span.label]
    for line in chart.series:
        value = _drawn(line.values[number])
        lines.append(f"{line.name}: {'none' if value is None else chart.write(value)}")
    left, right = _x(chart, span.begin), _x(chart, span.end)
    text = html.escape("\n".join(lines))
    return (
        f'<rect class="operations-hover" x="{left:.1f}" y="0" width="{right - left:.1f}" '
        f'height="{HEIGHT:.0f}"><title>{text}</title></rect>'
    )
