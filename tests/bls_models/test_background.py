"""A thread beside the requests: how it begins, waits and ends."""

from __future__ import annotations

import threading

from bls_models.background import Background


def test_closing_ends_a_wait_and_says_that_the_work_has_ended() -> None:
    ended = threading.Event()

    def work() -> None:
        while not background.wait(60):
            pass
        ended.set()

    background = Background("sleeper", work)
    background.start()
    assert background.running
    assert background.close(10)
    assert ended.is_set()


def test_work_that_does_not_end_in_time_is_left_running() -> None:
    go = threading.Event()
    background = Background("stuck", go.wait)
    background.start()
    assert not background.close(0.01)
    go.set()
    assert background.close()


def test_what_never_began_has_ended() -> None:
    assert Background("idle", lambda: None).close()


def test_a_wait_ends_when_its_time_is_up() -> None:
    assert not Background("idle", lambda: None).wait(0.001)
