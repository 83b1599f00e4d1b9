"""The page's parts, put together."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from demo import catalogue, find, operations
from demo.options import DemoOptions
from demo.server import Server

ASSETS = Path(__file__).resolve().parent / "assets"
TITLE = "product-match"
# Fonts of the visitor's own system: the page loads nothing from elsewhere.
FONT = ("system-ui", "sans-serif")
FONT_MONO = ("ui-monospace", "monospace")
# Uploads and what is made of them go after this time, looked for this often, in seconds.
KEPT_FILES_S = (3600, 1800)


def theme() -> gr.themes.Base:
    """Colours and shapes of the page, light and dark."""
    return gr.themes.Soft(
        primary_hue="emerald", neutral_hue="slate", font=FONT, font_mono=FONT_MONO
    )


def build(server: Server, options: DemoOptions) -> gr.Blocks:
    """The page of a server, ready to be mounted."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=KEPT_FILES_S) as page:
        gr.HTML((ASSETS / "head.html").read_text(encoding="utf-8"))
        with gr.Tabs() as tabs:
            with gr.Tab("Find", id="find"):
                found = find.add(server)
            with gr.Tab("Catalogue", id="catalogue"):
                edited = catalogue.add(server)
            with gr.Tab("Operations", id="operations"):
                operations.add(server)
        found.edit_leads_to(tabs, edited)
    page.queue(max_size=options.queue_size, default_concurrency_limit=options.actions)
    return page
