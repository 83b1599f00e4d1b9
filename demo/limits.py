"""How much one visitor may ask of the page, and all may leave on its disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cachetools import LRUCache
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# What makes the page work or takes its disk; the rest is files and open streams.
COUNTED_PATHS = ("/queue/join", "/upload", "/run/", "/component_server", "/login")
MOST_ADDRESSES = 10_000
REFUSAL = "too many requests from your address; slow down and try again"

# What Gradio has beside: editing of pages, copies of sessions on the disk, recordings, streams, and
# calls past the page.
UNUSED_PATHS = (
    "/api/",
    "/call/",
    "/deep_link",
    "/dev/",
    "/monitoring",
    "/process_recording",
    "/proxy=",
    "/runs",
    "/stream/",
    "/undo-vibe-edit",
    "/vibe-",
)


class UsedPaths:
    """ASGI middleware: 404 for what the page has no use for.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what the page asks for."""
        # The name of an uploaded file is no path of the page.
        path = scope.get("path", "").partition("/file=")[0]
        if any(unused in path for unused in UNUSED_PATHS):
            await JSONResponse({"detail": "Not Found"}, 404)(scope, receive, send)
            return
        await self._app(scope, receive, send)


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


UPLOADS = "/upload"
NO_LENGTH = "an upload has to say its length, as browsers do"
NO_ROOM = "the page holds as many uploads as it may; try again in an hour"


class UploadRoom:
    """ASGI middleware: refuses uploads that the disk of the page has no room for.

    Args:
        app: what it stands before.
        folder: where uploads are kept until they are deleted.
        most_bytes: of all that the folder holds, with the uploads under way.
    """

    def __init__(self, app: ASGIApp, folder: Path, most_bytes: int) -> None:
        self._app = app
        self._folder = folder
        self._most_bytes = most_bytes
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 411 or 507 in place of an upload that cannot be kept."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or not scope["path"].rstrip("/").endswith(UPLOADS)
        ):
            await self._app(scope, receive, send)
            return
        # The web server takes no more of a body than this.
        length = Headers(scope=scope).get("content-length", "")
        if not length.isdecimal():
            await JSONResponse({"detail": NO_LENGTH}, 411)(scope, receive, send)
            return
        size = int(length)
        # Files that come of uploads under way count twice for a moment, which is on the safe side.
        if _bytes_in(self._folder) + self._under_way + size > self._most_bytes:
            await JSONResponse({"detail": NO_ROOM}, 507)(scope, receive, send)
            return
        self._under_way += size
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= size


def _bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder, whichever of them are just being deleted."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total
