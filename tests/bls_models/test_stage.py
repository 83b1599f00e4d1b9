"""Stages take what waits, in order, and end when all is worked on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from serving_support import wait_for

from bls_models.stage import Stage

WAIT_SECONDS = 60.0


@pytest.mark.parametrize(
    ("threads", "most", "beside"), [(1, 1, 1), (4, 1, 1), (4, 8, 1), (3, 8, 3), (2, 2, 5)]
)
def test_everything_is_worked_on_once_however_many_take_it(
    threads: int, most: int, beside: int
) -> None:
    taken: list[list[int]] = []
    stage: Stage[int] = Stage("numbers", lambda items: taken.append(items), threads, most, beside)
    for number in range(500):
        stage.put(number)
    stage.close()
    assert sorted(number for items in taken for number in items) == list(range(500))
    assert max(map(len, taken)) <= most


def test_what_comes_while_a_thread_works_is_taken_together_and_in_order() -> None:
    taken: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(items: list[int]) -> None:
        taken.append(items)
        begun.set()
        assert go_on.wait(WAIT_SECONDS)

    stage: Stage[int] = Stage("numbers", work, most=3)
    stage.put(0)
    assert begun.wait(WAIT_SECONDS)
    for number in range(1, 6):
        stage.put(number)
    go_on.set()
    stage.close()
    assert taken == [[0], [1, 2, 3], [4, 5]]


def test_a_second_thread_begins_only_with_enough() -> None:
    taken: list[list[int]] = []
    begun = threading.Semaphore(0)
    go_on = threading.Event()

    def work(items: list[int]) -> None:
        taken.append(items)
        begun.release()
        assert go_on.wait(WAIT_SECONDS)

    stage: Stage[int] = Stage("numbers", work, threads=2, most=8, beside=3)
    stage.put(0)
    assert begun.acquire(timeout=WAIT_SECONDS)
    stage.put(1)
    stage.put(2)
    assert not begun.acquire(timeout=0.1)
    stage.put(3)
    assert begun.acquire(timeout=WAIT_SECONDS)
    go_on.set()
    stage.close()
    assert taken == [[0], [1, 2, 3]]


def test_nothing_is_taken_while_as_much_as_may_waits_in_the_stage_behind() -> None:
    taken: list[int] = []
    begun = threading.Semaphore(0)
    go_on = threading.Semaphore(0)

    def work_behind(items: list[int]) -> None:
        begun.release()
        assert go_on.acquire(timeout=WAIT_SECONDS)

    behind: Stage[int] = Stage("behind", work_behind)

    def work(items: list[int]) -> None:
        taken.extend(items)
        behind.put(items[0])

    stage: Stage[int] = Stage("numbers", work, onward=behind, ahead=2)
    for number in range(5):
        stage.put(number)
    # One is worked on there and two wait; each that is done makes room for another.
    for done in range(3):
        assert begun.acquire(timeout=WAIT_SECONDS)
        wait_for(lambda done=done: len(taken) == 3 + done, "the next is taken")
        time.sleep(0.05)
        assert taken == list(range(min(5, 3 + done)))
        go_on.release()
    go_on.release(2)
    stage.close()
    behind.close()


def test_what_waits_for_room_is_worked_on_at_the_end() -> None:
    taken: list[int] = []
    go_on = threading.Event()

    def work_behind(items: list[int]) -> None:
        assert go_on.wait(WAIT_SECONDS)

    behind: Stage[int] = Stage("behind", work_behind)

    def work(items: list[int]) -> None:
        taken.extend(items)
        behind.put(items[0])

    stage: Stage[int] = Stage("numbers", work, threads=2, onward=behind)
    for number in range(9):
        stage.put(number)
    stage.close()
    assert sorted(taken) == list(range(9))
    go_on.set()
    behind.close()


def test_the_system_knows_its_threads_by_name() -> None:
    names: list[str] = []
    stage: Stage[int] = Stage(
        "numbers",
        lambda _: names.append(Path("/proc/thread-self/comm").read_text().strip()),
    )
    stage.put(1)
    stage.close()
    assert names == ["numbers-0"]
