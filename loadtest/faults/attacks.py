"""Clients that send the worst that a request may hold, without a pause."""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from loadtest.search_stalls import hostile_filter
from product_match_client import ClientError
from product_match_client.calls import Call, match_call, upsert_call
from product_match_client.transports import blocking_transport

CLIENTS = 4
TIMEOUT_S = 60.0
# Of products that the attack writes again and again.
PRODUCTS = 20
# As many as a product may have.
ATTRIBUTES = 64
NAMES = 1000

Calls = Callable[[int], Call[Any]]


def filter_call(number: int) -> Call[Any]:
    """A match under as many conditions as are allowed, on one field or on two in turn."""
    if number % 2:
        conditions = [
            {"name": {"$gt": f"product {at:04d}"}, "price": {"$gte": at}} for at in range(120)
        ]
        return match_call((), "red mug", filter={"$or": conditions}, caption="never")
    return match_call((), "red mug", filter=hostile_filter(NAMES), caption="never")


def attribute_call(number: int) -> Call[Any]:
    """A product whose attributes have keys that no other product ever had."""
    attributes = {uuid.uuid4().hex: "x" for _ in range(ATTRIBUTES)}
    product = {"product_id": f"attack-{number % PRODUCTS}", "name": "Attack", "category": "attack"}
    return upsert_call({**product, "attributes": attributes})


class Attack:
    """Threads that send such calls until they are stopped; the answers are counted.

    Args:
        url: the server.
        calls: makes the call of a number, which counts up.

    Attributes:
        outcomes: how often each kind of answer came: ``ok``, or the error's status.
    """

    def __init__(self, url: str, calls: Calls) -> None:
        self._url = url
        self._calls = calls
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._send_on) for _ in range(CLIENTS)]

    @contextlib.contextmanager
    def running(self) -> Iterator[Attack]:
        """Send until the block ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _send_on(self) -> None:
        with contextlib.closing(blocking_transport(self._url, TIMEOUT_S)) as transport:
            while not self._stop.is_set():
                outcome = "ok"
                try:
                    transport.send(self._calls(next(self._numbers)))
                except ClientError as error:
                    outcome = str(error.status)
                self.outcomes[outcome] += 1
