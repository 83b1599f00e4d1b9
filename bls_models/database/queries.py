"""Questions to the database: products, and what the logs say.

Every function takes the database (see ``bls_models.database.store.connect``) and returns plain
documents. Times are UTC; ``since`` bounds a question to entries from that moment on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING
from pymongo.database import Database

from bls_models.database.store import INGEST_LOG, MATCH_LOG, PRODUCTS, Document
from bls_models.product import client_document

DEFAULT_LIMIT = 50
PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


def _products(
    database: Database[Document], query: Document, sort: str, limit: int, skip: int
) -> list[Document]:
    found = database[PRODUCTS].find(query).sort(sort, ASCENDING).skip(skip).limit(limit)
    return [client_document(document) for document in found]


def products_by_id(database: Database[Document], ids: Sequence[str]) -> list[Document]:
    """Products with these ids, in the order of ``ids``; ids that are not stored are left out."""
    found = {item["_id"]: item for item in database[PRODUCTS].find({"_id": {"$in": list(ids)}})}
    return [client_document(found[product_id]) for product_id in ids if product_id in found]


def products_by_category(
    database: Database[Document], category: str, limit: int = DEFAULT_LIMIT, skip: int = 0
) -> list[Document]:
    """Products of exactly this category, by id."""
    return _products(database, {"category": category}, "_id", limit, skip)


def products_by_price(
    database: Database[Document],
    least: float,
    most: float,
    currency: str | None = None,
    limit: int = DEFAULT_LIMIT,
    skip: int = 0,
) -> list[Document]:
    """Products with ``least <= price <= most``, of all currencies or of one, cheapest first."""
    query: Document = {"price": {"$gte": least, "$lte": most}}
    if currency is not None:
        query["currency"] = currency
    return _products(database, query, "price", limit, skip)


def products_by_name(
    database: Database[Document], words: str, limit: int = DEFAULT_LIMIT, skip: int = 0
) -> list[Document]:
    """Products whose name contains all words, in any order and any case, by name.

    A scan over the names: a text index would be faster on a large catalogue, but not every
    server of MongoDB's protocol has one. For search by meaning use ``product_match``.
    """
    conditions = [{"name": {"$regex": re.escape(word), "$options": "i"}} for word in words.split()]
    return _products(database, {"$and": conditions} if conditions else {}, "name", limit, skip)


def categories(database: Database[Document]) -> dict[str, int]:
    """Number of products in each category, most first."""
    groups = database[PRODUCTS].aggregate(
        [
            {"$group": {"_id": "$category", "count": {"$sum": 1}}},
            {"$sort": {"count": -1, "_id": 1}},
        ]
    )
    return {group["_id"]: group["count"] for group in groups}


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


def latency_percentiles(
    database: Database[Document], since: datetime | None = None
) -> dict[str, dict[str, float]]:
    """Milliseconds of answered requests by stage, as p50, p95 and p99 with their count.

    Returns:
        ``{"total": {"p50_ms": ..., "p95_ms": ..., "p99_ms": ..., "count": ...}, ...}``;
        empty where nothing was logged.
    """
    matched: Document = {"status": "ok"}
    if since is not None:
        matched["time"] = {"$gte": since}
    groups = database[MATCH_LOG].aggregate(
        [
            {"$match": matched},
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


def most_matched(
    database: Database[Document],
    since: datetime | None = None,
    first_only: bool = True,
    limit: int = DEFAULT_LIMIT,
) -> list[dict[str, Any]]:
    """Products by how often they were matched, most often first.

    Args:
        database: the product database.
        since: count entries from then on.
        first_only: count only the best match of a request, not every one returned.
        limit: rows wanted.

    Returns:
        Rows ``{"product_id", "matches", "mean_score"}``.
    """
    matched: Document = {"status": "ok"}
    if since is not None:
        matched["time"] = {"$gte": since}
    matches: Any = {"$slice": ["$matches", 1]} if first_only else "$matches"
    groups = database[MATCH_LOG].aggregate(
        [
            {"$match": matched},
            {"$project": {"matches": matches}},
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
