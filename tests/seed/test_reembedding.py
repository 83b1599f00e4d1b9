"""Reembedding many products: a window, retries, and going on after a stop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from product_match_client import BadRequestError, IngestResult, ServiceUnavailableError
from seed.reembed import CONCURRENCY, reembed
from seed.retries import RetryPolicy


class FakeServer:
    """Answers after some turns of the loop; ``refuse`` may raise, by id and earlier attempts."""

    def __init__(
        self, refuse: Callable[[str, int], None] = lambda product_id, before: None
    ) -> None:
        self.refuse = refuse
        self.sent: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0
        self.done: list[str] = []

    async def reembed(self, product_id: str) -> IngestResult:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        before = self.sent[product_id]
        self.sent[product_id] += 1
        self.refuse(product_id, before)
        self.done.append(product_id)
        return IngestResult(product_id, "updated", 2, {})


def run(server: FakeServer, ids: Iterator[str] | list[str], lines: list[str]) -> int:
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    return asyncio.run(reembed(ids, server, lines.append, retry=RetryPolicy(3), sleep=sleep))


def test_ids_are_read_as_they_are_needed_and_requests_are_bounded() -> None:
    server, lines = FakeServer(), []
    read_ahead = 0

    def ids() -> Iterator[str]:
        nonlocal read_ahead
        for number in range(250):
            read_ahead = max(read_ahead, number - len(server.done))
            yield f"p{number}"

    assert run(server, ids(), lines) == 0
    assert len(server.done) == 250
    assert server.most_under_way == CONCURRENCY
    assert read_ahead <= CONCURRENCY
    assert lines == ["100 done", "200 done", "250 reembedded, 0 failed"]


def test_a_server_that_is_away_for_a_moment_costs_no_product() -> None:
    def refuse(product_id: str, before: int) -> None:
        if before < 2:
            raise ServiceUnavailableError("away")

    server, lines = FakeServer(refuse), []
    assert run(server, [f"p{number}" for number in range(20)], lines) == 0
    assert len(server.done) == 20


def test_a_product_that_is_refused_is_reported_and_the_others_go_on() -> None:
    def refuse(product_id: str, before: int) -> None:
        if product_id == "p3":
            raise BadRequestError("no picture")

    server, lines = FakeServer(refuse), []
    assert run(server, [f"p{number}" for number in range(10)], lines) == 1
    assert server.sent["p3"] == 1
    assert lines == ["p3: no picture", "9 reembedded, 1 failed"]


def test_a_server_that_stays_away_ends_it_with_what_to_do() -> None:
    def refuse(product_id: str, before: int) -> None:
        raise ServiceUnavailableError("away")

    server, lines = FakeServer(refuse), []
    with pytest.raises(ServiceUnavailableError, match="away"):
        run(server, [f"p{number}" for number in range(1000)], lines)
    assert len(server.sent) <= CONCURRENCY
    assert lines[-1] == "stopped; run it again to go on"
