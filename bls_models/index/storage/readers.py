"""When rows and slots that were given up may be used again: after their last reader."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Readers:
    """Readers that hold no lock, and what must outlive them.

    A reader begins, reads what it found then for as long as it likes, and ends.
    What writers retire meanwhile is given back only when no reader is left that may still use it.
    Not locked: the caller keeps its calls from running beside each other.
    """

    def __init__(self) -> None:
        self._number = 0
        self._open: set[int] = set()
        self._retired: deque[tuple[int, Callable[[], None]]] = deque()

    def begin(self) -> int:
        """Begin to read; returns the number to ``end`` with."""
        self._number += 1
        self._open.add(self._number)
        return self._number

    def end(self, reader: int) -> None:
        """Stop reading."""
        self._open.remove(reader)
        oldest = min(self._open, default=self._number + 1)
        while self._retired and self._retired[0][0] < oldest:
            self._retired.popleft()[1]()

    @contextmanager
    def reading(self, lock: threading.Lock, take: Callable[[], T]) -> Iterator[T]:
        """Read without the lock, in the block, what ``take`` finds under it.

        Args:
            lock: that keeps calls here from running beside each other; not held by the caller.
            take: returns what is read; called once.
        """
        with lock:
            reader = self.begin()
            taken = take()
        try:
            yield taken
        finally:
            with lock:
                self.end(reader)

    @property
    def latest(self) -> int:
        """The newest reader that has not ended, 0 without any."""
        return max(self._open, default=0)

    @property
    def number(self) -> int:
        """How many readers have begun."""
        return self._number

    def retire(self, give_back: Callable[[], None]) -> None:
        """Call this when all who read now have ended, which may be at once."""
        if self._open:
            self._retired.append((self._number, give_back))
        else:
            give_back()
