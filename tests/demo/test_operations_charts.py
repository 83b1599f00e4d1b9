"""Charts of the operations tab: ticks, marks, and values that are rare or strange."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from demo.operations.axes import time_ticks, value_ticks, whole_ticks
from demo.operations.charts import HEIGHT, Chart, Series, Span, bar_chart, line_chart
from demo.operations.figures import clock, count, milliseconds, moment, seconds

BEGIN = datetime(2026, 1, 31, 22, 40, tzinfo=UTC)
HOUR = timedelta(hours=1)


def chart(*series: Series, title: str = "Time", says: str = "All is well.") -> Chart:
    """A chart with an hour for each value."""
    spans = [
        Span(BEGIN + HOUR * number, BEGIN + HOUR * (number + 1), f"hour {number}")
        for number in range(len(series[0].values))
    ]
    return Chart(title, says, spans, series, milliseconds)


def drawn(figure: str) -> ElementTree.Element:
    """The drawing."""
    svg = re.search("<svg.*</svg>", figure, re.DOTALL)
    assert svg
    return ElementTree.fromstring(svg[0])


def paths(figure: str, colour: str) -> list[str]:
    """What is drawn of a line."""
    marks = drawn(figure).iter("path")
    return [mark.attrib["d"] for mark in marks if mark.attrib["class"].endswith(f"-{colour}")]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([], [0, 1]),
        ([0, 0], [0, 1]),
        ([4], [0, 1, 2, 3, 4]),
        ([7, 350], [0, 100, 200, 300, 400]),
        ([0.3], [0, 0.1, 0.2, 0.3]),
        ([8e12], [0, 2e12, 4e12, 6e12, 8e12]),
    ],
)
def test_value_ticks_are_round_and_reach_the_highest(
    values: list[float], ticks: list[float]
) -> None:
    assert value_ticks(values) == pytest.approx(ticks)


@pytest.mark.parametrize(("values", "ticks"), [([], [0, 1]), ([1], [0, 1]), ([3], [0, 1, 2, 3])])
def test_counts_have_no_ticks_between_whole_numbers(
    values: list[float], ticks: list[float]
) -> None:
    assert whole_ticks(values) == ticks


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        (timedelta(seconds=10), ["22:40:00", "22:40:10"]),
        (HOUR, ["22:45", "23:00", "23:15", "23:30"]),
        (24 * HOUR, ["00:00", "06:00", "12:00", "18:00"]),
        (168 * HOUR, ["2 Feb", "4 Feb", "6 Feb"]),
    ],
)
def test_time_ticks_are_round_and_few(span: timedelta, labels: list[str]) -> None:
    ticks = time_ticks(BEGIN, BEGIN + span)
    assert [label for _, label in ticks] == labels
    assert all(BEGIN <= time <= BEGIN + span for time, _ in ticks)


@pytest.mark.parametrize("days", [30, 365, 3650])
def test_a_long_time_has_few_ticks_too(days: int) -> None:
    assert 2 <= len(time_ticks(BEGIN, BEGIN + timedelta(days=days))) <= 6


def test_a_line_is_broken_where_there_is_nothing_and_a_lone_value_is_a_dot() -> None:
    line = Series("p50", "low", [1, 2, None, 4, math.nan, 3, 3])
    first, lone, last = paths(line_chart(chart(line)), "low")
    assert first.count("L") == last.count("L") == 1
    assert lone.endswith("h0")


def test_bars_stand_on_each_other_and_never_leave_the_drawing() -> None:
    series = [Series("found", "good", [3, 0, 10**9]), Series("errors", "bad", [1, 0, 1])]
    bars = [mark for mark in drawn(bar_chart(chart(*series))).iter("rect") if "y" in mark.attrib]
    bars = [mark.attrib for mark in bars if "operations-bar" in mark.attrib["class"]]
    assert len(bars) == 4
    for bar in bars:
        assert float(bar["y"]) >= 0
        assert float(bar["y"]) + float(bar["height"]) <= HEIGHT + 0.011
    good, bad = bars[0], bars[2]
    assert float(bad["y"]) + float(bad["height"]) == pytest.approx(float(good["y"]), abs=0.02)


def test_each_span_tells_its_values_under_the_pointer() -> None:
    figure = line_chart(chart(Series("p50", "low", [8.25, None]), Series("p99", "high", [1e7, 2])))
    told = [title.text for title in drawn(figure).iter("title")]
    assert told == ["hour 0\np50: 8.25 ms\np99: 2.78 h", "hour 1\np50: none\np99: 2 ms"]


def test_a_chart_says_in_words_what_it_shows_and_words_are_no_markup() -> None:
    figure = line_chart(chart(Series("<b>", "low", [1]), title="<i>", says='"A" <u>'))
    assert drawn(figure).attrib["aria-label"] == '<i>. "A" <u>'
    for markup in "<b>", "<i>", "<u>":
        assert markup not in figure


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.inf, "–"), (0, "0 s"), (0.591, "0.59 ms"), (12.34, "12.3 ms"),  # noqa: RUF001
     (999.9, "1,000 ms"), (1500, "1.5 s"), (180_000, "3 min"), (9e6, "2.5 h"),
     (2.6e11, "3,009 days")],
)  # fmt: skip
def test_durations_have_the_unit_that_suits_them(value: float | None, text: str) -> None:
    assert milliseconds(value) == text
    assert seconds(None if value is None else value / 1000) == text


def test_numbers_and_times_are_short() -> None:
    assert [count(value) for value in (0, 1234, 2_500_000, 8e12)] == [
        "0",
        "1,234",
        "2.5 M",
        "8.0 T",
    ]
    now = moment("2026-01-31T23:00:00.5+01:00")
    assert clock(moment("2026-01-31T21:00:00"), now) == "21:00:00"
    assert clock(moment("2026-01-30T21:00:00"), now) == "30 Jan 21:00:00"
