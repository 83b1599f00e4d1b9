"""The page's parts, put together."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from demo import catalogue, find, operations
from demo.options import DemoOptions
from demo.server import Server
from demo.uploads import KEPT_S, LOOK_S

ASSETS = Path(__file__).resolve().parent / "assets"
TITLE = "product-match"
# Fonts of the visitor's own system: the page loads nothing from elsewhere.
FONT = ("system-ui", "sans-serif")
FONT_MONO = ("ui-monospace", "monospace")
# Visitors whose state is kept; with more, those who were away longest begin anew.
MOST_SESSIONS = 500


def theme() -> gr.themes.Base:
    """Colours and shapes of the page, light and dark."""
    # Soft's greens and greys are too pale to read, and its borders to be seen.
    return gr.themes.Soft(
        primary_hue="emerald", neutral_hue="slate", font=FONT, font_mono=FONT_MONO
    ).set(
        body_background_fill="*neutral_50",
        block_background_fill="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        input_border_color="*neutral_500",
        input_border_color_dark="*neutral_500",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        color_accent="*primary_700",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_secondary",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_background_fill="none",
        block_title_padding="0",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_600",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        checkbox_background_color_selected="*primary_700",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_400",
    )


def build(server: Server, options: DemoOptions) -> gr.Blocks:
    """The page of a server, ready to be mounted."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(LOOK_S, KEPT_S)) as page:
        gr.HTML((ASSETS / "head.html").read_text(encoding="utf-8"))
        with gr.Tabs() as tabs:
            with gr.Tab("Find", id="find"):
                found = find.add(server)
            with gr.Tab("Catalogue", id="catalogue"):
                edited = catalogue.add(server)
            with gr.Tab("Operations", id="operations"):
                watched = operations.add(server)
        # Typed once, for both; it does not leave the browser for that.
        for typed, other in ((edited.key, watched.key), (watched.key, edited.key)):
            typed.input(None, typed, other, js="(key) => key")
        found.filters_read_with(page)
        found.edit_leads_to(tabs, edited.product_id)
    # As `launch` would say. Until then Gradio takes any path of this machine for an upload, and an
    # SVG file that comes for a part of the page.
    page.has_launched = page.is_running = True
    page.state_session_capacity = MOST_SESSIONS
    for event in page.fns.values():
        # The server has an API; the page is none beside it.
        event.api_visibility = "private"
    page.queue(max_size=options.queue_size, default_concurrency_limit=options.actions)
    # Answers that nobody fetches.
    page._queue.pending_messages_per_session.max_size = MOST_SESSIONS
    return page
