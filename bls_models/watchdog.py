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
import time
from collections.abc import Iterator

from bls_models.background import Background

# Its number: what stands in Python's place for it may have no file behind it.
STANDARD_ERROR = 2
# How often, within the time that work may stand still, it is looked whether it moves.
LOOKS = 8

_lock = threading.Lock()
_thread = threading.local()
# When the work of each thread last moved, on the monotonic clock.
_moved: dict[int, float] = {}


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Watch what the calling thread does in the block."""
    thread = threading.get_ident()
    with _lock:
        _moved[thread] = time.monotonic()
    try:
        yield
    finally:
        with _lock:
            del _moved[thread]


def apart() -> None:
    """Say that the calling thread never works for those that are watched."""
    _thread.apart = True


def progress() -> None:
    """Say that the work under way moves; nothing where none is watched.

    A thread that is not watched itself works for one that is, whichever that may be, unless it is
    ``apart``.
    """
    if getattr(_thread, "apart", False):
        return
    now, thread = time.monotonic(), threading.get_ident()
    with _lock:
        for moved in [thread] if thread in _moved else _moved:
            _moved[moved] = now


class Watchdog:
    """Ends the process when work that is ``watched`` stands still; a process has one at most.

    Args:
        seconds: longest time from the beginning of such work, or from a ``progress``, to its end
            or the next; it may take up to a quarter longer to be noticed.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._thread = Background("watchdog", self._run)
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._thread.close()
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        pause = self._seconds / LOOKS
        while True:
            now = time.monotonic()
            with _lock:
                still = now - min(_moved.values(), default=now)
            # At least until the look after the next one: the work may end before that.
            left = max(self._seconds - still, 2 * pause)
            if still > self._seconds:
                left = pause / LOOKS
            faulthandler.dump_traceback_later(left, exit=True, file=STANDARD_ERROR)
            if self._thread.wait(pause):
                return
