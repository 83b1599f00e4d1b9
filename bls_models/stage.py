"""A stage of work: threads that take what waits, as it comes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Stage(Generic[T]):
    """Threads that work on items in the order in which these came.

    Args:
        name: the threads'.
        work: called with what waits when a thread becomes free, at least one item; must not raise.
        threads: how many there are.
        most: items that ``work`` takes at once.
        beside: while another thread works, one begins only with so many items. Who takes few at a
            time pays for the taking more often.
        onward: the stage that its items go to; None where they may go on without a bound.
        ahead: nothing is taken while so many wait there. What has been worked on may take more
            memory than what has not.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[T]], None],
        threads: int = 1,
        most: int = 1,
        beside: int = 1,
        onward: Stage[Any] | None = None,
        ahead: int = 1,
    ) -> None:
        self._work = work
        self._most = most
        self._beside = beside
        self._onward = onward
        self._ahead = ahead
        self._before: list[Stage[Any]] = []
        if onward is not None:
            onward._before.append(self)
        self._waiting: deque[T] = deque()
        self._working = 0
        self._ended = False
        self._changed = threading.Condition(threading.Lock())
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, item: T) -> None:
        """Have an item worked on."""
        with self._changed:
            self._waiting.append(item)
            if self._ready:
                self._changed.notify()

    def close(self) -> None:
        """Work on what has come so far, and end; nothing may come afterwards."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def _ready(self) -> bool:
        """Whether a thread should take what waits."""
        if self._ended:
            return bool(self._waiting)
        if self._onward is not None and len(self._onward._waiting) >= self._ahead:
            return False
        return len(self._waiting) >= (self._beside if self._working else 1)

    def _wake(self) -> None:
        """Look again: there is room in the stage that its items go to."""
        with self._changed:
            if self._ready:
                self._changed.notify()

    def _run(self) -> None:
        name_for_system(threading.current_thread().name)
        while items := self._taken():
            for before in self._before:
                before._wake()
            self._work(items)
            # What keeps them would keep their memory until the next ones come.
            del items
            with self._changed:
                self._working -= 1

    def _taken(self) -> list[T]:
        """The next items; none at the end."""
        with self._changed:
            while not self._ready:
                if self._ended:
                    return []
                self._changed.wait()
            self._working += 1
            items = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            # More than one takes at once may wait.
            if self._ready:
                self._changed.notify()
            return items


def name_for_system(name: str) -> None:
    """Give this thread a name that ``top -H`` and profilers show; Python's own are for Python."""
    with suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)
