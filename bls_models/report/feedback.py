"""How good matches are by the feedback on them, over time and by variant.

A request is judged once somebody accepted a product of it, or rejected its first match. Its rank is
that of the best accepted product in the answer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.database import Database

from bls_models.database.queries import Span
from bls_models.database.store import FEEDBACK, MATCH_LOG, Document

# Standard normal quantile of a two-sided interval of 95%.
Z_95 = 1.959964
MOST_REQUESTS_A_FIND = 1000


@dataclass(frozen=True)
class JudgedRequest:
    """One match with what people made of it.

    Attributes:
        request_id: of the match.
        time: of the match, UTC.
        variant: that it was answered with.
        texts: of its query.
        image_hashes: sha256 of its photos, in hex.
        accepted: ids of the products that were accepted.
        rank: of the best accepted product in the answer, 1 being the first; None if no accepted
            product is in it.
        first_rejected: whether the first match was rejected.
        clicks: how many of its products were clicked.
    """

    request_id: str
    time: datetime
    variant: str
    texts: tuple[str, ...]
    image_hashes: tuple[str, ...]
    accepted: tuple[str, ...]
    rank: int | None
    first_rejected: bool
    clicks: int

    @property
    def judged(self) -> bool:
        """Whether the feedback tells if the answer was right."""
        return bool(self.accepted) or self.first_rejected


def share_interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's interval of 95% for a share; (0, 1) where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    share, z = successes / count, Z_95
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def feedback_in(database: Database[Document], span: Span) -> list[Document]:
    """What was told in a span of time."""
    return list(database[FEEDBACK].find(span.condition))


def requests_with_feedback(
    database: Database[Document], feedback: Iterable[Document] | None = None
) -> list[JudgedRequest]:
    """The requests that feedback names and the match log still holds, oldest first.

    Args:
        database: has the log.
        feedback: what was told of them; None: all there is.
    """
    told: dict[str, list[Document]] = defaultdict(list)
    for item in database[FEEDBACK].find() if feedback is None else feedback:
        told[item["request_id"]].append(item)
    ids = list(told)
    entries: dict[str, Document] = {}
    for start in range(0, len(ids), MOST_REQUESTS_A_FIND):
        wanted = ids[start : start + MOST_REQUESTS_A_FIND]
        for entry in database[MATCH_LOG].find({"request_id": {"$in": wanted}, "status": "ok"}):
            # Of requests with the same id, as after a retry, the latest was seen.
            known = entries.get(entry["request_id"])
            if known is None or known["time"] < entry["time"]:
                entries[entry["request_id"]] = entry
    found = [_judged(entry, told[request_id]) for request_id, entry in entries.items()]
    return sorted(found, key=lambda item: item.time)


def _judged(entry: Document, told: Sequence[Document]) -> JudgedRequest:
    products = [match["product_id"] for match in entry["matches"]]
    by_event: dict[str, set[str]] = defaultdict(set)
    for item in told:
        by_event[item["event"]].add(item["product_id"])
    accepted = by_event["accepted"]
    # With an offset the answer begins further down.
    first = entry["inputs"]["offset"] + 1
    ranks = [rank for rank, product in enumerate(products, start=first) if product in accepted]
    return JudgedRequest(
        request_id=entry["request_id"],
        time=entry["time"],
        variant=entry["variant"],
        texts=tuple(entry["inputs"]["texts"]),
        image_hashes=tuple(image["sha256"] for image in entry["inputs"]["images"]),
        accepted=tuple(sorted(accepted)),
        rank=min(ranks, default=None),
        first_rejected=first == 1 and bool(products) and products[0] in by_event["rejected"],
        clicks=len(by_event["clicked"]),
    )


def accuracy(requests: Iterable[JudgedRequest]) -> dict[str, Any]:
    """Figures over requests.

    Returns:
        ``requests`` (with any feedback), ``judged``, ``top1`` and ``top5`` (shares of the judged
        whose accepted product was first, or among the first five), ``top1_interval`` (95%),
        ``mrr`` (mean reciprocal rank, 0 where no accepted product was in the answer), ``clicks``.
        Shares are None where nothing was judged.
    """
    everything = list(requests)
    judged = [item for item in everything if item.judged]
    count = len(judged)
    first = sum(item.rank == 1 for item in judged)
    five = sum(item.rank is not None and item.rank <= 5 for item in judged)
    reciprocal = sum(1 / item.rank for item in judged if item.rank is not None)
    return {
        "requests": len(everything),
        "judged": count,
        "top1": first / count if count else None,
        "top1_interval": share_interval(first, count),
        "top5": five / count if count else None,
        "mrr": reciprocal / count if count else None,
        "clicks": sum(item.clicks for item in everything),
    }


def feedback_report(requests: Sequence[JudgedRequest]) -> dict[str, dict[str, dict[str, Any]]]:
    """``accuracy`` by day (``2026-01-31``, UTC) under ``days``, by variant under ``variants``."""

    def by(key: Callable[[JudgedRequest], str]) -> dict[str, dict[str, Any]]:
        groups: dict[str, list[JudgedRequest]] = defaultdict(list)
        for item in requests:
            groups[key(item)].append(item)
        return {name: accuracy(groups[name]) for name in sorted(groups)}

    return {
        "days": by(lambda item: f"{item.time:%Y-%m-%d}"),
        "variants": by(lambda item: item.variant),
    }
