"""The browser that the page is tried in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser_support import need_chromium, running_browser
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for a module's tests; no longer, since other tests run event loops of their own."""
    need_chromium()
    with running_browser() as browser:
        yield browser
