"""Ends a process whose work does not move any more.

Only the process itself can tell a part that hangs from one that has much to do. One that hangs
writes where its threads stand to the server's log and ends, for a process that has ended is found
and brought back by those who watch the server. It is Python's ``faulthandler`` that waits, in a
thread of C: it also ends a process whose interpreter is stuck.
"""

from __future__ import annotations

import contextlib
import faulthandler
import threading
from collections.abc import Iterator

# Its number: what stands in Python's place for it may have no file behind it.
STANDARD_ERROR = 2

_lock = threading.Lock()
# Of the work under way; 0 where there is none.
_seconds = 0.0


@contextlib.contextmanager
def watched(seconds: float) -> Iterator[None]:
    """Watch the work of the block; a process has one such block at a time.

    Args:
        seconds: longest time from its beginning, or from a ``progress``, to its end or the next.
    """
    _watch_for(seconds)
    try:
        yield
    finally:
        _watch_for(0)


def progress() -> None:
    """Say that the work under way moves; nothing where none is watched. From any thread."""
    with _lock:
        if _seconds:
            _arm()


def _watch_for(seconds: float) -> None:
    global _seconds
    with _lock:
        _seconds = seconds
        if seconds:
            _arm()
        else:
            faulthandler.cancel_dump_traceback_later()


def _arm() -> None:
    faulthandler.dump_traceback_later(_seconds, exit=True, file=STANDARD_ERROR)
