"""Requests that come at their own time, however the server does: an open loop.

A closed loop slows down with the server, so it cannot overload it. Here each request has its
moment, and its client gives up at its deadline and closes the connection, as clients do.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.http_load import Address, content_length
from loadtest.photos import with_serial

IN_TIME = "in time"
REFUSED = "refused"
LATE = "late"
FAILED = "failed"
OUTCOMES = (IN_TIME, REFUSED, LATE, FAILED)
READ_BYTES = 65536

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class OpenLoadResult:
    """A round of open load.

    Attributes:
        seconds: how long requests were sent.
        outcomes: requests by what became of them, one of ``OUTCOMES``; ``late`` has no answer by
            its deadline, ``failed`` an answer that is neither a match nor 503, or none.
        answered_ms: milliseconds of each that was answered in time.
        refused_ms: milliseconds of each that was refused.
    """

    seconds: float
    outcomes: Counter[str]
    answered_ms: list[float]
    refused_ms: list[float]

    def rate(self, outcome: str) -> float:
        """Requests a second with that outcome."""
        return self.outcomes[outcome] / self.seconds


def run_open_load(
    address: Address, requests: Sequence[bytes], rate: float, seconds: float, deadline_s: float
) -> OpenLoadResult:
    """Send requests at random moments, ``rate`` a second on average (Poisson).

    Args:
        address: host and port.
        requests: whole HTTP requests, each with a photo of ``read_photos``, sent in turn; each
            photo is made one that was never sent.
        rate: requests a second.
        seconds: how long they are sent.
        deadline_s: seconds after which a request's client gives up.
    """
    return asyncio.run(_OpenLoad(address, requests, deadline_s).run(rate, seconds))


class _OpenLoad:
    def __init__(self, address: Address, requests: Sequence[bytes], deadline_s: float) -> None:
        self._address = address
        self._requests = requests
        self._deadline_s = deadline_s
        self._idle: list[Connection] = []
        self._serials = itertools.count(secrets.randbits(62))
        self._outcomes: Counter[str] = Counter()
        self._took_ms: dict[str, list[float]] = {name: [] for name in OUTCOMES}

    async def run(self, rate: float, seconds: float) -> OpenLoadResult:
        choice = np.random.default_rng()
        start = time.perf_counter()
        at = 0.0
        async with asyncio.TaskGroup() as group:
            for request in itertools.cycle(self._requests):
                at += choice.exponential(1 / rate)
                if at > seconds:
                    break
                await asyncio.sleep(start + at - time.perf_counter())
                group.create_task(self._send(request, start + at))
        for _, writer in self._idle:
            writer.close()
        return OpenLoadResult(
            seconds, self._outcomes, self._took_ms[IN_TIME], self._took_ms[REFUSED]
        )

    async def _send(self, request: bytes, due: float) -> None:
        """Send one; its time counts from when it was due."""
        left = due + self._deadline_s - time.perf_counter()
        connection = None
        try:
            async with asyncio.timeout(left):
                connection = self._idle.pop() if self._idle else await self._connect()
                status = await self._exchange(connection, with_serial(request, next(self._serials)))
            outcome = {200: IN_TIME, 503: REFUSED}.get(status, FAILED)
            self._idle.append(connection)
        except (OSError, EOFError, TimeoutError) as error:
            outcome = LATE if isinstance(error, TimeoutError) else FAILED
            if connection is not None:
                connection[1].close()
        self._outcomes[outcome] += 1
        self._took_ms[outcome].append((time.perf_counter() - due) * 1e3)

    async def _connect(self) -> Connection:
        return await asyncio.open_connection(*self._address, limit=READ_BYTES)

    async def _exchange(self, connection: Connection, request: bytes | bytearray) -> int:
        """The status of the answer."""
        reader, writer = connection
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(content_length(head))
        return int(head.split(b" ", 2)[1])
