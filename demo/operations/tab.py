"""The operations tab: its controls, and when reports are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.alerts import alert
from demo.operations.board import board
from demo.operations.index_state import REFRESH_S, LagSample, sampled
from demo.operations.reports import PERIODS, fetch
from demo.server import Server
from product_match_client import ClientError

LOOK_MS = 250
# Asks for a refresh when the tab is shown, and again and again while it can be seen.
LOOKS = f"""
let asked = -Infinity;
const timer = setInterval(() => {{
  if (!element.isConnected) {{
    clearInterval(timer);
    return;
  }}
  const seen = element.offsetParent !== null && !document.hidden;
  if (seen && performance.now() - asked >= {1000 * REFRESH_S}) {{
    asked = performance.now();
    trigger("tick");
  }}
}}, {LOOK_MS});
"""


@dataclass(frozen=True)
class OperationsTab:
    """What other tabs may use.

    Attributes:
        key: the field for the ingest key.
    """

    key: gr.Textbox


def add(server: Server) -> OperationsTab:
    """The tab, within the block under way."""
    with gr.Row(elem_classes="operations-controls"):
        chosen = gr.Radio(
            [period.name for period in PERIODS],
            value=PERIODS[1].name,
            label="Period",
            min_width=280,
        )
        key = gr.Textbox(
            "",
            label="Ingest key",
            type="password",
            info="Of the gateway's class ingest; none for a server that asks for none.",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
            min_width=280,
        )
        again = gr.Button("Refresh", scale=0)
    said = gr.HTML(visible=False)
    shown = gr.HTML("<p>Asking the server.</p>", js_on_load=LOOKS)
    samples = gr.State([])

    async def refresh(name: str, typed: str, before: list[LagSample]) -> tuple[Any, Any, Any]:
        period = next(period for period in PERIODS if period.name == name)
        try:
            async with server.client(typed) as client:
                now, told = await fetch(client, period)
        except ClientError as error:
            # What was shown stays, with its time.
            kept = gr.skip() if before else ""
            return gr.HTML(alert(error), visible=True), kept, gr.skip()
        known = sampled(before, now)
        return gr.HTML("", visible=False), board(told, known, period), known

    gr.on(
        [shown.tick, chosen.change, key.submit, again.click],
        refresh,
        [chosen, key, samples],
        [said, shown, samples],
        show_progress="hidden",
        # What is chosen while an answer is on its way is asked for after it.
        trigger_mode="always_last",
    )
    return OperationsTab(key)
