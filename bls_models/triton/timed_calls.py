"""Calls that are waited for no longer than a set time, whatever they hang on."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, TypeVar

from bls_models.background import Background
from bls_models.errors import ServiceError

T = TypeVar("T")


class _Call(Generic[T]):
    """One call, its outcome, and when it began."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.began = time.monotonic()
        self.ended = threading.Event()
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error


class TimedCalls:
    """Runs calls in threads of its own; any thread may ask.

    A call that is overdue goes on. Until it ends, or another one does, the same part is not called
    again, so that requests fail at once instead of each waiting for the same thing, and threads do
    not pile up. Whether such a part hangs or has too much to do cannot be told from here: one that
    hangs ends its own process (``bls_models.watchdog``).

    Args:
        seconds: the longest wait for a call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []
        self._overdue: dict[str, set[_Call[object]]] = {}
        # When the last call of each part ended.
        self._ended: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], T], failure: type[ServiceError]) -> T:
        """The result of ``work``.

        Args:
            name: what is called, as messages name it.
            work: makes the call.
            failure: the error of a call that does not end in time.

        Raises:
            ServiceError: of type ``failure``.
        """
        call = _Call(work)
        with self._lock:
            ended = self._ended.get(name, 0.0)
            overdue = [item.began for item in self._overdue.get(name, ()) if item.began > ended]
            if overdue:
                raise failure(
                    f"{name} has not answered for {call.began - min(overdue):.0f} s; it has too "
                    "much to do or hangs: send less, and see the server's log"
                )
            worker = self._idle.pop() if self._idle else self._new_worker()
        # With the context, which says what the calls belong to.
        context = copy_context()
        worker.put(lambda: context.run(self._carry_out, name, call, worker))
        if not call.ended.wait(self._seconds):
            with self._lock:
                # It may have ended this very moment.
                if not call.ended.is_set():
                    self._overdue.setdefault(name, set()).add(call)  # type: ignore[arg-type]
                    raise failure(
                        f"{name} did not answer within {self._seconds:g} s, the longest wait that "
                        "is set; see the server's log"
                    )
        if call.error is not None:
            raise call.error
        return call.result

    def _carry_out(
        self, name: str, call: _Call[T], worker: queue.SimpleQueue[Callable[[], None]]
    ) -> None:
        call.run()
        with self._lock:
            self._overdue.get(name, set()).discard(call)
            self._ended[name] = time.monotonic()
            self._idle.append(worker)
            call.ended.set()

    @staticmethod
    def _new_worker() -> queue.SimpleQueue[Callable[[], None]]:
        work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

        def serve() -> None:
            while True:
                work.get()()

        # Not waited for at the end: it may hang.
        Background("timed-calls", serve).start()
        return work
