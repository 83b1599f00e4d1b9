"""Compares what was sent with what the database holds afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pymongo.database import Database

from bls_models.database.store import INGEST_LOG, MATCH_LOG, PRODUCTS, Document
from bls_models.errors import ServiceError
from loadtest.faults.traffic import MATCH, Sent, Traffic
from local_server.sync_check import ask_for_check

AGREE_SECONDS = 60.0
LOGS = {MATCH: MATCH_LOG}


@dataclass(frozen=True)
class LogAudit:
    """Requests and their log entries.

    Attributes:
        expected: requests that were acknowledged.
        written: entries with the ids of requests that were sent, acknowledged or not.
        missing: acknowledged requests without an entry.
        doubled: entries beyond the first of a request.
    """

    expected: int
    written: int
    missing: int
    doubled: int


def audit_logs(database: Database[Document], sent: Sequence[Sent], allowed: int = 0) -> LogAudit:
    """Count log entries of requests, as soon as all are there, or after a while.

    Args:
        database: the server's.
        sent: requests, each with an id of its own.
        allowed: acknowledged requests that may lack an entry, so that nobody waits for these.
    """
    deadline = time.monotonic() + AGREE_SECONDS
    while True:
        audit = _count(database, sent)
        if audit.missing <= allowed or time.monotonic() > deadline:
            return audit
        time.sleep(0.5)


def _count(database: Database[Document], sent: Sequence[Sent]) -> LogAudit:
    found: Counter[str] = Counter()
    by_log: dict[str, set[str]] = {}
    for item in sent:
        by_log.setdefault(LOGS.get(item.operation, INGEST_LOG), set()).add(item.request_id)
    for log, ids in by_log.items():
        # All are read: some databases take minutes to find tens of thousands of ids.
        for entry in database[log].find({}, {"request_id": 1}):
            if entry["request_id"] in ids:
                found[entry["request_id"]] += 1
    expected = [item.request_id for item in sent if item.acknowledged]
    return LogAudit(
        expected=len(expected),
        written=found.total(),
        missing=sum(not found[key] for key in expected),
        doubled=sum(count - 1 for count in found.values()),
    )


def wrong_products(database: Database[Document], traffic: Traffic) -> list[str]:
    """The writer's products that are not stored as acknowledged.

    A product of which one write had no answer may be in either state.
    """
    query = {"_id": {"$in": list(traffic.products)}}
    stored = {
        item["_id"]: item["revision"] for item in database[PRODUCTS].find(query, {"revision": 1})
    }
    return [
        key
        for key, revision in traffic.products.items()
        if key not in traffic.uncertain and stored.get(key) != revision
    ]


def index_difference(http_url: str) -> str:
    """What differs between index and database, or why they cannot be compared; empty: nothing.

    Differences may pass: for some seconds after a lease was lost nobody follows the database.
    """
    deadline = time.monotonic() + AGREE_SECONDS
    while True:
        try:
            differences: dict[str, int] = ask_for_check(http_url, repair=False)["differences"]
        except ServiceError as error:
            difference = str(error)
        else:
            kinds = sorted(differences.items())
            difference = ", ".join(f"{count} {kind}" for kind, count in kinds)
        if not difference or time.monotonic() > deadline:
            return difference
        time.sleep(0.5)
