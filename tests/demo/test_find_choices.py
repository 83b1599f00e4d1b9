"""What there is to filter by, from a real server."""

from __future__ import annotations

import asyncio

import pytest
from serving_support import SampleProduct, Serving

from bls_models.database.store import MATCH_LOG
from demo.find.choices import ANY_WORDS, CatalogueChoices, Choices
from demo.server import Server

pytestmark = pytest.mark.server


async def read(url: str) -> list[Choices]:
    """Of several at once, one soon after, and one that wants no older ones."""
    server = Server(url)
    choices = CatalogueChoices(server)
    try:
        found = await asyncio.gather(*(choices.read() for _ in range(3)))
        return [*found, await choices.read(), await choices.read(anew=True)]
    finally:
        await server.close()


def test_choices_are_read_for_all_together_and_are_no_best_match(
    server: Serving, catalogue: list[SampleProduct]
) -> None:
    asked = {"inputs.texts": ANY_WORDS}
    log = server.database[MATCH_LOG]
    before = log.count_documents(asked)
    found = asyncio.run(read(server.url("http")))
    assert len(set(map(id, found))) == 2
    assert found[0] == found[-1]
    assert sum(count for _, count in found[0].categories) >= len(catalogue)
    assert found[0].least_price == 7.9
    # What is logged comes in its order.
    with server.client() as client:
        client.match(texts="mug", request_id="after-the-choices")
    server.log_entry("after-the-choices")
    assert log.count_documents(asked) == before + 2
    newest = log.find(asked).sort("time", -1).limit(2)
    assert [entry["matches"] for entry in newest] == [[], []]
