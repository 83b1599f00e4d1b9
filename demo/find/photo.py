"""The place for a photo."""

from __future__ import annotations

import gradio as gr
from gradio.data_classes import ImageData

PLACEHOLDER = "Drop a photo here, or click to choose one"


def photo_input() -> gr.Image:
    """Takes a photo by drop, choice, paste or camera; its value is the path of the file as it came.

    Gradio would open the file with Pillow and refuse what that does not know. The server takes
    more, and says itself what it does not take. Events may give it a value and nothing else: where
    they update it, Gradio makes a new one, which opens files again.
    """
    photo = gr.Image(
        label="Photo",
        sources=["upload", "clipboard", "webcam"],
        type="filepath",
        image_mode=None,
        height=260,
        buttons=[],
        placeholder=PLACEHOLDER,
        alt_text="Your photo",
        elem_classes="find-photo-input",
    )

    def path_of(payload: ImageData | None) -> str | None:
        return payload.path if payload else None

    photo.preprocess = path_of
    return photo
