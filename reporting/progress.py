"""How a command tells its progress: lines with the time since its start."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 5.0

Report = Callable[[str], None]
"""Called with a line on each step."""


def timed_lines() -> Report:
    """A function that prints a line after the seconds that have passed since now."""
    start = time.monotonic()

    def report(line: str) -> None:
        print(f"[{time.monotonic() - start:6.1f} s] {line}", flush=True)

    return report


def counted_lines(report: Report, what: str) -> Callable[..., None]:
    """A function that reports how far a step is, at the end and else every few seconds at most.

    Args:
        report: is called with lines such as ``3 of 5 queries``.
        what: is counted.

    Returns:
        To be called with the number done, that of all, and what else the line says.
    """
    last = time.monotonic()

    def count(done: int, total: int, more: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or done == total:
            last = now
            report(f"{done} of {total} {what}{more}")

    return count
