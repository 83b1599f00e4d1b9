"""Processes of their own: for what is measured, and for what loads it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

Made = TypeVar("Made")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def own_process() -> ProcessPoolExecutor:
    """One process that shares nothing with this one."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


class Worker(Generic[Made]):
    """An object that lives in a process of its own, until the end of a ``with`` block.

    Args:
        make: makes the object, there.
        arguments: what it is called with.
    """

    def __init__(self, make: Callable[..., Made], *arguments: Any) -> None:
        self._process = own_process()
        self.pid = self._process.submit(os.getpid).result()
        self._process.submit(_make, make, arguments).result()

    def __enter__(self) -> Worker[Made]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.shutdown()

    def call(
        self,
        method: Callable[Concatenate[Made, Parameters], Result],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Call a method of the object, there, and wait for what it gives."""
        result: Result = self._process.submit(_call, method, arguments, named).result()
        return result


# The one object of a process that ``Worker`` has started.
_made: list[Any] = []


def _make(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _made.append(make(*arguments))


def _call(method: Callable[..., Any], arguments: Any, named: Any) -> Any:
    return method(_made[0], *arguments, **named)
