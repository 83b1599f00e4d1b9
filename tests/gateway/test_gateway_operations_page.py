"""The page's operations tab through the gateway, which lets only some keys see reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_support import need_chromium, opened_page, running_browser
from demo_support import running_page
from gateway_support import LOADER_KEY, SHOP_KEY, Gateway
from playwright.sync_api import expect

from product_match_client.credentials import API_KEY_VARIABLE

pytestmark = pytest.mark.server


def test_a_key_that_may_not_see_reports_gets_the_gateways_words(
    gateway: Gateway, tmp_path: Path
) -> None:
    need_chromium()
    key = {API_KEY_VARIABLE: SHOP_KEY}
    with (
        running_page(tmp_path, gateway.url("http"), **key) as address,
        running_browser() as browser,
        opened_page(browser, address) as watched,
    ):
        page = watched.page
        page.get_by_role("tab", name="Operations").click()
        alert = page.get_by_role("alert").filter(visible=True)
        expect(alert).to_contain_text("403")
        field = page.get_by_label("Ingest key").filter(visible=True)
        field.fill("a-key-that-nobody-has")
        field.press("Enter")
        expect(alert).to_contain_text("401")
        field.fill(LOADER_KEY)
        field.press("Enter")
        expect(page.get_by_role("region", name="Latest requests")).to_be_visible()
        expect(alert).to_have_count(0)
        # The Catalogue tab asks with it too.
        page.get_by_role("tab", name="Catalogue").click()
        expect(field).to_have_value(LOADER_KEY)
        watched.check_quiet()
