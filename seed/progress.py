"""Showing how far an import is: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from seed.importer import ImportCounts

SECONDS_BETWEEN_LINES = 5.0

OnProgress = Callable[[ImportCounts], None]


class RateColumn(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """The rate, or a dash before there is one."""
        speed = task.finished_speed or task.speed
        return Text("-" if speed is None else f"{speed:.1f} rows/s", style="progress.data.speed")


@contextmanager
def show_progress(total: int, stream: TextIO | None = None) -> Iterator[OnProgress]:
    """Show progress until the block ends.

    Args:
        total: how many rows there are.
        stream: where to; None is standard output.

    Yields:
        The function to call with the counts after each row.
    """
    stream = stream or sys.stdout
    if not stream.isatty():
        yield progress_lines(total, stream)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.description}"),
    )
    with Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task("", total=total)
        yield lambda counts: bar.update(task, completed=counts.done, description=str(counts))


def progress_lines(
    total: int,
    stream: TextIO,
    seconds: float = SECONDS_BETWEEN_LINES,
    clock: Callable[[], float] = time.monotonic,
) -> OnProgress:
    """A function that writes a line every few seconds.

    Args:
        total: how many rows there are.
        stream: where to.
        seconds: at least so many between two lines.
        clock: the time in seconds.
    """
    start = last = clock()

    def on_progress(counts: ImportCounts) -> None:
        nonlocal last
        now = clock()
        if now - last < seconds:
            return
        last = now
        rate = counts.done / (now - start)  # rows a second
        left_s = max(total - counts.done, 0) / rate if rate else 0.0
        stream.write(
            f"{counts.done} of {total} rows, {rate:.1f} rows/s, "
            f"{duration_text(left_s)} left: {counts}\n"
        )
        stream.flush()

    return on_progress


def duration_text(seconds: float) -> str:
    """A duration such as ``42 s``, ``8 min 20 s`` or ``1 h 05 min``."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest_min:02d} min"
    if minutes:
        return f"{minutes} min {rest_s:02d} s"
    return f"{rest_s} s"
