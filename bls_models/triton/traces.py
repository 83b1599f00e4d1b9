"""Which trace a call of another model belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

_NONE: Mapping[str, Any] = MappingProxyType({})
_arguments: ContextVar[Mapping[str, Any]] = ContextVar("trace", default=_NONE)


def trace_of(request: Any) -> Any:
    """A request's trace; None where it is not traced. It is there until ``execute`` returns."""
    trace = request.trace()
    return trace if trace.get_context() else None


@contextlib.contextmanager
def traced(traces: Iterable[Any]) -> Iterator[None]:
    """Within the block calls of other models join the first trace that is one.

    A batch shares its calls, and a call has one trace. The block must end before ``execute``
    returns, for Triton frees traces then: calls that threads make later join none.
    """
    trace = next(filter(None, traces), None)
    arguments = {} if trace is None else {"trace": trace}
    token = _arguments.set(arguments)
    try:
        yield
    finally:
        # Threads with a copy of the context have the same object.
        arguments.clear()
        _arguments.reset(token)


def call_arguments() -> Mapping[str, Any]:
    """What a call is made with to belong to a trace; empty where it belongs to none."""
    return _arguments.get()
