"""What the server reports, asked for together and within bounds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from bls_models.specs import REPORTS
from product_match_client import AsyncProductMatchClient, ClientError

Report = dict[str, Any]

MATCHES, ERRORS, HISTORY, STAGES, FEEDBACK, PRODUCTS, SERVER = REPORTS
# The server answers them one after another, and others wait for it too.
AT_ONCE = 3
ENTRIES = 20


@dataclass(frozen=True)
class Period:
    """A time up to now.

    Attributes:
        name: how it is called.
        hours: its length.
        buckets: parts of its history.
    """

    name: str
    hours: float
    buckets: int


PERIODS = (Period("1 hour", 1, 20), Period("24 hours", 24, 24), Period("7 days", 168, 28))


async def fetch(
    client: AsyncProductMatchClient, period: Period
) -> tuple[Report, dict[str, Report | ClientError]]:
    """All reports on a period.

    Returns:
        That on the server, and all by their names; one that failed is its error.

    Raises:
        ClientError: the first one failed, as it does where the key may not ask or the database is
            away; the others are not asked then.
    """
    server = await client.report(SERVER)
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str, limit: int | None, hours: float | None) -> Report | ClientError:
        async with gate:
            try:
                return await client.report(name, limit=limit, hours=hours)
            except ClientError as error:
                return error

    asked = {
        MATCHES: (ENTRIES, None),
        ERRORS: (ENTRIES, None),
        HISTORY: (period.buckets, period.hours),
        STAGES: (None, period.hours),
        PRODUCTS: (ENTRIES, period.hours),
        # There is little of it, so all that is kept.
        FEEDBACK: (None, None),
    }
    answers = await asyncio.gather(*(ask(name, *how) for name, how in asked.items()))
    return server, {SERVER: server, **dict(zip(asked, answers, strict=True))}
