"""Stages take what waits, in order, and end when all is worked on."""

from __future__ import annotations

import threading

import pytest

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
