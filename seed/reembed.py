"""Vectors for the server's bundle, for products that carry those of another one.

A server never compares vectors of two bundles: after a change of bundle the products stored
before are not found until their vectors are computed anew, from their stored pictures.
"""

from __future__ import annotations

import asyncio

from pymongo.database import Database

from bls_models.database.store import PRODUCTS, Document, database_errors
from product_match_client import AsyncProductMatchClient, ClientError
from reporting.progress import Report

CONCURRENCY = 8
TIMEOUT_S = 120.0


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
    async with AsyncProductMatchClient(url, TIMEOUT_S) as client:
        answer = await client.match(texts="anything", top_k=1)
        fingerprint = answer.details["bundle"]["fingerprint"]
        with database_errors("listing products"):
            stale = database[PRODUCTS].find({"fingerprint": {"$ne": fingerprint}}, {"_id": 1})
            ids = [document["_id"] for document in stale]
        report(f"{len(ids)} products have vectors of another bundle than {fingerprint}")
        window = asyncio.Semaphore(CONCURRENCY)
        failed = done = 0

        async def send(product_id: str) -> None:
            nonlocal failed, done
            async with window:
                try:
                    await client.reembed(product_id)
                except ClientError as error:
                    failed += 1
                    report(f"{product_id}: {error}")
            done += 1
            if done % 100 == 0:
                report(f"{done} of {len(ids)}")

        await asyncio.gather(*map(send, ids))
    report(f"{done - failed} reembedded, {failed} failed")
    return failed
