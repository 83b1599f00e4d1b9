"""Calls of other models join the trace of their request, and none that Triton has freed."""

from __future__ import annotations

import threading
from contextvars import copy_context
from dataclasses import dataclass

from bls_models.triton.traces import call_arguments, trace_of, traced


@dataclass(frozen=True)
class Trace:
    """As ``pb_utils.InferenceTrace``."""

    context: str | None

    def get_context(self) -> str | None:
        return self.context


@dataclass(frozen=True)
class Request:
    context: str | None

    def trace(self) -> Trace:
        return Trace(self.context)


def test_calls_join_the_first_trace_of_a_batch_until_the_block_ends() -> None:
    assert not call_arguments()
    requests = [Request(None), Request("first"), Request("second")]
    with traced(map(trace_of, requests)):
        assert call_arguments() == {"trace": Trace("first")}
    assert not call_arguments()


def test_without_a_traced_request_calls_have_no_trace() -> None:
    with traced([trace_of(Request(None))]):
        assert not call_arguments()


def test_a_thread_that_goes_on_loses_the_trace_with_the_block() -> None:
    started, ended = threading.Event(), threading.Event()
    seen = []

    def late() -> None:
        seen.append(dict(call_arguments()))
        started.set()
        ended.wait(10)
        seen.append(dict(call_arguments()))

    with traced([trace_of(Request("first"))]):
        thread = threading.Thread(target=copy_context().run, args=(late,))
        thread.start()
        started.wait(10)
    ended.set()
    thread.join()
    assert seen == [{"trace": Trace("first")}, {}]
