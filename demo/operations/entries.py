"""The latest requests and errors, by the logs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from demo.operations.figures import NOTHING, clock, milliseconds, moment
from demo.operations.reports import Report
from demo.operations.tables import Column, Markup, card, hinted, numbers, shortened, table

BEST = 3
CUT = "Further ones are left out: these fill an answer."
LOGS = {"match_log": "match", "ingest_log": "write"}


def requests(report: Report) -> Markup:
    """The latest requests, the newest first."""
    now = moment(report["time"])
    rows = [
        (
            _time(entry, now),
            asked(entry),
            best_matches(entry),
            milliseconds(entry["milliseconds"].get("total")),
            _status(entry),
            entry["request_id"],
        )
        for entry in report["entries"]
    ]
    columns = (
        Column("time"),
        Column("asked"),
        Column("best matches"),
        *numbers("took"),
        Column("status"),
        Column("request id"),
    )
    title = "Latest requests"
    content = table(title, columns, rows, "No requests yet.")
    return card(title, content, *([CUT] if report["cut"] else []), wide=True)


def errors(report: Report) -> Markup:
    """The latest requests that failed, with the server's words."""
    now = moment(report["time"])
    rows = [
        (
            _time(entry, now),
            LOGS.get(entry["log"], entry["log"]),
            _worded(entry["error"]["message"]),
            entry["request_id"],
        )
        for entry in report["entries"]
    ]
    columns = (Column("time"), Column("of"), Column("error"), Column("request id"))
    title = "Latest errors"
    content = table(title, columns, rows, "No errors yet.")
    return card(title, content, *([CUT] if report["cut"] else []), wide=True)


def asked(entry: Report) -> str:
    """What a match was asked for, in a line."""
    whole = "; ".join(_asked(entry.get("inputs", {}))) or "could not be read"
    return _worded(f"health check: {whole}" if entry.get("probe") else whole)


def _asked(inputs: Report) -> Iterator[str]:
    if images := len(inputs.get("images", [])):
        yield f"{images} image{'s' * (images > 1)}"
    for text in inputs.get("texts", []):
        yield f"“{text}”"
    for product in inputs.get("like", []):
        yield f"like {product}"
    if inputs.get("filter"):
        yield f"filter {inputs['filter']}"
    if "sort" in inputs:
        yield f"by {inputs['sort']}"
    if "objects" in inputs:
        yield f"objects {inputs['objects']}"


def best_matches(entry: Report) -> str:
    """The first products of an answer with their scores."""
    matches = entry.get("matches", [])
    told = ", ".join(f"{item['product_id']} {item['score']:.2f}" for item in matches[:BEST])
    if len(matches) > BEST:
        told += f", {len(matches) - BEST} more"
    return told or NOTHING


def _status(entry: Report) -> Markup:
    if entry["status"] != "ok":
        kind, told = "bad", "error"
    else:
        lacks = f"without {', '.join(entry['degraded'])}" if entry["degraded"] else ""
        if not entry["matches"]:
            kind, told = "empty", f"empty, {lacks}" if lacks else "empty"
        else:
            kind, told = ("degraded", lacks) if lacks else ("good", "found")
    hint = entry.get("error", {}).get("message", told)
    return Markup(f'<span class="operations-dot operations-{kind}">{hinted(told, hint)}</span>')


def _time(entry: Report, now: datetime) -> Markup:
    time = moment(entry["time"])
    return Markup(f'<time datetime="{time.isoformat()}">{clock(time, now)}</time>')


def _worded(text: str) -> Markup:
    return Markup(f'<div class="operations-words">{hinted(shortened(text, 300), text)}</div>')
