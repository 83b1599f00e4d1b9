"""The index: what is in it, and how far it is behind the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from demo.operations.charts import Chart, Series, Span, line_chart
from demo.operations.figures import NOTHING, clock, count, moment, seconds, share
from demo.operations.reports import Report
from demo.operations.tables import Markup, card, escaped, paragraph

REFRESH_S = 10
# Without a sample for so long, nothing is known of the time between.
GAP = timedelta(seconds=3 * REFRESH_S)
# An hour's.
MOST_SAMPLES = 360


@dataclass(frozen=True)
class LagSample:
    """How far the index was behind at a time; None: it did not say."""

    time: datetime
    seconds: float | None


def sampled(samples: Sequence[LagSample], server: Report) -> list[LagSample]:
    """Samples with that of a report, the oldest dropped; those of a later clock are wrong."""
    now = moment(server["time"])
    index = server["index"]
    behind = None if index is None else index["lag_seconds"]
    return [*(item for item in samples if item.time < now), LagSample(now, behind)][-MOST_SAMPLES:]


def index_state(server: Report) -> Markup:
    """What the index holds, and whether it follows the database."""
    bundle, index = server["bundle"], server["index"]
    facts = [("products stored", count(server["products"]))]
    if index is None:
        says = "The index does not answer."
    else:
        says = (
            "It follows the database." if index["following"] else "It does not follow the database."
        )
        facts += [
            ("products in the index", count(index["products"])),
            ("image vectors", count(index["image_vectors"])),
            ("text vectors", count(index["text_vectors"])),
            ("behind by", seconds(index["lag_seconds"])),
            ("not searched, of another bundle", count(index["stale_products"])),
            ("loaded", share(index["loaded_share"])),
            ("type", _type(index["type"])),
        ]
    facts += [
        ("bundle", f"{bundle['name']}, {bundle['fingerprint']}"),
        ("languages", ", ".join(bundle["languages"]) or NOTHING),
    ]
    return card("Index", paragraph(says), _facts(facts))


def lag(samples: Sequence[LagSample]) -> Markup:
    """A chart of how far the index was behind, since the page looks."""
    spans: list[Span] = []
    values: list[float | None] = []
    begin = samples[0].time - timedelta(seconds=REFRESH_S)
    for sample in samples:
        if sample.time - begin > GAP:
            end = sample.time - timedelta(seconds=REFRESH_S)
            spans.append(Span(begin, end, "nobody looked"))
            values.append(None)
            begin = end
        spans.append(Span(begin, sample.time, clock(sample.time, samples[-1].time)))
        values.append(sample.seconds)
        begin = sample.time
    known = [value for value in values if value is not None]
    says = (
        f"{seconds(known[-1])} at last, {seconds(max(known))} at most, since this page looks."
        if known
        else "The index did not say."
    )
    chart = Chart("Index behind the database", says, spans, [Series("lag", "low", values)], seconds)
    return Markup(line_chart(chart))


def _type(value: Any) -> str:
    """The kind of index, or that of each kind of vector."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {kind}" for name, kind in value.items())
    return str(value)


def _facts(facts: Sequence[tuple[str, str]]) -> Markup:
    rows = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in facts
    )
    return Markup(f"<dl>{rows}</dl>")
