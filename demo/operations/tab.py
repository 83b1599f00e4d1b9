from __future__ import annotations

import gradio as gr

from demo.server import Server


def add(server: Server):
    gr.Markdown("here")
