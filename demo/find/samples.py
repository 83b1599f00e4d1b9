"""Photos to try it with: those of the sample catalogue, where the checkout is at hand."""

from __future__ import annotations

from html import escape
from pathlib import Path

from demo.preview import preview

FOLDER = Path(__file__).resolve().parents[2] / "seed" / "sample"
# By name, with what each shows, for those who cannot see it.
SAMPLES = {
    "queries/mug-classic-red/1.webp": "a red mug",
    "queries/lamp-arm-yellow/1.webp": "a yellow desk lamp",
    "queries/robot-boxy-orange/1.webp": "an orange toy robot",
    "queries/teapot-round-dots/1.webp": "a dotted teapot",
    "queries/skateboard-long-bands/1.webp": "a skateboard",
    "scenes/0006.webp": "a table with several products",
    "scenes/0002.webp": "a floor with several products",
}
# As large as the place for a photo shows it, in pixels.
SIZE = 480


def sample_photos() -> dict[str, Path]:
    """The photos that are there, by name."""
    paths = {name: FOLDER / name for name in SAMPLES}
    return {name: path for name, path in paths.items() if path.is_file()}


def samples_html(photos: dict[str, Path]) -> str:
    """A row of buttons, one for each photo; nothing without photos."""
    if not photos:
        return ""
    buttons = []
    for name, path in photos.items():
        told = escape(f"Try it with {SAMPLES[name]}")
        buttons.append(
            f'<button type="button" class="find-sample" data-does="sample" '
            f'data-sample="{escape(name)}" aria-label="{told}" title="{told}">'
            f'<img src="{preview(path.read_bytes(), SIZE)}" alt=""></button>'
        )
    return (
        '<div class="find-samples" role="group" aria-label="Sample photos">'
        f'<span class="find-samples-title">Or try one of these</span>{"".join(buttons)}</div>'
    )
