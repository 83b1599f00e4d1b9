"""Folded stacks as an SVG: who is called stands above who calls, a width is a share of the time."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape

from loadtest.flame_graph.stacks import KINDS, Stack

WIDTH, ROW, HEAD = 1000, 19, 52
# Of a letter of 11 pixels' height.
LETTER = 6.9
# Frames of a smaller share of the time are left out.
LEAST_SHARE = 0.004
COLOURS = {
    "thread": "#dfe3e8", "decoding": "#8fc79f", "Python": "#8db4dd", "kernel": "#e3a08f",
    "numpy": "#e2c069", "OpenVINO": "#bf9fd0", "Triton": "#93cfc9", "C library": "#d8b59a",
    "other": "#c9ced8",
}  # fmt: skip


def drawn(stacks: Mapping[Stack, int], title: str) -> str:
    """An SVG of stacks; below its title stands what share of the time each kind of code runs.

    Args:
        stacks: how often each was seen.
        title: the line above.
    """
    total = sum(stacks.values())
    boxes = list(_boxes(stacks, total))
    height = HEAD + ROW * (1 + max((depth for depth, *_ in boxes), default=0)) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-size="14">{escape(title)}</text>',
    ]
    running: Counter[str] = Counter()
    for stack, count in stacks.items():
        running[functools.reduce(_kind, stack[1:], "thread")] += count
    at = 8.0
    for kind, count in running.most_common():
        if (share := f"{count / total:.0%}") != "0%":
            parts.append(
                f'<rect x="{at:.0f}" y="31" width="11" height="11" fill="{COLOURS[kind]}"/>'
                f'<text x="{at + 15:.0f}" y="41">{kind} {share}</text>'
            )
            at += 34 + LETTER * len(f"{kind} {share}")
    for depth, start, count, name, kind in boxes:
        left, width = start / total * WIDTH, count / total * WIDTH
        top = height - ROW * (depth + 1) - 2
        share = f"{count / total:.1%}"
        parts.append(
            f'<g><title>{escape(name)} {share}</title><rect x="{left:.1f}" y="{top}" '
            f'width="{max(width - 0.6, 0.4):.1f}" height="{ROW - 1}" fill="{COLOURS[kind]}"/>'
        )
        if label := _label(width, f"{name} {share}", name, name.removeprefix("kernel: ")):
            parts.append(f'<text x="{left + 3:.1f}" y="{top + 13}">{escape(label)}</text>')
        parts.append("</g>")
    return "\n".join([*parts, "</svg>\n"])


def _boxes(
    stacks: Mapping[Stack, int], total: int, depth: int = 0, start: int = 0, kind: str = "thread"
) -> Iterator[tuple[int, int, int, str, str]]:
    """Depth, place and width in samples, name and kind of each frame, the widest first."""
    widths: Counter[str] = Counter()
    for stack, count in stacks.items():
        if stack:
            widths[stack[0]] += count
    for name, count in widths.most_common():
        if count < LEAST_SHARE * total:
            break
        own = _kind(kind, name) if depth else kind
        yield depth, start, count, name, own
        above = {stack[1:]: count for stack, count in stacks.items() if stack[:1] == (name,)}
        yield from _boxes(above, total, depth + 1, start, own)
        start += count


def _kind(below: str, name: str) -> str:
    """The kind of a frame above another one; a function has that of its library."""
    return KINDS.get(name.split(":")[0], "other" if below == "thread" else below)


def _label(width: float, *texts: str) -> str:
    """The first of some texts that has room, or as much of the last as has."""
    room = int((width - 6) / LETTER)
    for text in texts:
        if len(text) <= room:
            return text
    return f"{texts[-1][: room - 1]}…" if room >= 5 else ""
