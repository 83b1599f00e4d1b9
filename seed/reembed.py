"""Vectors for the server's bundle, for products that carry those of another one.

A server never compares vectors of two bundles: after a change of bundle the products stored
before are not found until their vectors are computed anew, from their stored pictures. To resume,
run it again: what was done has the server's vectors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Protocol

from pymongo.database import Database

from bls_models.database.store import Document, Store
from bls_models.settings import Settings
from product_match_client import AsyncProductMatchClient, ClientError, IngestResult
from reporting.progress import Report
from seed.retries import RepeatedRequests, RetryPolicy, Sleep

CONCURRENCY = 8
TIMEOUT_S = 120.0
# Ids read at a time.
PAGE = 1000
REPORTED_EVERY = 100


class ReembedClient(Protocol):
    """What is needed of `AsyncProductMatchClient`."""

    async def reembed(self, product_id: str) -> IngestResult:
        """Compute a product's vectors anew."""


async def reembed_stale(url: str, database: Database[Document], report: Report) -> int:
    """Reembed every product whose fingerprint is not the server's.

    Args:
        url: the server.
        database: the server's database, to list the products from.
        report: called with a line on the progress.

    Returns:
        Number of products that failed; each was reported.

    Raises:
        ClientError: the server does not answer.
        DatabaseError: the database does not answer.
    """
    store = Store(database, Settings().log_days)
    async with AsyncProductMatchClient(url, TIMEOUT_S) as client:
        answer = await client.match(texts="anything", top_k=1)
        fingerprint = answer.details["bundle"]["fingerprint"]
        report(f"looking for products with vectors of another bundle than {fingerprint}")
        return await reembed(_stale_ids(store, fingerprint), client, report)


def _stale_ids(store: Store, fingerprint: str) -> Iterator[str]:
    for documents in store.iterate_products(PAGE, ("fingerprint",)):
        for document in documents:
            # Others cannot be named in a request.
            if isinstance(document["_id"], str) and document.get("fingerprint") != fingerprint:
                yield document["_id"]


async def reembed(
    product_ids: Iterable[str],
    client: ReembedClient,
    report: Report,
    *,
    retry: RetryPolicy | None = None,
    sleep: Sleep = asyncio.sleep,
) -> int:
    """Reembed products, ``CONCURRENCY`` at a time; their ids are read as they are needed.

    Args:
        product_ids: which ones.
        client: sends the requests.
        report: called with a line on the progress.
        retry: for an unavailable service; None takes the defaults of `RetryPolicy`.
        sleep: waits between attempts.

    Returns:
        Number of products that failed; each was reported.

    Raises:
        ServiceUnavailableError: the service stays away.
    """
    requests = RepeatedRequests(retry or RetryPolicy(), sleep)
    source = iter(product_ids)
    failed = done = 0

    async def work() -> None:
        nonlocal failed, done
        for product_id in source:
            try:
                await requests.send(lambda: client.reembed(product_id))  # noqa: B023 - at once
            except ClientError as error:
                failed += 1
                report(f"{product_id}: {error}")
            done += 1
            if done % REPORTED_EVERY == 0:
                report(f"{done} done")
            if requests.stopped_by is not None:
                return

    async with asyncio.TaskGroup() as workers:
        for _ in range(CONCURRENCY):
            workers.create_task(work())
    report(f"{done - failed} reembedded, {failed} failed")
    if requests.stopped_by is not None:
        report("stopped; run it again to go on")
        raise requests.stopped_by
    return failed
