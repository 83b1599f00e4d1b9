"""A call that hangs costs the longest wait once, then nothing, and is called again when it ends."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving_support import wait_for

from bls_models.errors import EncoderError
from bls_models.triton.timed_calls import TimedCalls


def threads() -> int:
    return sum(item.name == "timed-calls" for item in threading.enumerate())


def test_results_and_errors_are_those_of_the_call() -> None:
    calls = TimedCalls(60)
    assert calls.run("part", lambda: 7, EncoderError) == 7

    def fail() -> int:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        calls.run("part", fail, EncoderError)
    assert calls.run("part", lambda: 8, EncoderError) == 8


def test_one_call_after_another_shares_a_thread() -> None:
    before = threads()
    calls = TimedCalls(60)
    for _ in range(20):
        calls.run("part", lambda: None, EncoderError)
    assert threads() == before + 1


def test_a_call_that_hangs_is_given_up_and_not_made_again_until_it_ends() -> None:
    calls = TimedCalls(0.1)
    go_on = threading.Event()
    start = time.monotonic()
    with pytest.raises(EncoderError, match=r"part did not answer within 0\.1 s"):
        calls.run("part", go_on.wait, EncoderError)
    assert time.monotonic() - start >= 0.1, "it was waited for"
    for _ in range(5):
        with pytest.raises(EncoderError, match="part has not answered for"):
            calls.run("part", pytest.fail, EncoderError)

    # Where other work holds up its thread, the wait may be over before the call is made.
    wait_for(lambda: answers(calls, "another part"), "another part is called")
    go_on.set()
    wait_for(lambda: answers(calls, "part"), "the part is called again")


def test_a_part_that_answers_others_is_called_though_one_call_is_overdue() -> None:
    calls = TimedCalls(0.1)
    events = threading.Event(), threading.Event()
    # Of two calls under way at once both are given up; one of them ends later all the same.
    with ThreadPoolExecutor() as pool:
        given_up = [pool.submit(calls.run, "part", event.wait, EncoderError) for event in events]
    assert all(isinstance(item.exception(), EncoderError) for item in given_up)
    assert not answers(calls, "part")
    events[0].set()
    wait_for(lambda: answers(calls, "part"), "the part is called again")
    events[1].set()


def answers(calls: TimedCalls, part: str) -> bool:
    try:
        return calls.run(part, lambda: True, EncoderError)
    except EncoderError:
        return False
