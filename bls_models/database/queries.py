"""What the request logs say, as plain documents; times are UTC.

Figures are made of spans of time, by the index on ``time``, whose entries `newest_span` has
counted, so that they are no more than a database reads within its time limit. The newest entries
are sought without a count: in the last hour, where these are too few in the last day, and then
everywhere. The local database, unlike MongoDB, reads all that fits the conditions of a question,
also where only the newest ones are wanted. For the few errors of a long log that may be much of it,
and the time limit alone ends it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import DESCENDING
from pymongo.collection import Collection
from pymongo.database import Database

from bls_models.database.store import INGEST_LOG, MATCH_LOG, Document

DEFAULT_LIMIT = 50
PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
# Where the newest entries are looked for, one after another; None: everywhere.
LOOKED_BACK = (timedelta(hours=1), timedelta(days=1), None)
# A span is sought in steps back. The first is such a part of it, and each is longer than the one
# before, so that none counts much more than what was counted until then.
FIRST_STEP = 1 / 1024
STEP_FACTOR = 2
LEAST_STEP = timedelta(seconds=1)

_IS_OK = {"$eq": ["$status", "ok"]}


@dataclass(frozen=True)
class Span:
    """Log entries by time.

    Attributes:
        since: from then on.
        until: up to then, without it.
        cut: whether more was asked for, but holds too many entries.
    """

    since: datetime
    until: datetime
    cut: bool = False

    @property
    def condition(self) -> Document:
        """What an entry of it fits."""
        return {"time": {"$gte": self.since, "$lt": self.until}}


def newest_span(log: Collection[Document], since: datetime, until: datetime, most: int) -> Span:
    """As much of a span as has no more than so many entries, its newest part.

    Args:
        log: whose entries are counted.
        since: begin of the whole.
        until: end of it.
        most: entries.

    Returns:
        Where it is cut it holds half of ``most`` at least, unless one second has more.
    """
    start, left = until, most
    step = (until - since) * FIRST_STEP
    while start > since:
        begin = max(since, start - step)
        count = log.count_documents(Span(begin, start).condition, limit=left + 1)
        if count <= left:
            start, left = begin, left - count
            step *= STEP_FACTOR
        elif left > most // 2 and step > LEAST_STEP:
            step /= STEP_FACTOR
        else:
            break
    return Span(start, until, cut=start > since)


def recent_matches(database: Database[Document], limit: int = DEFAULT_LIMIT) -> list[Document]:
    """The latest match requests, newest first, errors among them."""
    return _newest(database[MATCH_LOG], {}, limit)


def recent_errors(
    database: Database[Document], log: str = MATCH_LOG, limit: int = DEFAULT_LIMIT
) -> list[Document]:
    """The latest failed requests of ``match_log`` or ``ingest_log``, newest first.

    Raises:
        ValueError: ``log`` is neither.
    """
    if log not in (MATCH_LOG, INGEST_LOG):
        raise ValueError(f"log is {log!r}; expected {MATCH_LOG!r} or {INGEST_LOG!r}")
    return _newest(database[log], {"status": "error"}, limit)


def _newest(log: Collection[Document], condition: Document, limit: int) -> list[Document]:
    now = datetime.now(UTC)
    found: list[Document] = []
    for back in LOOKED_BACK:
        when = {} if back is None else {"time": {"$gte": now - back}}
        found = list(log.find(condition | when).sort("time", DESCENDING).limit(limit))
        if len(found) == limit:
            break
    return found


def history(
    database: Database[Document], span: Span, since: datetime, buckets: int
) -> list[dict[str, Any]]:
    """Match requests over time, in equal buckets, the oldest first.

    Args:
        database: has the log.
        span: what is read; the bucket in which it begins is shorter, those before it are left out.
        since: begin of the first bucket; the last one ends with the span.
        buckets: their number.

    Returns:
        Rows ``{"time", "requests", "found", "degraded", "empty", "errors", "p50_ms", "p95_ms",
        "p99_ms"}``: ``time`` is a bucket's begin. Each request counts once: ``found`` had matches
        and lacked nothing, ``degraded`` had matches and lacked a part, ``empty`` had none, whatever
        they lacked, ``errors`` were not answered. Milliseconds are of what was answered, None where
        nothing was.
    """
    width = (span.until - since) / buckets
    times = [*(since + number * width for number in range(buckets)), span.until]
    return [
        _bucket(database[MATCH_LOG], Span(max(begin, span.since), end))
        for begin, end in itertools.pairwise(times)
        if end > span.since
    ]


def _bucket(log: Collection[Document], span: Span) -> dict[str, Any]:
    """A row of ``history``."""
    answered = {"$cond": [_IS_OK, "$milliseconds.total", None]}
    has_matches = {"$and": [_IS_OK, {"$ne": [{"$ifNull": ["$matches", []]}, []]}]}
    lacks_nothing = {"$eq": [{"$ifNull": ["$degraded", []]}, []]}
    groups = log.aggregate(
        [
            {"$match": span.condition},
            {
                "$group": {
                    "_id": None,
                    "requests": {"$sum": 1},
                    "answered": _count_of(_IS_OK),
                    "matched": _count_of(has_matches),
                    "found": _count_of({"$and": [has_matches, lacks_nothing]}),
                    "values": _percentiles_of(answered),
                }
            },
        ]
    )
    row: dict[str, Any] = {"time": span.since}
    row |= dict.fromkeys(("requests", "found", "degraded", "empty", "errors"), 0)
    row |= dict.fromkeys(PERCENTILES)
    for group in groups:
        row["requests"], row["found"] = group["requests"], group["found"]
        row["degraded"] = group["matched"] - group["found"]
        row["empty"] = group["answered"] - group["matched"]
        row["errors"] = group["requests"] - group["answered"]
        row |= dict(zip(PERCENTILES, group["values"], strict=True))
    return row


def latency_percentiles(database: Database[Document], span: Span) -> dict[str, dict[str, float]]:
    """Milliseconds of answered requests by stage, as p50, p95 and p99 with their count.

    Returns:
        ``{"total": {"p50_ms": ..., "p95_ms": ..., "p99_ms": ..., "count": ...}, ...}``;
        empty where nothing was logged.
    """
    groups = database[MATCH_LOG].aggregate(
        [
            {"$match": span.condition | {"status": "ok"}},
            {"$project": {"stage": {"$objectToArray": "$milliseconds"}}},
            {"$unwind": "$stage"},
            {
                "$group": {
                    "_id": "$stage.k",
                    "count": {"$sum": 1},
                    "values": _percentiles_of("$stage.v"),
                }
            },
        ]
    )
    return {
        group["_id"]: dict(zip(PERCENTILES, group["values"], strict=True))
        | {"count": group["count"]}
        for group in groups
    }


def most_matched(
    database: Database[Document], span: Span, limit: int = DEFAULT_LIMIT
) -> list[dict[str, Any]]:
    """Products by how often they were a request's best match, most often first.

    Returns:
        Rows ``{"product_id", "matches", "mean_score"}``.
    """
    groups = database[MATCH_LOG].aggregate(
        [
            {"$match": span.condition | {"status": "ok"}},
            {"$project": {"matches": {"$slice": ["$matches", 1]}}},
            {"$unwind": "$matches"},
            {
                "$group": {
                    "_id": "$matches.product_id",
                    "matches": {"$sum": 1},
                    "mean_score": {"$avg": "$matches.score"},
                }
            },
            {"$sort": {"matches": -1, "_id": 1}},
            {"$limit": limit},
        ]
    )
    return [
        {
            "product_id": group["_id"],
            "matches": group["matches"],
            "mean_score": group["mean_score"],
        }
        for group in groups
    ]


def _count_of(condition: Document) -> Document:
    return {"$sum": {"$cond": [condition, 1, 0]}}


def _percentiles_of(value: Any) -> Document:
    """Those of the numbers; what is none is left aside."""
    points = list(PERCENTILES.values())
    return {"$percentile": {"input": value, "p": points, "method": "approximate"}}
