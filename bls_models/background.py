"""Threads that work beside the requests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Background:
    """A named thread that runs one function and does not keep the process alive.

    What the function raises ends the thread and goes to ``threading.excepthook``, which logs it
    (``bls_models.telemetry.log_lines``).

    Args:
        name: the thread's.
        work: the function. One that goes on for long looks at ``stopping``, or waits with ``wait``
            or on ``changed``, so that ``close`` can end it.

    Attributes:
        changed: to be held by whoever changes what ``work`` waits for; ``close`` notifies it.
        stopping: whether ``close`` was called.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.changed = threading.Condition()
        self.stopping = False
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    @property
    def running(self) -> bool:
        """Whether the function has begun and not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin, unless it is running already."""
        with self.changed:
            if not self.running:
                self._thread.start()

    def wake(self, *_: object) -> None:
        """Have ``work`` look once more at what it waits for on ``changed``; fits as a callback."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait, for ``work`` itself, so long or until ``close`` is called; whether it was."""
        with self.changed:
            return self.changed.wait_for(lambda: self.stopping, seconds)

    def close(self, seconds: float | None = None) -> bool:
        """Tell the function to end, and wait for it.

        Args:
            seconds: longest wait; None: as long as it takes.

        Returns:
            Whether it is not running any more, or never was.
        """
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        if self.running:
            self._thread.join(seconds)
        return not self.running


@contextlib.contextmanager
def repeated(name: str, work: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call a function once in so many seconds, in a thread of that name, until the block ends."""

    def loop() -> None:
        while not thread.wait(seconds):
            work()

    thread = Background(name, loop)
    thread.start()
    try:
        yield
    finally:
        thread.close()
