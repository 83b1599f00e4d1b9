"""Requests over time: how many, how they ended, how long they took."""

from __future__ import annotations

import itertools

from demo.operations.charts import Chart, Series, Span, bar_chart, line_chart
from demo.operations.figures import clock, count, milliseconds, moment
from demo.operations.reports import Report
from demo.operations.tables import Column, Markup, bar, card, numbers, paragraph, table

PERCENTILES = (("p99", "high"), ("p95", "middle"), ("p50", "low"))
OUTCOMES = (("found", "good"), ("empty", "empty"), ("degraded", "degraded"), ("errors", "bad"))
CUT = " There were so many that older ones are left out."


def traffic(history: Report) -> Markup:
    """Charts of milliseconds and outcomes."""
    buckets = history["buckets"]
    if not buckets:
        return card("Requests over time", paragraph(f"None can be shown.{CUT}"))
    spans = _spans(history)
    totals = {name: sum(bucket[name] for bucket in buckets) for name, _ in OUTCOMES}
    requests = sum(totals.values())
    cut = CUT if history["cut"] else ""
    if requests:
        parts = ", ".join(f"{count(number)} {name}" for name, number in totals.items())
        told = f"{count(requests)} in all: {parts}.{cut}"
    else:
        told = "No requests in this time."
    counts = Chart(
        title="Outcomes, requests",
        says=told,
        spans=spans,
        series=[
            Series(name, colour, [bucket[name] for bucket in buckets]) for name, colour in OUTCOMES
        ],
        write=count,
    )
    durations = Chart(
        title="Time to answer",
        says=_slowest(buckets) + cut,
        spans=spans,
        series=[
            Series(name, colour, [bucket[f"{name}_ms"] for bucket in buckets])
            for name, colour in PERCENTILES
        ],
        write=milliseconds,
    )
    return Markup(bar_chart(counts) + line_chart(durations))


def _spans(history: Report) -> list[Span]:
    now = moment(history["until"])
    # The first one may be shorter than the others.
    times = [*(moment(bucket["time"]) for bucket in history["buckets"]), now]
    return [
        Span(begin, end, f"{clock(begin, now)} to {clock(end, now)}")
        for begin, end in itertools.pairwise(times)
    ]


def _slowest(buckets: list[Report]) -> str:
    answered = [bucket for bucket in buckets if bucket["p50_ms"] is not None]
    if not answered:
        return "Nothing was answered in this time."
    last = answered[-1]
    slowest = max(bucket["p99_ms"] for bucket in answered)
    return (
        f"Latest p50 {milliseconds(last['p50_ms'])}, p95 {milliseconds(last['p95_ms'])}; "
        f"highest p99 {milliseconds(slowest)}."
    )


def stages(report: Report) -> Markup:
    """Milliseconds by stage, the longest first."""
    found = sorted(report["stages"].items(), key=lambda item: -item[1]["p50_ms"])
    longest = max((row["p50_ms"] for _, row in found), default=0.0) or 1.0
    rows = [
        (
            stage,
            bar(row["p50_ms"] / longest),
            *(milliseconds(row[f"{name}_ms"]) for name in ("p50", "p95", "p99")),
            count(row["count"]),
        )
        for stage, row in found
    ]
    columns = (Column("stage"), Column(""), *numbers("p50", "p95", "p99", "requests"))
    content = table("Time by stage", columns, rows, "Nothing was answered in this time.")
    return card("Time by stage", content, *_cut(report))


def most_matched(report: Report) -> Markup:
    """Products by how often they were the best match."""
    products = report["products"]
    most = max((row["matches"] for row in products), default=1)
    rows = [
        (
            row["product_id"],
            bar(row["matches"] / most),
            count(row["matches"]),
            f"{row['mean_score']:.3f}",
        )
        for row in products
    ]
    columns = (Column("product"), Column(""), *numbers("best match", "mean score"))
    content = table("Most matched products", columns, rows, "Nothing was matched in this time.")
    return card("Most matched products", content, *_cut(report))


def _cut(report: Report) -> list[Markup]:
    return [paragraph(CUT.strip())] if report["cut"] else []
