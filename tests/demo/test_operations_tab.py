"""The operations tab in a browser, of a server that has answered, failed and been judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from browser_support import WatchedPage, opened_page
from playwright.sync_api import Browser, Page, Request, expect
from serving_support import SampleProduct, Serving, picture, wait_for

from bls_models.bundle import Bundle
from bls_models.database.store import FEEDBACK, Store
from bls_models.metric.catalogue import METRICS, CatalogueMetrics
from bls_models.metric.fitting import Fit, Gain
from bls_models.metric.metric import Metric
from product_match_client import BadRequestError

pytestmark = pytest.mark.server

HOSTILE = "<img src=x onerror=\"alert('no')\"> ${1+1} {{x}}"
METRIC = "0123456789ab"
PERIOD_MS = 10_000
BOARD = ".operations-board"


@dataclass(frozen=True)
class Told:
    """What the server has to tell.

    Attributes:
        found: id of a request that found its product.
        product: that one.
        empty: id of one without matches.
        failed: id of one that failed.
        message: what it failed with.
    """

    found: str
    product: str
    empty: str
    failed: str
    message: str


@pytest.fixture(scope="module")
def told(server: Serving, catalogue: list[SampleProduct], bundle: Bundle) -> Iterator[Told]:
    """A few requests, feedback on one of them, and a metric."""
    with server.client() as client:
        found = client.match(
            catalogue[0].queries[0],
            HOSTILE,
            filter={"price": {"$lt": 1000}},
            request_id="operations-found",
        )
        product = found.matches[0].product_id
        client.match(picture(7), min_score=1.0, request_id="operations-empty")
        with pytest.raises(BadRequestError) as refused:
            client.match(
                texts="mug", filter={"price": {"$near": 9}}, request_id="operations-failed"
            )
        client.feedback("operations-found", product, "accepted")
    server.log_entry("operations-failed")
    wait_for(
        lambda: server.database[FEEDBACK].find_one({"request_id": "operations-found"}),
        "feedback is stored",
    )
    metric = Metric(
        METRIC,
        np.zeros(bundle.image_dim, np.float32),
        np.eye(bundle.image_dim, 8, dtype=np.float32),
        1.0,
    )
    gains = (Gain("raw", 0.7, 0.6, 90, 30), Gain("learned", 0.9, 0.8, 90, 30))
    metrics = CatalogueMetrics(Store(server.database, log_days=30), bundle)
    metrics.add(Fit(metric, "", gains, len(catalogue), 216))
    yield Told(
        "operations-found", product, "operations-empty", "operations-failed", str(refused.value)
    )
    server.database[METRICS].delete_one({"_id": METRIC})
    server.database[FEEDBACK].delete_many({})


@pytest.fixture(scope="module")
def address(told: Told, page_url: str) -> str:
    """The page of that server."""
    return page_url


def open_tab(page: Page, name: str = "Operations") -> None:
    page.get_by_role("tab", name=name).click()


def check_fits(watched: WatchedPage) -> None:
    """No part is wider than the window; tables scroll within their places."""
    wide = watched.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


def test_each_part_shows_what_the_server_tells(
    browser: Browser,
    address: str,
    told: Told,
    catalogue: list[SampleProduct],
    server: Serving,
) -> None:
    with server.client("http") as client:
        # Other tests may have told of their matches too.
        accurate = client.report("feedback")["variants"]["default"]
    first = f"{accurate['top1']:.1%}"
    with opened_page(browser, address) as watched:
        page = watched.page
        open_tab(page)
        requests = page.get_by_role("region", name="Latest requests")
        found = requests.get_by_role("row").filter(has_text=told.found)
        expect(found).to_contain_text(f"1 image; “{HOSTILE}”; filter ")
        expect(found).to_contain_text(f"{told.product} ")
        expect(found).to_contain_text("ms")
        expect(requests.get_by_role("row").filter(has_text=told.empty)).to_contain_text("empty")
        failed = page.get_by_role("region", name="Latest errors").get_by_role("row")
        expect(failed.filter(has_text=told.failed)).to_contain_text(told.message)

        expect(page.get_by_role("img", name="Outcomes, requests")).to_be_visible()
        outcomes = page.get_by_role("img", name="Outcomes, requests").get_attribute("aria-label")
        assert outcomes is not None
        assert "0 errors" not in outcomes
        assert " 0 found" not in outcomes
        expect(page.get_by_role("img", name="Time to answer. Latest p50")).to_be_visible()
        expect(page.get_by_role("img", name="Index behind the database")).to_be_visible()
        stages = page.get_by_role("region", name="Time by stage")
        expect(stages.get_by_role("row").filter(has_text="encode")).to_contain_text("ms")
        products = page.get_by_role("region", name="Most matched products")
        expect(products).to_contain_text(told.product)

        accuracy = page.get_by_role("region", name="Accuracy by variant")
        expect(accuracy.get_by_role("row").filter(has_text="default")).to_contain_text(first)
        expect(page.get_by_role("region", name="Accuracy by day")).to_contain_text(first)
        metric = page.get_by_role("region", name="Versions of the learned metric")
        expect(metric.get_by_role("row").filter(has_text=METRIC)).to_contain_text("+20.0")
        expect(page.locator(BOARD)).to_contain_text("None is served")
        expect(page.locator(BOARD)).to_contain_text("It follows the database.")
        expect(page.locator("dl")).to_contain_text(f"products stored{len(catalogue)}")
        check_fits(watched)
        watched.check_quiet()


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_nothing_is_wider_than_the_page(
    browser: Browser, address: str, dark: bool
) -> None:
    with opened_page(browser, address, width=390, height=844, dark=dark) as watched:
        open_tab(watched.page)
        expect(watched.page.locator(BOARD)).to_be_visible()
        check_fits(watched)
        watched.check_quiet()


def test_the_period_is_a_choice(browser: Browser, address: str) -> None:
    with opened_page(browser, address) as watched:
        open_tab(watched.page)
        for period, said in ("24 hours", "24 hours"), ("1 hour", "hour"), ("7 days", "7 days"):
            watched.page.get_by_label(period).check()
            expect(watched.page.locator(BOARD)).to_contain_text(f"the last {said}.")
        watched.check_quiet()


def test_it_looks_again_only_while_it_is_seen(
    browser: Browser, address: str, server: Serving
) -> None:
    asked = []

    def note(request: Request) -> None:
        # Other tabs ask too, but for no period.
        if "/queue/join" in request.url and "24 hours" in (request.post_data or ""):
            asked.append(request)

    with opened_page(browser, address) as watched, server.client() as client:
        page = watched.page
        page.on("request", note)
        page.clock.install()
        open_tab(page)
        requests = page.get_by_role("region", name="Latest requests")
        expect(requests).to_be_visible()
        assert len(asked) == 1

        client.match(texts="mug", request_id="operations-later")
        server.log_entry("operations-later")
        page.clock.fast_forward(PERIOD_MS)
        expect(requests).to_contain_text("operations-later")
        assert len(asked) == 2

        open_tab(page, "Find")
        expect(requests).to_be_hidden()
        page.clock.fast_forward(5 * PERIOD_MS)
        client.match(texts="mug", request_id="operations-latest")
        server.log_entry("operations-latest")
        assert len(asked) == 2
        open_tab(page)
        expect(requests).to_contain_text("operations-latest")
        assert len(asked) == 3

        client.match(texts="mug", request_id="operations-last")
        server.log_entry("operations-last")
        page.get_by_role("button", name="Refresh").click()
        expect(requests).to_contain_text("operations-last")
        watched.check_quiet()
