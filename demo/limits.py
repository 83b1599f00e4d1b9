"""How much one visitor may ask of the page."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from cachetools import LRUCache
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.access import LOGIN, UPLOAD
from demo.uploads import uploaded
from product_match_client.errors import BadRequestError

MOST_ADDRESSES = 10_000
# Whoever sends nothing for so long has gone.
IDLE_S = 15
# The page posts what stands in its fields, never what it shows.
MOST_BODY = 2**20
TOO_FAST = "too many requests from your address; slow down and try again"
TOO_SLOW = f"nothing came for {IDLE_S} s; send it again"
TOO_LARGE = f"over {MOST_BODY} bytes; expected the page's own request"
NO_JSON = "no JSON; expected the page's own request"


class RefusedError(Exception):
    """A request that is not passed on.

    Args:
        status: of HTTP.
        said: to the visitor.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        # Gradio's own script shows the one of some answers, and the other of the rest.
        self.answer = JSONResponse({"detail": said, "error": said}, status)
        if status == 429:
            self.answer.headers["Retry-After"] = "1"


class Buckets:
    """A token bucket for each address, as the gateway has one for each key.

    Args:
        rate: tokens a second.
        burst: tokens at once on top of that.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        # Tokens and when they were counted. Whoever is forgotten starts anew with a full bucket.
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(MOST_ADDRESSES)

    def take(self, scope: Scope, tokens: int = 1) -> bool:
        """Take tokens of the address that a request comes from; False where it has too few."""
        address = scope["client"][0] if scope["client"] else ""
        now = time.monotonic()
        left, then = self._buckets.get(address, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        granted = left >= tokens
        self._buckets[address] = (left - granted * tokens, now)
        return granted


class PostLimits:
    """ASGI middleware: what makes the page work comes at its rate, is small, and names no files.

    The paths of files that it names are those of uploads. Gradio would fetch one that is a URL.

    Args:
        app: what it stands before.
        rate: requests a second of each address.
        burst: requests at once on top of that.
    """

    def __init__(self, app: ASGIApp, rate: int, burst: int) -> None:
        self._app = app
        self._buckets = Buckets(rate, burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what has been read and is fit, all else is refused."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            if not self._buckets.take(scope):
                raise RefusedError(429, TOO_FAST)
            if scope["path"] != UPLOAD:
                receive = await _read(scope["path"], receive)
        except RefusedError as refusal:
            await refusal.answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def next_message(receive: Receive) -> Message:
    """What comes next of a request.

    Raises:
        RefusedError: nothing comes.
    """
    try:
        return await asyncio.wait_for(receive(), IDLE_S)
    except TimeoutError:
        raise RefusedError(408, TOO_SLOW) from None


async def _read(path: str, receive: Receive) -> Receive:
    """Read a body that is no upload, and give what gives it again."""
    body = bytearray()
    while True:
        message = await next_message(receive)
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise RefusedError(413, TOO_LARGE)
        if not message.get("more_body"):
            break
    if path != LOGIN:
        try:
            _check_files(json.loads(body))
        except (ValueError, RecursionError):
            raise RefusedError(400, NO_JSON) from None
        except BadRequestError as error:
            raise RefusedError(400, str(error)) from error
    # One message for the body, or that there is none since the visitor has gone.
    whole = {**message, "body": bytes(body)} if message["type"] == "http.request" else message
    first = [whole]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def _check_files(document: Any) -> None:
    """Look at whatever may become a file in Gradio.

    Raises:
        BadRequestError: it is none that was uploaded.
    """
    found = [document]
    while found:
        value = found.pop()
        if isinstance(value, dict):
            if value.get("path") is not None:
                uploaded(value["path"])
            found.extend(value.values())
        elif isinstance(value, list):
            found.extend(value)
