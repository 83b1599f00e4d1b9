"""Which trace a call of another model belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

_NONE: Mapping[str, Any] = MappingProxyType({})
_arguments: ContextVar[Mapping[str, Any]] = ContextVar("trace", default=_NONE)


@contextlib.contextmanager
def traced(requests: Sequence[Any]) -> Iterator[None]:
    """Within the block calls of other models join the trace of the batch's first traced request.

    A batch shares its calls, and a call has one trace. The block must end before the requests are
    answered, for Triton frees a trace with its request: calls that threads make later join none.
    """
    traces = (request.trace() for request in requests)
    trace = next((trace for trace in traces if trace.get_context()), None)
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
