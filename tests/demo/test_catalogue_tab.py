"""The catalogue tab in a real browser, in front of a real server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_support import WatchedPage, opened_page
from demo_support import check_quiet
from playwright.sync_api import Browser, Locator, Page, expect
from serving_support import SampleProduct, Serving, picture, wait_for

from product_match_client import ProductMatchClient

pytestmark = pytest.mark.server

HOSTILE = "<img src=x onerror=alert(1)> ${1+1} {{x}}"
PICTURES = (901, 902)
PROGRESS = """() => {
  window.progress = [];
  const result = document.querySelector("#catalogue-imported");
  new MutationObserver(() => {
    const shown = result.querySelector("progress");
    if (shown) window.progress.push(result.textContent.trim());
  }).observe(result, {childList: true, subtree: true, characterData: true});
}"""


@pytest.fixture
def stored(server: Serving) -> Iterator[ProductMatchClient]:
    """A client of the server; products of the tests are gone when they end."""
    with server.client() as client:
        yield client
        for entry in server.database["products"].find({"_id": {"$regex": "^page-"}}, {"_id": 1}):
            client.delete(entry["_id"])


@pytest.fixture
def watched(browser: Browser, page_url: str, stored: ProductMatchClient) -> Iterator[WatchedPage]:
    """The catalogue tab, open."""
    with opened_page(browser, page_url) as watched:
        watched.page.get_by_role("tab", name="Catalogue").click()
        yield watched
        check_quiet(watched)


@pytest.fixture
def page(watched: WatchedPage) -> Page:
    """The page itself."""
    return watched.page


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two pictures as files."""
    paths = [tmp_path / f"{seed}.png" for seed in PICTURES]
    for path, seed in zip(paths, PICTURES, strict=True):
        path.write_bytes(picture(seed))
    return paths


def field(page: Page, name: str) -> Locator:
    """A text field of the tab."""
    return page.locator(f"#catalogue-{name}").get_by_role("textbox")


def press(page: Page, name: str) -> None:
    """Press a button of the tab."""
    page.locator(f"#catalogue-{name}").click()


def choose(page: Page, what: str, *files: Path) -> None:
    """Choose files, and wait until they are uploaded."""
    part = page.locator(f"#catalogue-{what}")
    part.locator("input[type=file]").set_input_files(files)
    expect(part.locator("a[download]")).to_have_count(len(files))


def fill(page: Page, product_id: str, name: str = "Cup") -> None:
    """Fill in what every product needs."""
    field(page, "id").fill(product_id)
    field(page, "name").fill(name)
    field(page, "category").fill("page")


def notice(page: Page) -> Locator:
    """What is said below the form."""
    return page.locator("#catalogue-notice")


def open_product(page: Page, product_id: str) -> None:
    """Open a product by its id."""
    field(page, "id").fill(product_id)
    field(page, "id").press("Enter")
    expect(page.locator("#catalogue-found")).to_contain_text(f"Opened {product_id}.")


def test_a_product_is_added_changed_and_deleted(
    page: Page, stored: ProductMatchClient, files: list[Path]
) -> None:
    stored.upsert(
        {"product_id": "page-other", "name": HOSTILE, "category": "page"}, [picture(PICTURES[0])]
    )
    wait_for(
        lambda: stored.match(picture(PICTURES[0]), filter={"category": "page"}).matches,
        "the other product is found",
    )
    fill(page, "page-cup", HOSTILE)
    field(page, "price").fill("12.5")
    field(page, "currency").fill("eur")
    attributes = page.locator("#catalogue-attributes")
    for row, (name, kind, value) in enumerate(
        [("code", "text", "007"), ("weight", "number", "0.5"), ("washable", "boolean", "true")]
    ):
        attributes.get_by_role("button", name="Add an attribute").click()
        line = attributes.locator("tbody tr").nth(row)
        line.get_by_label("Name").fill(name)
        line.get_by_label("Kind").select_option(kind)
        if kind == "boolean":
            line.get_by_label("Value").select_option(value)
        else:
            line.get_by_label("Value").fill(value)
    choose(page, "uploads", *files)
    expect(page.locator("#catalogue-chosen img[src^='data:']")).to_have_count(2)
    press(page, "save")

    expect(notice(page)).to_contain_text("Created page-cup, revision 1.")
    expect(page.locator("#catalogue-chosen img")).to_have_count(0)
    expect(notice(page)).to_contain_text("within a second")
    expect(notice(page)).to_contain_text("It has no description")
    document = stored.get("page-cup")
    assert document is not None
    assert (document["name"], document["price"], document["currency"]) == (HOSTILE, 12.5, "EUR")
    assert document["attributes"] == {"code": "007", "weight": 0.5, "washable": True}
    sent = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert [image["sha256"] for image in document["images"]] == sent
    expect(notice(page)).to_contain_text(f"The same file (exact, cosine 1.000): {HOSTILE}")
    sides = notice(page).locator("figure")
    expect(sides.nth(0).get_by_role("img")).to_have_count(2)
    expect(sides.nth(1).get_by_role("img")).to_have_count(1)

    field(page, "price").fill("9")
    press(page, "save")
    expect(notice(page)).to_contain_text("Updated page-cup, revision 2.")
    expect(notice(page)).to_contain_text("Its 2 pictures stayed as they were.")
    changed = stored.get("page-cup")
    assert changed is not None
    assert (changed["price"], changed["images"]) == (9, document["images"])
    assert changed["attributes"] == document["attributes"]
    press(page, "save")
    expect(notice(page)).to_contain_text("Nothing has changed")

    press(page, "delete")
    expect(page.locator("#catalogue-question")).to_contain_text(f"Delete page-cup, {HOSTILE}")
    press(page, "keep")
    expect(page.locator("#catalogue-sure")).to_be_hidden()
    assert stored.get("page-cup") is not None
    press(page, "delete")
    press(page, "sure")
    expect(notice(page)).to_contain_text("Deleted page-cup.")
    assert stored.get("page-cup") is None
    expect(field(page, "name")).to_have_value("")


def test_a_duplicate_is_opened_from_where_it_is_shown(
    page: Page, stored: ProductMatchClient, files: list[Path]
) -> None:
    stored.upsert(
        {"product_id": "page-other", "name": "Other", "category": "page", "price": 3},
        [picture(PICTURES[0])],
    )
    wait_for(
        lambda: stored.match(picture(PICTURES[0]), filter={"category": "page"}).matches,
        "the other product is found",
    )
    fill(page, "page-cup")
    choose(page, "uploads", files[0])
    press(page, "save")
    notice(page).get_by_role("button", name="Open page-other").click()
    expect(field(page, "name")).to_have_value("Other")
    expect(field(page, "price")).to_have_value("3")
    expect(field(page, "id")).to_have_value("page-other")
    expect(page.locator("#catalogue-pictures").get_by_role("img")).to_have_count(1)


def test_nothing_is_replaced_by_what_is_called_new(page: Page, stored: ProductMatchClient) -> None:
    stored.upsert({"product_id": "page-other", "name": "Other", "category": "page"})
    fill(page, "page-other")
    press(page, "save")
    expect(notice(page).get_by_role("alert")).to_contain_text("page-other already")
    document = stored.get("page-other")
    assert document is not None
    assert document["name"] == "Other"
    # The server's own words.
    fill(page, "page other")
    press(page, "save")
    expect(notice(page).get_by_role("alert")).to_contain_text("without spaces or slashes")


def test_a_suggested_description_is_taken_by_a_click(
    page: Page, stored: ProductMatchClient, sample: list[SampleProduct]
) -> None:
    fill(page, "page-mug")
    press(page, "suggest")
    suggestion = page.locator("#catalogue-suggestion")
    expect(suggestion.get_by_role("alert")).to_contain_text("no picture to describe")
    choose(page, "uploads", sample[0].images[0])
    press(page, "suggest")
    expect(suggestion).to_contain_text("Suggested by the server (confidence 0.")
    text = suggestion.locator("blockquote").inner_text()
    expect(field(page, "description")).to_have_value("")
    press(page, "take")
    expect(field(page, "description")).to_have_value(text)
    press(page, "save")
    expect(notice(page)).to_contain_text("Created page-mug")
    document = stored.get("page-mug")
    assert document is not None
    assert document["description"] == text
    assert "description_generated" not in document


def test_the_server_describes_a_product_without_a_description(
    page: Page, stored: ProductMatchClient, sample: list[SampleProduct]
) -> None:
    fill(page, "page-mug")
    choose(page, "uploads", sample[0].images[0])
    page.get_by_label("Without a description, let the server write one").check()
    press(page, "save")
    expect(notice(page)).to_contain_text("The server described its first picture.")
    document = stored.get("page-mug")
    assert document is not None
    assert document["description_generated"]
    expect(field(page, "description")).to_have_value(document["description"])
    expect(page.get_by_role("heading", name="page-mug")).to_contain_text("generated")
    field(page, "price").fill("4")
    press(page, "save")
    expect(notice(page)).to_contain_text("Updated page-mug")
    changed = stored.get("page-mug")
    assert changed is not None
    assert changed["description_generated"]


def test_a_file_is_imported_and_its_bad_rows_are_told(
    page: Page, stored: ProductMatchClient, server: Serving, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(903))
    private = f"{server.url('http')}/private.png"
    catalogue = tmp_path / "list.csv"
    catalogue.write_text(
        "id,title,category,price,images\n"
        "page-good,Good cup,page,4.5,\n"
        "page-bad,,page,4.5,\n"
        f"page-path,Cup,page,4.5,{secret}\n"
        "page-relative,Cup,page,4.5,../../etc/passwd\n"
        f"page-private,Cup,page,4.5,{private}\n"
        f'"page-{HOSTILE.replace(" ", "")}",Cup,page,dear,\n',
        encoding="utf-8",
    )
    page.get_by_role("button", name="Import a file").click()
    choose(page, "file", catalogue)
    press(page, "dry-run")
    result = page.locator("#catalogue-imported")
    expect(result).to_contain_text("Nothing was sent.")
    expect(result).to_contain_text("6 rows: 2 would be sent, 4 failed")
    assert stored.get("page-good") is None

    page.evaluate(PROGRESS)
    press(page, "import")
    expect(result).to_contain_text(
        "1 created, 0 updated, 0 unchanged, 1 without pictures, 5 failed"
    )
    assert page.evaluate("window.progress")
    reasons = {
        "page-bad": "name is empty",
        "page-path": f"the picture '{secret}' is a path, and no files are read here",
        "page-relative": "the picture '../../etc/passwd' is a path",
        "page-private": "127.0.0.1 is a private address",
        HOSTILE.replace(" ", ""): "price is 'dear'",
    }
    rows = result.locator("tbody tr")
    expect(rows).to_have_count(6)
    for product_id, reason in reasons.items():
        expect(rows.filter(has_text=product_id)).to_contain_text(reason)
    with page.expect_download() as download:
        press(page, "report")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    failed = [entry for entry in map(json.loads, lines) if "error" in entry]
    assert len(failed) == len(reasons)
    assert stored.get("page-good") is not None
    for product_id in ("page-path", "page-relative", "page-private"):
        assert stored.get(product_id) is None


def long_catalogue(folder: Path, rows: int) -> Path:
    """A catalogue that takes long. Rows of one product go one after the other."""
    catalogue = folder / "long.csv"
    lines = (f"page-one,Cup {number},page" for number in range(rows))
    catalogue.write_text("\n".join(["id,title,category", *lines]), encoding="utf-8")
    return catalogue


def test_an_import_can_be_stopped(page: Page, stored: ProductMatchClient, tmp_path: Path) -> None:
    page.get_by_role("button", name="Import a file").click()
    choose(page, "file", long_catalogue(tmp_path, 20_000))
    press(page, "import")
    result = page.locator("#catalogue-imported")
    expect(result).to_contain_text("of 20000 rows")
    expect(result).to_contain_text("rows/s")
    press(page, "stop")
    expect(result).to_contain_text("Stopped before the end")
    expect(page.locator("#catalogue-stop")).to_be_disabled()


def test_a_dry_run_waits_for_no_import_and_can_be_stopped(
    page: Page, browser: Browser, page_url: str, stored: ProductMatchClient, tmp_path: Path
) -> None:
    page.get_by_role("button", name="Import a file").click()
    choose(page, "file", long_catalogue(tmp_path, 500_000))
    press(page, "import")
    imported = page.locator("#catalogue-imported")
    expect(imported).to_contain_text("of 500000 rows")
    with opened_page(browser, page_url) as watched:
        other = watched.page
        other.get_by_role("tab", name="Catalogue").click()
        other.get_by_role("button", name="Import a file").click()
        choose(other, "file", tmp_path / "long.csv")
        press(other, "dry-run")
        result = other.locator("#catalogue-imported")
        expect(result).to_contain_text("rows read")
        press(other, "stop")
        expect(result).to_contain_text("stopped before the end")
        expect(result).to_contain_text("Nothing was sent.")
        check_quiet(watched)
    # That one goes on.
    expect(page.locator("#catalogue-stop")).to_be_enabled()
    press(page, "stop")
    expect(imported).to_contain_text("Stopped before the end")


def test_what_is_no_catalogue_is_told_without_where_it_lies(page: Page, tmp_path: Path) -> None:
    page.get_by_role("button", name="Import a file").click()
    press(page, "import")
    alert = page.locator("#catalogue-imported").get_by_role("alert")
    expect(alert).to_contain_text("choose a file first")
    (tmp_path / "cup.csv").write_bytes(picture(904))
    choose(page, "file", tmp_path / "cup.csv")
    press(page, "import")
    expect(alert).to_contain_text("cup.csv is a picture; expected CSV")
    expect(alert).not_to_contain_text("/cup.csv")
