"""Requests that are repeated while the service is unavailable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from product_match_client import ServiceUnavailableError

Answer = TypeVar("Answer")
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class RetryPolicy:
    """How long a request is repeated while the service is unavailable.

    Attributes:
        attempts: how often it is sent at most.
        first_delay_s: the wait before the second attempt, in seconds; it doubles each time.
        longest_delay_s: where the doubling ends, in seconds.
    """

    attempts: int = 8
    first_delay_s: float = 0.5
    longest_delay_s: float = 15.0

    def delays_s(self) -> Iterator[float]:
        """The waits between the attempts, in seconds."""
        for attempt in range(self.attempts - 1):
            yield min(self.first_delay_s * 2**attempt, self.longest_delay_s)


class RepeatedRequests:
    """Requests of many workers, which all end when the service stays away.

    Args:
        retry: how long each is repeated.
        sleep: waits between attempts.

    Attributes:
        stopped_by: the last refusal of a request that was repeated in vain while no other got
            through; None as long as the service is there.
    """

    def __init__(self, retry: RetryPolicy, sleep: Sleep) -> None:
        self._retry = retry
        self._sleep = sleep
        self._answered = 0
        self.stopped_by: ServiceUnavailableError | None = None

    async def send(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send a request until it is answered.

        Raises:
            ClientError: it was refused, or repeated in vain.
        """
        before = self._answered
        try:
            answer = await self._repeated(request)
        except ServiceUnavailableError as error:
            if self._answered == before:
                self.stopped_by = error
            raise
        self._answered += 1
        return answer

    async def _repeated(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        for delay_s in self._retry.delays_s():
            try:
                return await request()
            except ServiceUnavailableError:
                if self.stopped_by is not None:
                    raise
                await self._sleep(delay_s)
        return await request()
