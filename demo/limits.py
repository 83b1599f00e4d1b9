"""How much one visitor may ask of the page."""

from __future__ import annotations

import time

from cachetools import LRUCache
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# What makes the page work or takes its disk; the rest is files and open streams.
COUNTED_PATHS = ("/queue/join", "/upload", "/run/", "/call/", "/component_server", "/login")
MOST_ADDRESSES = 10_000
REFUSAL = "too many requests from your address; slow down and try again"


class AddressLimit:
    """ASGI middleware: a token bucket for each address, as the gateway has one for each key.

    Args:
        app: what it stands before.
        rate: requests a second.
        burst: requests at once on top of that.
    """

    def __init__(self, app: ASGIApp, rate: int, burst: int) -> None:
        self._app = app
        self._rate = rate
        self._burst = burst
        # Tokens and when they were counted. Whoever is forgotten starts anew with a full bucket.
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(MOST_ADDRESSES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429 where an address has asked for more than its share."""
        if (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and any(path in scope["path"] for path in COUNTED_PATHS)
            and not self._take(scope["client"][0] if scope["client"] else "")
        ):
            refusal = JSONResponse(
                {"detail": REFUSAL, "error": REFUSAL}, 429, headers={"Retry-After": "1"}
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _take(self, address: str) -> bool:
        now = time.monotonic()
        tokens, then = self._buckets.get(address, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - then) * self._rate)
        granted = tokens >= 1
        self._buckets[address] = (tokens - granted, now)
        return granted
