"""The page's catalogue tab through the gateway, whose ingest key alone may write."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_support import need_chromium, opened_page, running_browser
from demo_support import running_page
from gateway_support import LOADER_KEY, SHOP_KEY, Gateway
from playwright.sync_api import expect

from product_match_client import ProductMatchClient
from product_match_client.credentials import API_KEY_HEADER, API_KEY_VARIABLE

pytestmark = pytest.mark.server

UNKNOWN_KEY = "a-key-that-nobody-has"


def test_the_ingest_key_decides_who_writes(gateway: Gateway, tmp_path: Path) -> None:
    need_chromium()
    url = gateway.url("http")
    key = {API_KEY_VARIABLE: SHOP_KEY}
    with (
        ProductMatchClient(url, headers={API_KEY_HEADER: LOADER_KEY}) as stored,
        running_page(tmp_path, url, **key) as address,
        running_browser() as browser,
        opened_page(browser, address) as watched,
    ):
        page = watched.page
        page.get_by_role("tab", name="Catalogue").click()
        typed = page.locator("#catalogue-key input")
        expect(typed).to_have_attribute("type", "password")
        for name, text in {"id": "page-cup", "name": "Cup", "category": "page"}.items():
            page.locator(f"#catalogue-{name}").get_by_role("textbox").fill(text)
        save = page.locator("#catalogue-save")
        said = page.locator("#catalogue-notice")
        save.click()
        expect(said.get_by_role("alert")).to_contain_text("403")
        expect(said.get_by_role("alert")).to_contain_text("take a key of the class ingest")
        typed.fill(UNKNOWN_KEY)
        save.click()
        expect(said.get_by_role("alert")).to_contain_text("401")
        assert stored.get("page-cup") is None

        # Both are refused before the first row.
        catalogue = tmp_path / "list.csv"
        catalogue.write_text("id,title,category\npage-cup,Cup,page\n", encoding="utf-8")
        page.get_by_role("button", name="Import a file").click()
        page.locator("#catalogue-file input[type=file]").set_input_files(catalogue)
        expect(page.locator("#catalogue-file a[download]")).to_have_count(1)
        imported = page.locator("#catalogue-imported")
        typed.fill("")
        page.locator("#catalogue-dry-run").click()
        expect(imported.get_by_role("alert")).to_contain_text("403")
        typed.fill(UNKNOWN_KEY)
        page.locator("#catalogue-import").click()
        expect(imported.get_by_role("alert")).to_contain_text("401")

        try:
            typed.fill(LOADER_KEY)
            page.locator("#catalogue-import").click()
            expect(imported).to_contain_text("1 created")
            assert stored.get("page-cup") is not None
            page.locator("button#catalogue-open").click()
            expect(page.locator("#catalogue-found")).to_contain_text("Opened page-cup.")
            page.locator("#catalogue-delete").click()
            page.locator("#catalogue-sure").click()
            expect(said).to_contain_text("Deleted page-cup.")
        finally:
            stored.delete("page-cup")
        log = (tmp_path / "page.log").read_text(encoding="utf-8")
        for secret in SHOP_KEY, LOADER_KEY, UNKNOWN_KEY:
            assert secret not in log
            assert secret not in page.content()
