"""The browser that pages are tried in: it draws, and names what a page should not do."""

from __future__ import annotations

import asyncio
import http.server
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from browser_support import need_chromium, opened_page, running_browser
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from local_server.processes import LOOPBACK

HEAD = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
QUIET = f'{HEAD}<p id="text">Red mug</p>'
LOUD = f"""{HEAD}<img src="/none.jpg" alt="">
<img src="http://shop.example/mug.jpg" alt="">
<img src="http://192.0.2.1/mug.jpg" alt="">
<script>
  console.error("no mug");
  console.warn("few mugs");
  console.log("a mug");
  fetch(URL.createObjectURL(new Blob(["mug"])));
  new WebSocket("ws://socket.example/mugs");
  fetch("/taken-back", {{signal: AbortSignal.abort()}}).catch(() => null);
  setTimeout(() => {{ throw new Error("broken mug"); }});
  addEventListener("load", () => setTimeout(() => {{ document.title = "Done"; }}));
</script>"""
CAMERA = """async () => {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({video: true});
    return stream.getVideoTracks().length;
  } catch (error) { return error.name; }
}"""


class Pages(http.server.BaseHTTPRequestHandler):
    """Serves the two pages, and nothing else."""

    def do_GET(self) -> None:
        page = {"/quiet": QUIET, "/loud": LOUD}.get(self.path)
        body = (page or "").encode()
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    """The pages' address."""
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def grey(page: Page) -> npt.NDArray[np.uint8]:
    """What a page looks like, ``(height, width)``."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))


def test_what_a_page_should_not_do_is_named(browser: Browser, pages: str) -> None:
    with opened_page(browser, f"{pages}/loud") as watched:
        expect(watched.page).to_have_title("Done")
        with pytest.raises(pytest.fail.Exception) as failure:
            watched.check_quiet()
    said = str(failure.value)
    assert f"console error: no mug ({pages}/loud)" in said
    assert f"console warning: few mugs ({pages}/loud)" in said
    assert f"status of 404 (Not Found) ({pages}/none.jpg)" in said
    assert "uncaught: broken mug" in said
    for address in "http://shop.example/mug.jpg", "http://192.0.2.1/mug.jpg":
        assert f"elsewhere: {address}" in said
        assert f"failed: GET {address}: net::ERR_NAME_NOT_RESOLVED" in said
    assert "elsewhere: ws://socket.example/mugs" in said
    for harmless in "a mug", "blob:", "data:", "taken-back":
        assert harmless not in said


def test_a_page_is_drawn_with_its_text(browser: Browser, pages: str) -> None:
    with opened_page(browser, f"{pages}/quiet", width=300, height=200) as watched:
        drawn = grey(watched.page)
        watched.page.evaluate("document.querySelector('#text').textContent = 'Red rug'")
        other = grey(watched.page)
        watched.check_quiet()
    assert drawn.shape == (200, 300)
    assert drawn.max() == 255
    assert drawn.min() < 100
    # Each letter is drawn, and not one box in place of any.
    assert (drawn != other).any()


@pytest.mark.parametrize(("allowed", "expected"), [(True, 1), (False, "NotAllowedError")])
def test_a_camera_is_there_where_it_is_allowed(
    browser: Browser, pages: str, allowed: bool, expected: int | str
) -> None:
    with opened_page(browser, f"{pages}/quiet", camera=allowed) as watched:
        assert watched.page.evaluate(CAMERA) == expected


def test_a_page_knows_its_width_and_colours(browser: Browser, pages: str) -> None:
    asked = "[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]"
    for width, dark in (390, True), (1280, False):
        with opened_page(browser, f"{pages}/quiet", width=width, dark=dark) as watched:
            assert watched.page.evaluate(asked) == [width, dark]


def test_when_it_ends_event_loops_run_again() -> None:
    need_chromium()

    def use() -> str:
        with running_browser() as browser:
            version = browser.version
        return asyncio.run(asyncio.sleep(0, version))

    # The module's browser has this thread.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(use).result()
