"""Which requests reach the page: those of a browser that shows it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

API = "/gradio_api"
LOGIN = "/login"
JOIN = f"{API}/queue/join"
UPLOAD = f"{API}/upload"
CALL = f"{API}/component_server/"
# What the page's own browser asks for. Gradio has much beside: calls past the queue, editing of
# pages, copies of sessions on the disk, recordings, and downloads of whatever URL stands in a path.
READ = re.compile(
    r"/|/config|/favicon\.ico|/healthz|/logout|/theme\.css|/(assets|static)/.+"
    rf"|{API}/(file=/.+|heartbeat/\w+|queue/data|upload_progress)"
)
WRITTEN = (LOGIN, JOIN, UPLOAD, CALL)
NOT_FOUND = "Not Found"
FOREIGN = "the page takes requests of its own browser windows only; a proxy has to pass Host on"


class OwnRequests:
    """ASGI middleware: 404 for what the page has no use for, 403 for what other sites' pages ask.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what a window with the page asks for."""
        if scope["type"] == "http":
            if not _is_used(scope["method"], scope["path"]):
                await JSONResponse({"detail": NOT_FOUND}, 404)(scope, receive, send)
                return
            if _is_foreign(scope):
                await JSONResponse({"detail": FOREIGN}, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_used(method: str, path: str) -> bool:
    if method == "POST":
        return path in WRITTEN
    return method in {"GET", "HEAD"} and READ.fullmatch(path) is not None


def _is_foreign(scope: Scope) -> bool:
    """Whether a page of another site asks, as far as its browser says."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return True
    if headers.get("sec-fetch-site", "none") in {"none", "same-origin"}:
        return False
    # A link to the page may stand anywhere; what it shows may not stand in a frame.
    return scope["path"] != "/" or headers.get("sec-fetch-dest") != "document"
