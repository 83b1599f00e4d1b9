"""What the request logs say, as plain documents; times are UTC."""

from __future__ import annotations

from typing import Any

from pymongo import DESCENDING
from pymongo.database import Database

from bls_models.database.store import INGEST_LOG, MATCH_LOG, Document

DEFAULT_LIMIT = 50
PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


def recent_matches(database: Database[Document], limit: int = DEFAULT_LIMIT) -> list[Document]:
    """The latest match requests, newest first, errors among them."""
    return list(database[MATCH_LOG].find().sort("time", DESCENDING).limit(limit))


def recent_errors(
    database: Database[Document], log: str = MATCH_LOG, limit: int = DEFAULT_LIMIT
) -> list[Document]:
    """The latest failed requests of ``match_log`` or ``ingest_log``, newest first.

    Raises:
        ValueError: ``log`` is neither.
    """
    if log not in (MATCH_LOG, INGEST_LOG):
        raise ValueError(f"log is {log!r}; expected {MATCH_LOG!r} or {INGEST_LOG!r}")
    return list(database[log].find({"status": "error"}).sort("time", DESCENDING).limit(limit))


def latency_percentiles(database: Database[Document]) -> dict[str, dict[str, float]]:
    """Milliseconds of answered requests by stage, as p50, p95 and p99 with their count.

    Returns:
        ``{"total": {"p50_ms": ..., "p95_ms": ..., "p99_ms": ..., "count": ...}, ...}``;
        empty where nothing was logged.
    """
    groups = database[MATCH_LOG].aggregate(
        [
            {"$match": {"status": "ok"}},
            {"$project": {"stage": {"$objectToArray": "$milliseconds"}}},
            {"$unwind": "$stage"},
            {
                "$group": {
                    "_id": "$stage.k",
                    "count": {"$sum": 1},
                    "values": {
                        "$percentile": {
                            "input": "$stage.v",
                            "p": list(PERCENTILES.values()),
                            "method": "approximate",
                        }
                    },
                }
            },
        ]
    )
    return {
        group["_id"]: dict(zip(PERCENTILES, group["values"], strict=True))
        | {"count": group["count"]}
        for group in groups
    }


def most_matched(database: Database[Document], limit: int = DEFAULT_LIMIT) -> list[dict[str, Any]]:
    """Products by how often they were a request's best match, most often first.

    Returns:
        Rows ``{"product_id", "matches", "mean_score"}``.
    """
    groups = database[MATCH_LOG].aggregate(
        [
            {"$match": {"status": "ok"}},
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
