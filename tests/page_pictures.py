"""Make the pictures of the page and of the command line in ``docs/images``.

    PYTHONPATH=. .venv/bin/python tests/page_pictures.py http://127.0.0.1:8000 http://127.0.0.1:7860

The server has the sample catalogue and no gateway, and the page is its own. It is asked for some
minutes as a shop would ask it, so that the Operations tab has something to show.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from browser_support import opened_page, running_browser
from fetch_tools import add_to_path
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from local_server.options import PROJECT
from product_match_client import ProductMatchClient
from product_match_client.calls import MatchOptions
from product_match_client.errors import BadRequestError

SAMPLE = PROJECT / "seed" / "sample"
IMAGES = PROJECT / "docs" / "images"
SCENE_BUTTON = "Try it with a table with several products"
SEED = 20
# Seconds between requests, and what they are, by weight.
PAUSE_S = (0.1, 1.2)
KINDS = {"photo": 50, "words": 20, "scene": 12, "like": 10, "write": 5, "nothing": 6, "wrong": 2}
FAULTS: tuple[MatchOptions, ...] = (
    {"like": "mug-sold-out"},
    {"like": "lamp-of-last-year"},
    {"like": "mug-classic-red", "filter": {"price": {"$near": 20}}},
    {"like": "mug-classic-red", "top_k": 500},
)
# The share of photos whose answers somebody judges.
JUDGED = 0.6
WORDS = (
    "red coffee mug", "yellow desk lamp", "toy for a small child", "blue frying pan", "skateboard",
    "something to carry water", "dotted teapot", "orange robot", "alarm clock", "striped socks",
)  # fmt: skip
COMMANDS = (
    "product-match match seed/sample/queries/mug-classic-red/1.webp",
    "product-match match --like mug-classic-red --text blue --top-k 3 --facet attributes.colour=5",
)
COLUMNS = 96
# Until colours have changed.
SETTLED_S = 0.5
# The page notes how far the index lags every ten seconds, and shows it in a curve.
NOTES_S = 60
QUALITY = 82
FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def ask_for(client: ProductMatchClient, seconds: float) -> None:
    """Ask a server for some time, and tell it what became of photos whose product is known."""
    chance = random.Random(SEED)
    photos = sorted(SAMPLE.glob("queries/*/*.webp"))
    scenes = sorted(SAMPLE.glob("scenes/*.webp"))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
        photo = chance.choice(photos)
        product_id = photo.parent.name
        if kind == "photo":
            result = client.match(photo, objects=chance.choice(("auto", "never")))
            found = [match.product_id for match in result.matches]
            if found and chance.random() < JUDGED:
                is_found = product_id in found
                about = (product_id, "accepted") if is_found else (found[0], "rejected")
                client.feedback(result.details["request_id"], *about)
        elif kind == "words":
            client.match(texts=chance.choice(WORDS))
        elif kind == "scene":
            client.match(chance.choice(scenes), objects="auto")
        elif kind == "like":
            client.match(like=product_id, texts=chance.choice(["blue", "red", "small"]))
        elif kind == "write":
            client.reembed(product_id)
        elif kind == "nothing":
            client.match(photo, filter={"category": "piano"})
        else:
            try:
                client.match(**chance.choice(FAULTS))
            except BadRequestError:
                # That is what it is for.
                continue
        time.sleep(chance.uniform(*PAUSE_S))


def page_pictures(browser: Browser, url: str) -> None:
    """The Find tab on a desk and on a phone, and the Operations tab."""
    with opened_page(browser, url, height=1110) as watched:
        find_in_scene(watched.page)
        save(watched.page, "demo-find")
    with opened_page(browser, url, width=390, height=844) as watched:
        find_in_scene(watched.page)
        watched.page.locator(".find-scene").evaluate("(scene) => scene.scrollIntoView()")
        save(watched.page, "demo-phone")
    with opened_page(browser, url, height=1000) as watched:
        watched.page.get_by_role("tab", name="Operations").click()
        watched.page.get_by_label("1 hour").check()
        expect(watched.page.get_by_text("the last hour")).to_be_visible()
        watched.page.wait_for_timeout(1000 * NOTES_S)
        save(watched.page, "demo-operations", is_whole=True)


def find_in_scene(page: Page) -> None:
    """Search with a photo of several products, and choose one of them."""
    page.get_by_role("button", name=SCENE_BUTTON).click()
    page.locator(".find-box").filter(has_text="mug, red").click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000 * SETTLED_S)


def save(page: Page, name: str, is_whole: bool = False) -> None:
    """Write what a page looks like: what is seen of it with its photos, or the whole of it."""
    path = IMAGES / f"{name}.webp"
    picture = Image.open(io.BytesIO(page.screenshot(full_page=is_whole)))
    # Text alone is smaller without losses than with them.
    picture.save(path, lossless=is_whole, quality=QUALITY, method=6)
    print(f"{path.relative_to(PROJECT)}: {path.stat().st_size / 1000:.0f} kB")


def command_picture(url: str) -> None:
    """Commands with what they answer, as it looks in a terminal."""
    environment = {**os.environ, "PRODUCT_MATCH_URL": url, "COLUMNS": str(COLUMNS)}
    folder = Path(sys.executable).parent
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for command in COMMANDS:
        answer = subprocess.run(
            [folder / name if place == 0 else name for place, name in enumerate(command.split())],
            cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        console.print(Text.assemble(("$ ", "bold green"), command))
        console.print(Text.from_ansi(answer.stdout))
    picture = console.export_svg(title="product-match", theme=MONOKAI, unique_id="command")
    # With the fonts of whoever looks: none is fetched from elsewhere.
    picture = FONT_FACES.sub("", picture)
    (IMAGES / "command.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    """Ask the server, then make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("page")
    parser.add_argument(
        "--seconds", type=float, default=900.0, help="asked beforehand: %(default)s"
    )
    arguments = parser.parse_args()
    with ProductMatchClient(arguments.server) as client:
        ask_for(client, arguments.seconds)
    command_picture(arguments.server)
    add_to_path()
    with running_browser() as browser:
        page_pictures(browser, arguments.page)


if __name__ == "__main__":
    main()
