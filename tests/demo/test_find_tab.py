"""The find tab in a real browser, in front of a real server."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from browser_support import WatchedPage, opened_page
from demo_support import check_quiet
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect
from serving_support import (
    CALL_SECONDS,
    ROOT,
    WAIT_SECONDS,
    SampleProduct,
    Serving,
    encoded,
    wait_for,
)

from bls_models.database.store import FEEDBACK

pytestmark = pytest.mark.server

HOSTILE = "<img src=x onerror=alert(1)> ${1+1} {{x}} </b>"
PASTE = """async (base64) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const png = new Blob([bytes], {type: "image/png"});
  await navigator.clipboard.write([new ClipboardItem({"image/png": png})]);
}"""
WIDTHS = "[document.documentElement.scrollWidth, innerWidth]"
FOCUSED = "document.activeElement?.getAttribute('aria-label') || document.activeElement?.innerText"


@pytest.fixture
def watched(browser: Browser, page_url: str) -> Iterator[WatchedPage]:
    """The find tab, open."""
    with opened_page(browser, page_url, camera=True) as watched:
        yield watched
        check_quiet(watched)


@pytest.fixture
def page(watched: WatchedPage) -> Page:
    return watched.page


@pytest.fixture
def mug(catalogue: list[SampleProduct]) -> SampleProduct:
    """A product that has a photo of its own."""
    (found,) = (item for item in catalogue if item.product_id == "mug-classic-red")
    return found


def give_photo(page: Page, name: str, data: bytes) -> None:
    """Choose a file, past what the dialogue would offer."""
    files = page.locator(".find-photo-input input[type=file]").first
    files.set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def say(page: Page, words: str) -> None:
    page.get_by_label("Words", exact=True).fill(words)
    page.keyboard.press("Enter")


def cards(page: Page) -> Locator:
    """Those that are shown."""
    return page.locator(".find-panel:not([hidden]) .find-card")


def ids(page: Page) -> list[str]:
    return [str(card.get_attribute("data-product")) for card in cards(page).all()]


def button(card: Locator, label: str) -> Locator:
    return card.get_by_role("button", name=f"{label}: ")


def copied(page: Page, tab: str) -> str:
    """The text of one of the requests to copy."""
    page.get_by_role("tab", name=tab).click()
    lines = page.locator(".cm-content:visible .cm-line")
    expect(lines.first).to_contain_text(re.compile("curl|printf|import"))
    return "\n".join(lines.all_inner_texts())


def run_copied(page: Page, folder: Path) -> list[list[str]]:
    """Ids that the command and the program find."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
    found = []
    for tab, command in ("curl", ["bash", "-c"]), ("Python", [sys.executable, "-c"]):
        text = copied(page, tab)
        done = subprocess.run(
            [*command, text],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=CALL_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        if tab == "Python":
            # Objects begin with their number.
            lines = [line.split() for line in done.stdout.splitlines()]
            found.append([line[0] for line in lines if not line[0].isdigit()])
            continue
        answer = json.loads(done.stdout)
        flat = {
            name: value if isinstance(value, list) else [value] for name, value in answer.items()
        }
        owners = flat.get("object", [0] * len(flat["product_id"]))
        found.append(
            [name for name, owner in zip(flat["product_id"], owners, strict=True) if owner == 0]
        )
    return found


def test_a_photo_finds_its_product_and_what_becomes_of_it_is_recorded(
    page: Page, server: Serving, mug: SampleProduct, tmp_path: Path
) -> None:
    # A type that the server takes and browsers have, from a picture with transparency.
    data = encoded(Image.open(mug.queries[0]).convert("RGBA"))
    give_photo(page, "odd name ' \" <b>.png", data)
    expect(page).to_have_title("product-match")
    first = cards(page).first
    expect(first).to_have_attribute("data-product", mug.product_id)
    expect(first.locator(".find-likely")).to_have_text("likely")
    expect(first.locator(".find-name")).to_have_text("Classic mug, red")
    expect(first.locator(".find-about")).to_have_text("12.50 EUR · mug")
    expect(first.locator("dt")).to_have_text(["Score", "Photo"])
    assert float(first.locator("dd").nth(1).inner_text()) > 0.4
    shown = first.get_by_role("img", name="Classic mug, red")
    assert shown.evaluate("image => image.complete && image.naturalWidth") == 320
    expect(page.locator(".find-likely")).to_have_count(1)
    expect(page.locator(".find-caption")).to_have_text(re.compile(r": .+, \d+% sure"))

    timings = page.get_by_role("region", name="Time")
    expect(timings).to_contain_text(re.compile(r"encode [\d.]+ ms"))
    expect(timings).to_contain_text(re.compile(r"search [\d.]+ ms"))
    request_id = timings.locator("code").first.inner_text()

    button(first, "Right").click()
    expect(button(first, "Right")).to_have_attribute("aria-pressed", "true")
    button(cards(page).nth(1), "Wrong").click()
    expect(button(cards(page).nth(1), "Wrong")).to_have_attribute("aria-pressed", "true")
    stored = server.database[FEEDBACK]
    asked = {"request_id": request_id}
    wait_for(lambda: stored.count_documents(asked) == 2, "both are recorded")
    assert {(entry["product_id"], entry["event"]) for entry in stored.find(asked)} == {
        (mug.product_id, "accepted"),
        (ids(page)[1], "rejected"),
    }

    page.get_by_role("button", name="The same request to copy").click()
    (tmp_path / "photo.jpg").write_bytes(data)
    assert run_copied(page, tmp_path) == [ids(page)] * 2


def test_feedback_that_the_page_does_not_take_is_said_and_may_be_sent_again(
    browser: Browser, page_url: str
) -> None:
    with opened_page(browser, page_url) as watched:
        page = watched.page
        say(page, "red mug")
        first = cards(page).first
        page.route("**/component_server/", lambda route: route.fulfill(status=429, json={}))
        button(first, "Wrong").click()
        expect(first.get_by_role("alert")).to_contain_text("The page did not take it")
        page.unroute("**/component_server/")
        button(first, "Wrong").click()
        expect(button(first, "Wrong")).to_have_attribute("aria-pressed", "true")
        expect(first.get_by_role("alert")).to_have_count(0)


def hold_search(page: Page) -> list[Route]:
    """Keep the next search from the server; it is in the list once the page has sent it."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        # The page's other events have few inputs.
        if held or len(route.request.post_data_json["data"]) < 10:
            route.continue_()
        else:
            held.append(route)

    page.route("**/queue/join*", hold)
    return held


def sent(page: Page, held: list[Route]) -> Route:
    """The search that is held."""
    for _ in range(int(20 * WAIT_SECONDS)):
        if held:
            return held[0]
        page.wait_for_timeout(50)
    pytest.fail("the page sent no search")


def sample(page: Page, shows: str) -> Locator:
    return page.get_by_role("button", name=f"Try it with {shows}")


def check_shown_photo(page: Page, shows: str) -> None:
    """Fail unless the photo that is shown is a sample's."""
    photo = page.locator(".find-photo-input img")
    expect(photo).to_have_attribute(
        "src", str(sample(page, shows).locator("img").get_attribute("src"))
    )


MUG, LAMP = "a red mug", "a yellow desk lamp"


def test_the_latest_sample_is_the_one_that_is_answered(page: Page) -> None:
    held = hold_search(page)
    sample(page, MUG).click()
    sent(page, held)
    sample(page, LAMP).click()
    check_shown_photo(page, LAMP)
    held[0].continue_()
    expect(cards(page).first).to_have_attribute("data-product", "lamp-arm-yellow")
    check_shown_photo(page, LAMP)
    # Two that come at once are one after the other too.
    page.unroute("**/queue/join*")
    held = hold_search(page)
    page.evaluate(
        "titles => titles.forEach((title) => document.querySelector(`[title='${title}']`).click())",
        [f"Try it with {shows}" for shows in ("a dotted teapot", MUG)],
    )
    sent(page, held)
    expect(cards(page).first).to_have_attribute("data-product", "lamp-arm-yellow")
    held[0].continue_()
    expect(cards(page).first).to_have_attribute("data-product", "mug-classic-red")
    check_shown_photo(page, MUG)


def test_words_that_follow_a_sample_join_it(page: Page) -> None:
    say(page, "teapot")
    expect(cards(page)).to_have_count(6)
    held = hold_search(page)
    sample(page, MUG).click()
    sent(page, held)
    expect(page.get_by_label("Words", exact=True)).to_have_value("")
    say(page, "blue")
    held[0].continue_()
    expect(cards(page).first.locator("dt")).to_have_text(["Score", "Photo", "Words"])
    expect(page.get_by_label("Words", exact=True)).to_have_value("blue")
    check_shown_photo(page, MUG)


def test_what_is_clicked_while_words_are_searched_for_is_not_lost(page: Page) -> None:
    say(page, "classic mug red")
    expect(cards(page).first).to_have_attribute("data-product", "mug-classic-red")
    held = hold_search(page)
    say(page, "mug")
    sent(page, held)
    button(cards(page).first, "More like this").click()
    held[0].continue_()
    expect(page.locator(".find-liked")).to_contain_text("Like Classic mug, red")
    expect(page.locator(".find-asked")).to_contain_text("and the words “mug”")


def test_a_search_that_the_page_refuses_leaves_no_older_answer_and_ends_no_later_one(
    browser: Browser, page_url: str
) -> None:
    with opened_page(browser, page_url) as watched:
        page = watched.page
        say(page, "teapot")
        expect(cards(page)).to_have_count(6)
        held = hold_search(page)
        sample(page, MUG).click()
        sent(page, held).fulfill(status=429, json={"detail": "slow down"})
        results = page.locator(".find-results")
        expect(results.get_by_role("alert")).to_contain_text("The page gave no answer")
        expect(cards(page)).to_have_count(0)
        check_shown_photo(page, MUG)

        page.unroute("**/queue/join*")
        held = hold_search(page)
        page.get_by_role("button", name="Find", exact=True).click()
        sent(page, held)
        sample(page, LAMP).click()
        held[0].fulfill(status=429, json={"detail": "slow down"})
        expect(cards(page).first).to_have_attribute("data-product", "lamp-arm-yellow")
        expect(results.get_by_role("alert")).to_have_count(0)


def test_words_filters_weights_and_the_least_score_decide_what_is_found(
    page: Page, mug: SampleProduct, tmp_path: Path
) -> None:
    # The latest request is the one that is shown.
    say(page, "teapot")
    say(page, 'it\'s a "red" mug, 100% $HOME')
    expect(cards(page)).to_have_count(6)
    expect(cards(page).first.locator("dt")).to_have_text(["Score", "Words"])
    expect(cards(page).first).to_have_attribute("data-product", re.compile("mug"))
    assert page.locator(".find-likely").count() == 0

    page.get_by_role("button", name="Filters").click()
    expect(page.get_by_label("Price from")).to_have_attribute("placeholder", "7.90")
    expect(page.get_by_label("Price to")).to_have_attribute("placeholder", "95.00")
    page.get_by_label("Category").click()
    page.get_by_role("option", name="teapot (3)").click()
    expect(cards(page)).to_have_count(3)
    page.get_by_label("Price to").fill("40")
    page.keyboard.press("Enter")
    expect(cards(page)).not_to_have_count(3)
    for about in page.locator(".find-about:visible").all_inner_texts():
        price, *_, category = about.split()
        assert (float(price) <= 40, category) == (True, "teapot")
    page.get_by_label("Price to").fill("cheap")
    page.keyboard.press("Enter")
    refusal = "Price to: got 'cheap'; expected a number"
    expect(page.get_by_role("alert")).to_contain_text(refusal)
    page.get_by_label("Price to").fill("")

    page.get_by_role("button", name="More options").click()
    page.get_by_label("number input for Matches").fill("2")
    page.get_by_label("number input for Weight of the photo").fill("0.5")
    page.get_by_label("number input for Weight of the words").fill("1.5")
    page.get_by_label("Least score").fill("-0.9")
    give_photo(page, "mug.webp", mug.queries[0].read_bytes())
    expect(cards(page).first.locator("dt")).to_have_text(["Score", "Photo", "Words"])
    expect(cards(page)).to_have_count(2)
    page.get_by_role("button", name="The same request to copy").click()
    (tmp_path / "photo.jpg").write_bytes(mug.queries[0].read_bytes())
    assert run_copied(page, tmp_path) == [ids(page)] * 2
    program = copied(page, "Python")
    assert "image_weights=[0.5]" in program
    assert "text_weights=[1.5]" in program
    assert 'filter={"category": {"$in": ["teapot"]}}' in program

    page.get_by_label("Least score").fill("0.99")
    page.get_by_role("button", name="Find", exact=True).click()
    expect(page.locator(".find-nothing:visible")).to_contain_text(
        "No product that the filters leave reaches the least score of 0.99."
    )


def test_several_products_in_a_photo_are_chosen_by_mouse_and_by_keyboard(
    page: Page, server: Serving
) -> None:
    page.get_by_role("button", name="Try it with a table with several products").click()
    boxes = page.locator(".find-box")
    expect(boxes.first).to_be_visible()
    assert boxes.count() > 3
    pressed = page.locator(".find-box[aria-pressed=true]")
    logged = server.database["match_log"].count_documents({})

    mug = page.get_by_role("button", name=re.compile("^Object .*: Classic mug, red"))
    mug.click()
    expect(mug).to_have_attribute("aria-pressed", "true")
    expect(pressed).to_have_count(1)
    expect(cards(page).first).to_have_attribute("data-product", "mug-classic-red")
    shown = page.locator(".find-photo img")
    photo, box = shown.bounding_box(), mug.bounding_box()
    assert photo
    assert box
    # In the photo of this table the mug stands left, in the upper half.
    assert box["x"] + box["width"] < photo["x"] + photo["width"] / 2
    assert box["y"] + box["height"] / 2 < photo["y"] + photo["height"] / 2

    other = page.get_by_role("button", name=re.compile("^Object .*: Stacking rings"))
    other.focus()
    page.keyboard.press("Enter")
    expect(other).to_have_attribute("aria-pressed", "true")
    expect(cards(page).first).to_have_attribute("data-product", re.compile("^rings"))
    page.get_by_role("button", name="the whole photo").click()
    expect(pressed).to_have_count(0)
    expect(page.locator(".find-panel:visible")).to_contain_text(
        re.compile("of the whole photo|Nothing like it here")
    )
    # All that was one request.
    assert server.database["match_log"].count_documents({}) == logged

    page.get_by_role("button", name="More options").click()
    page.get_by_label("never").check()
    page.get_by_role("button", name="Find", exact=True).click()
    expect(boxes).to_have_count(0)


def test_where_nothing_is_like_it_the_page_says_so_and_shows_weak_matches_on_demand(
    page: Page,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    give_photo(page, "noise.png", encoded(Image.fromarray(noise)))
    nothing = page.locator(".find-nothing:visible")
    expect(nothing).to_contain_text("Nothing like it here. No product reaches the least score")
    expect(cards(page)).to_have_count(0)
    page.get_by_role("button", name="Show weak matches").click()
    expect(cards(page)).to_have_count(6)
    expect(nothing).to_contain_text("what comes nearest")
    expect(page.locator(".find-likely")).to_have_count(0)


def test_more_like_this_joins_words_and_edit_opens_the_catalogue(page: Page) -> None:
    say(page, "classic mug red")
    first = cards(page).first
    expect(first).to_have_attribute("data-product", "mug-classic-red")
    page.get_by_label("Words", exact=True).fill("")
    button(first, "More like this").click()
    liked = page.locator(".find-liked")
    expect(liked).to_contain_text("Like Classic mug, red")
    expect(cards(page)).to_have_count(6)
    assert "mug-classic-red" not in ids(page)
    say(page, "blue")
    expect(page.locator(".find-asked")).to_contain_text("and the words “blue”")
    expect(cards(page).first).to_have_attribute("data-product", "mug-classic-blue")
    button(cards(page).first, "Edit").click()
    expect(page.get_by_role("tab", name="Catalogue")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#catalogue-name textarea")).to_have_value("Classic mug, blue")
    page.get_by_role("tab", name="Find").click()
    page.get_by_role("button", name="Search without this product").click()
    expect(liked).to_have_count(0)
    expect(cards(page).first.locator("dt")).to_have_text(["Score", "Words"])


def test_a_photo_is_pasted_or_taken(page: Page, mug: SampleProduct) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
    png = encoded(Image.open(mug.queries[0]).convert("RGB"))
    page.evaluate(PASTE, base64.b64encode(png).decode())
    page.locator(".find-photo-input").get_by_label("Paste from clipboard").click()
    expect(cards(page).first).to_have_attribute("data-product", mug.product_id)

    request = page.locator(".find-said code").first.inner_text()
    page.get_by_label("Remove Image").click()
    expect(page.locator(".find-hint")).to_be_visible()
    page.locator(".find-photo-input").get_by_label("Capture from camera").click()
    page.get_by_role("button", name="Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('.find-photo-input video')?.videoWidth > 0")
    page.get_by_role("button", name="capture photo").click()
    expect(page.locator(".find-said code").first).not_to_have_text(request)


def test_what_is_no_photo_is_refused_in_the_servers_words_and_any_kind_of_photo_is_taken(
    page: Page, mug: SampleProduct
) -> None:
    give_photo(page, "notes.png", b"hello, this is no photo")
    expect(page.get_by_role("alert").first).to_contain_text(
        "image[0]: 23 bytes that begin 68 65 6c 6c 6f"
    )
    page.get_by_label("Remove Image").click()
    expect(page.locator(".find-hint")).to_be_visible()
    heic = io.BytesIO()
    picture = Image.open(mug.queries[0]).convert("RGB")
    pillow_heif.from_pillow(picture).save(heic)
    give_photo(page, "photo.heic", heic.getvalue())
    expect(cards(page).first).to_have_attribute("data-product", mug.product_id)


def test_names_of_products_are_shown_as_they_are(page: Page, server: Serving) -> None:
    product = {"product_id": "find-hostile", "name": HOSTILE, "category": HOSTILE[:40]}
    with server.client() as client:
        client.upsert({**product, "description": HOSTILE, "price": 3})
        try:
            wait_for(
                lambda: client.match(texts="x", filter={"category": HOSTILE[:40]}).matches,
                "it is found",
            )
            say(page, HOSTILE)
            card = page.locator("[data-product=find-hostile].find-card")
            expect(card.locator(".find-name")).to_have_text(HOSTILE)
            expect(card.locator(".find-description")).to_have_text(HOSTILE)
            button(card, "More like this").click()
            expect(page.locator(".find-liked strong")).to_have_text(HOSTILE)
            page.get_by_role("button", name="Filters").click()
            page.get_by_role("button", name="Read them from the catalogue again").click()
            page.get_by_label("Category").click()
            expect(page.get_by_role("option", name=f"{HOSTILE[:40]} (1)")).to_be_visible()
        finally:
            client.delete("find-hostile")


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_a_desk_in_dark_and_by_keyboard(
    browser: Browser, page_url: str, width: int
) -> None:
    with opened_page(browser, page_url, width=width, height=844, dark=True) as watched:
        page = watched.page
        page.get_by_label("Words", exact=True).focus()
        page.keyboard.type("red mug")
        page.keyboard.press("Enter")
        expect(cards(page)).to_have_count(6)
        assert page.evaluate(WIDTHS) == [width, width]
        order = []
        for _ in range(8):
            page.keyboard.press("Tab")
            order.append(page.evaluate(FOCUSED))
        assert order[0] == "Find"
        labels = ["More like this", "Edit", "Right", "Wrong"]
        first = [f"{label}: Classic mug, red" for label in labels]
        assert [name for name in order if "Classic mug, red" in name] == first
        page.keyboard.press("Shift+Tab")
        page.get_by_role("button", name="Try it with a table with several products").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".find-box").first).to_be_visible()
        assert page.evaluate(WIDTHS) == [width, width]
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in re.findall(r"\d+", background)[:3]) < 64
        pictures = ROOT / "reports" / "page"
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pictures / f"find-{width}.png", full_page=True)
        check_quiet(watched)
