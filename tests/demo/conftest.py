"""The browser that the page is tried in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser_support import need_chromium, running_browser
from demo_support import running_page
from playwright.sync_api import Browser
from serving_support import SampleProduct, Serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for a module's tests; no longer, since other tests run event loops of their own."""
    need_chromium()
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def page_url(
    server: Serving, catalogue: list[SampleProduct], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The page of the session's server, which has the sample catalogue."""
    with running_page(tmp_path_factory.mktemp("page"), server.url("http")) as address:
        yield address
