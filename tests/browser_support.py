"""A real Chromium for pages under test, and the record of what a page should not do."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from fetch_tools import BROWSER_OPTIONS, CHROMIUM
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    WebError,
    WebSocket,
    expect,
    sync_playwright,
)
from serving_support import WAIT_SECONDS

LAUNCH_OPTIONS = (
    *BROWSER_OPTIONS,
    # A camera that shows a test pattern.
    "--use-fake-device-for-media-stream",
    # No request leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
# What a page has in itself comes from nowhere.
OWN_SCHEMES = ("about", "blob", "data")
# The page took back a request itself, as it does when it is left.
TAKEN_BACK = "net::ERR_ABORTED"


def need_chromium() -> None:
    """Skip the test where there is no Chromium; `make test` could not fetch it."""
    if not CHROMIUM.is_there():
        pytest.skip(f"{CHROMIUM.name} is missing; install it: {CHROMIUM.command}")


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium without a window.

    While it runs, this thread can run no event loop: Playwright has one.
    """
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(CHROMIUM.name), args=LAUNCH_OPTIONS
        )
        try:
            yield browser
        finally:
            browser.close()


class WatchedPage:
    """A page in a fresh context, and what it and the pages it opens complain of.

    Attributes:
        page: Playwright's.
        complaints: errors and warnings on the console, errors that no one caught, requests that
            failed, and those to another address than the page's own, each in a line.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._address = urlsplit(url).netloc
        page.context.on("console", self._on_console)
        page.context.on("weberror", self._on_error)
        page.context.on("request", self._on_request)
        page.context.on("requestfailed", self._on_failure)
        page.on("websocket", self._on_websocket)

    def check_quiet(self) -> None:
        """Fail with all complaints there are by now."""
        # What the page said before it answers has arrived then.
        self.page.evaluate("null")
        if self.complaints:
            pytest.fail("the page complains:\n" + "\n".join(self.complaints))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"assert", "error", "warning"}:
            place = message.location["url"]
            self.complaints.append(f"console {message.type}: {message.text} ({place})")

    def _on_error(self, error: WebError) -> None:
        self.complaints.append(f"uncaught: {error.error}")

    def _on_request(self, request: Request) -> None:
        self._check_address(request.url)

    def _on_failure(self, request: Request) -> None:
        if request.failure != TAKEN_BACK:
            self.complaints.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _on_websocket(self, socket: WebSocket) -> None:
        self._check_address(socket.url)

    def _check_address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in OWN_SCHEMES and parts.netloc != self._address:
            self.complaints.append(f"elsewhere: {url}")


@contextlib.contextmanager
def opened_page(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    height: int = 800,
    dark: bool = False,
    camera: bool = False,
) -> Iterator[WatchedPage]:
    """Open an address in a fresh context, without cookies or cache.

    Args:
        browser: of ``running_browser``.
        url: the page's; requests to other hosts or ports are recorded.
        width: of the window, in CSS pixels.
        height: of the window, in CSS pixels.
        dark: whether the user wants dark colours.
        camera: whether the page may use the camera, which shows a test pattern.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        locale="en-US",
        permissions=["camera"] if camera else [],
    )
    context.set_default_timeout(WAIT_SECONDS * 1000)
    try:
        watched = WatchedPage(context.new_page(), url)
        watched.page.goto(url)
        yield watched
    finally:
        context.close()
