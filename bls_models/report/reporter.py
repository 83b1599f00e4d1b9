"""Answers reports from the logs, and bounds what one of them reads and holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from pymongo.database import Database

from bls_models.database.queries import (
    Span,
    history,
    latency_percentiles,
    most_matched,
    newest_span,
    recent_errors,
    recent_matches,
)
from bls_models.database.store import (
    FEEDBACK,
    INGEST_LOG,
    MATCH_LOG,
    Document,
    database_errors,
)
from bls_models.product import json_bytes
from bls_models.report import request
from bls_models.report.feedback import (
    feedback_in,
    feedback_report,
    requests_with_feedback,
)
from bls_models.report.request import ReportQuery
from bls_models.report.server import ServerState
from bls_models.settings import Settings

# Feedback takes so many times as long as a log entry, since the request behind it is looked up.
FEEDBACK_COST = 10


class Reporter:
    """Answers the requests of ``product_report``.

    Each question to the database has that one's time limit, by how it is connected.

    Args:
        database: has the logs and the feedback.
        server: tells of the server itself.
        settings: how many entries are read for a report, and how large an answer may be.
    """

    def __init__(
        self, database: Database[Document], server: ServerState, settings: Settings
    ) -> None:
        self._database = database
        self._server = server
        self._settings = settings
        self._answers: dict[str, Callable[[ReportQuery, datetime], Document]] = {
            request.MATCHES: self._matches,
            request.ERRORS: self._errors,
            request.HISTORY: self._history,
            request.STAGES: self._stages,
            request.FEEDBACK: self._feedback,
            request.PRODUCTS: self._products,
            request.SERVER: lambda query, now: self._server.tell(),
        }

    def report(self, query: ReportQuery, now: datetime) -> Document:
        """One report, which JSON has a form for; docs/api.md has its fields.

        Args:
            query: what is asked.
            now: the time, UTC.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        with database_errors(f"reading what the report {query.report} tells"):
            told = self._answers[query.report](query, now)
        return {"report": query.report, "time": now.isoformat()} | told

    def _matches(self, query: ReportQuery, now: datetime) -> Document:
        return self._entries([_told(item) for item in recent_matches(self._database, query.limit)])

    def _errors(self, query: ReportQuery, now: datetime) -> Document:
        found = [
            (item["time"], {"log": log} | _told(item))
            for log in (MATCH_LOG, INGEST_LOG)
            for item in recent_errors(self._database, log, query.limit)
        ]
        found.sort(key=lambda item: item[0], reverse=True)
        return self._entries([entry for _, entry in found[: query.limit]])

    def _entries(self, entries: Sequence[Document]) -> Document:
        """As many of the entries, the newest first, as an answer can hold."""
        left, kept = self._settings.max_answer_bytes, []
        for entry in entries:
            left -= len(json_bytes(entry))
            if left < 0:
                break
            kept.append(entry)
        return {"entries": kept, "cut": left < 0}

    def _history(self, query: ReportQuery, now: datetime) -> Document:
        since, span = _since(query, now), self._span(query, now)
        buckets = history(self._database, span, since, query.limit)
        return _about(span) | {
            "bucket_seconds": 3600 * query.hours / query.limit,
            "buckets": [item | {"time": item["time"].isoformat()} for item in buckets],
        }

    def _stages(self, query: ReportQuery, now: datetime) -> Document:
        span = self._span(query, now)
        return _about(span) | {"stages": latency_percentiles(self._database, span)}

    def _products(self, query: ReportQuery, now: datetime) -> Document:
        span = self._span(query, now)
        return _about(span) | {"products": most_matched(self._database, span, query.limit)}

    def _feedback(self, query: ReportQuery, now: datetime) -> Document:
        most = max(1, self._settings.report_entries // FEEDBACK_COST)
        span = newest_span(self._database[FEEDBACK], _since(query, now), now, most)
        told = feedback_in(self._database, span)
        return _about(span) | feedback_report(requests_with_feedback(self._database, told))

    def _span(self, query: ReportQuery, now: datetime) -> Span:
        return newest_span(
            self._database[MATCH_LOG], _since(query, now), now, self._settings.report_entries
        )


def _since(query: ReportQuery, now: datetime) -> datetime:
    return now - timedelta(hours=query.hours)


def _about(span: Span) -> Document:
    return {"since": span.since.isoformat(), "until": span.until.isoformat(), "cut": span.cut}


def _told(entry: Document) -> Document:
    """A log entry as clients see it: without the server's own id, its time in ISO 8601."""
    told = {name: value for name, value in entry.items() if name != "_id"}
    return told | {"time": entry["time"].isoformat()}
