"""Processes of one server ask the one that holds the index, each as if it were alone."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_support import wait_for

from bls_models.errors import (
    ConflictError,
    FilterError,
    IndexUnavailableError,
    ProductMatchError,
    RequestError,
    SetupError,
)
from bls_models.index.query import IndexAnswer, IndexMatch, IndexQuery
from bls_models.replication import index_socket
from bls_models.replication.index_socket import FOLDER, SOCKET, IndexSocket, RemoteIndex

SECONDS = 60.0
NO_PROCESS = 2**22 + 1


def query(top_k: int, filter_: bytes = b"") -> IndexQuery:
    return IndexQuery(
        np.full((1, 4), top_k, np.float32),
        np.ones(1, np.float32),
        np.zeros((0, 2), np.float32),
        np.zeros(0, np.float32),
        top_k,
        filter=filter_,
    )


class HeldIndex:
    """Answers with what it is asked; a search for 0 products goes on until it is released."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.release = threading.Event()
        self.held = threading.Semaphore(0)

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        if self.error is not None:
            raise self.error
        if queries[0].top_k == 0:
            self.held.release()
            assert self.release.wait(SECONDS)
        answers = [
            IndexAnswer(refusal=FilterError("filter", "wrong", "right"))
            if item.filter
            else IndexAnswer(
                [IndexMatch(f"p{item.top_k}", 2**60, float(item.image_vectors.sum()), 1.0, 0.5)],
                scored=item.top_k,
            )
            for item in queries
        ]
        return answers, {"version": len(queries)}

    def check(self, repair: bool, reply: Callable[[dict[str, Any] | Exception], None]) -> None:
        if self.error is not None:
            reply(self.error)
            return

        def work() -> None:
            assert self.release.wait(SECONDS)
            reply({"sync_check": {"repair": repair}})

        threading.Thread(target=work, daemon=True).start()

    def info(self) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return {"version": 7}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a server's socket is; below the system's folder, for paths must be short."""
    with tempfile.TemporaryDirectory() as parent:
        yield Path(parent) / f"{FOLDER}{os.getpid()}"


@pytest.fixture
def held() -> Iterator[HeldIndex]:
    held = HeldIndex()
    yield held
    held.release.set()


@pytest.fixture
def opened(folder: Path, held: HeldIndex) -> Iterator[IndexSocket]:
    opened = IndexSocket(held, folder)
    yield opened
    held.release.set()
    opened.close()


@pytest.fixture
def remote(folder: Path) -> Iterator[RemoteIndex]:
    remote = RemoteIndex(folder, SECONDS)
    yield remote
    remote.close()


def found(remote: RemoteIndex, top_k: int) -> IndexMatch:
    (answer,), _ = remote.search([query(top_k)])
    (match,) = answer.matches
    return match


def checked(remote: RemoteIndex, repair: bool = False) -> Future[Any]:
    outcome: Future[Any] = Future()
    remote.check(repair, outcome.set_result)
    return outcome


def test_answers_refusals_and_state_come_as_they_are(
    opened: IndexSocket, remote: RemoteIndex
) -> None:
    answers, about = remote.search([query(3), query(5, b"{")])
    assert answers[0] == IndexAnswer([IndexMatch("p3", 2**60, 12.0, 1.0, 0.5)], scored=3)
    assert type(answers[1].refusal) is FilterError
    assert str(answers[1].refusal) == "filter: wrong; expected right."
    assert about == {"version": 2}
    assert remote.info() == {"version": 7}


def test_many_ask_at_once_and_each_gets_its_own_answer(
    opened: IndexSocket, remote: RemoteIndex
) -> None:
    with ThreadPoolExecutor(16) as pool:
        numbers = list(range(1, 400))
        matches = list(pool.map(lambda number: found(remote, number), numbers))
    assert [match.product_id for match in matches] == [f"p{number}" for number in numbers]


def test_a_long_search_or_check_holds_up_nobody(
    opened: IndexSocket, remote: RemoteIndex, held: HeldIndex
) -> None:
    check = checked(remote, repair=True)
    with ThreadPoolExecutor(8) as pool:
        long = [pool.submit(found, remote, 0) for _ in range(8)]
        for _ in long:
            assert held.held.acquire(timeout=SECONDS)
        assert found(remote, 7).product_id == "p7"
        assert not any(item.done() for item in (check, *long))
        held.release.set()
        assert {item.result(SECONDS).product_id for item in long} == {"p0"}
    assert check.result(SECONDS) == {"sync_check": {"repair": True}}


@pytest.mark.parametrize(
    "error",
    [
        IndexUnavailableError("the index is not loaded yet"),
        ConflictError("a check is under way"),
        RequestError("top_k", "0", "more", "Ask for some."),
    ],
)
def test_an_error_keeps_its_type_and_words(
    opened: IndexSocket, remote: RemoteIndex, held: HeldIndex, error: ProductMatchError
) -> None:
    held.error = error
    with pytest.raises(type(error)) as caught:
        remote.search([query(1)])
    with pytest.raises(type(error)) as of_info:
        remote.info()
    told = checked(remote).result(SECONDS)
    for item in (caught.value, of_info.value, told):
        assert type(item) is type(error)
        assert str(item) == str(error)
    held.error = None
    assert found(remote, 1).product_id == "p1"


def test_an_unexpected_error_is_logged_where_it_happens_and_named_to_the_asker(
    opened: IndexSocket,
    remote: RemoteIndex,
    held: HeldIndex,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held.error = OSError("a secret path")
    with pytest.raises(RuntimeError, match="unexpected OSError"):
        remote.search([query(1)])
    assert "a secret path" in caplog.text


def test_an_answer_that_does_not_come_in_time_is_given_up_and_is_not_taken_for_the_next(
    opened: IndexSocket, folder: Path, held: HeldIndex
) -> None:
    impatient = RemoteIndex(folder, 2.0)
    with pytest.raises(IndexUnavailableError, match="did not answer within 2 s"):
        found(impatient, 0)
    held.release.set()
    assert found(impatient, 3).product_id == "p3"
    impatient.close()


def test_a_check_is_waited_for_longer_than_a_search(
    opened: IndexSocket, folder: Path, held: HeldIndex
) -> None:
    impatient = RemoteIndex(folder, 0.1)
    check = checked(impatient)
    with pytest.raises(TimeoutError):
        check.result(0.5)
    held.release.set()
    assert check.result(SECONDS) == {"sync_check": {"repair": False}}
    impatient.close()


def test_a_holder_that_is_gone_is_told_of_and_one_that_is_back_is_found(
    folder: Path, remote: RemoteIndex, held: HeldIndex
) -> None:
    with pytest.raises(IndexUnavailableError, match="product_match, whose process holds the index"):
        found(remote, 1)
    first = IndexSocket(held, folder)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda number: found(remote, number), range(1, 50)))) == 49
    first.close()
    assert not folder.exists()
    with pytest.raises(IndexUnavailableError, match="is not there"):
        found(remote, 1)
    second = IndexSocket(held, folder)
    assert found(remote, 2).product_id == "p2"
    second.close()


def test_who_waits_is_told_that_the_holder_ended(
    folder: Path, remote: RemoteIndex, held: HeldIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_socket, "CLOSE_SECONDS", 0.1)
    opened = IndexSocket(held, folder)
    check = checked(remote)
    with ThreadPoolExecutor(1) as pool:
        search = pool.submit(found, remote, 0)
        assert held.held.acquire(timeout=SECONDS)
        opened.close()
        with pytest.raises(IndexUnavailableError, match="ended before it answered"):
            search.result(SECONDS)
    assert isinstance(check.result(SECONDS), IndexUnavailableError)


def test_an_asker_that_closes_waits_no_more(
    opened: IndexSocket, remote: RemoteIndex, held: HeldIndex
) -> None:
    check = checked(remote)
    with ThreadPoolExecutor(1) as pool:
        search = pool.submit(found, remote, 0)
        assert held.held.acquire(timeout=SECONDS)
        remote.close()
        with pytest.raises(IndexUnavailableError):
            search.result(SECONDS)
    assert isinstance(check.result(SECONDS), IndexUnavailableError)
    with pytest.raises(IndexUnavailableError, match="the server stops"):
        found(remote, 1)


def test_the_next_holder_takes_the_socket_over_and_keeps_it(
    folder: Path, remote: RemoteIndex, held: HeldIndex
) -> None:
    first = IndexSocket(held, folder)
    second_held = HeldIndex()
    second_held.error = IndexUnavailableError("the second")
    second = IndexSocket(second_held, folder)
    first.close()
    with pytest.raises(IndexUnavailableError, match="the second"):
        found(remote, 1)
    second.close()
    assert not folder.exists()


def test_what_dead_servers_left_is_removed_and_what_others_use_stays(
    folder: Path, held: HeldIndex
) -> None:
    own, dead, alive, shared = (
        folder.with_name(f"{FOLDER}{number}")
        for number in (os.getpid(), NO_PROCESS, os.getppid(), NO_PROCESS + 1)
    )
    for item in (own, dead, alive, shared):
        item.mkdir(mode=0o700)
    for item in (own, dead):
        # Closed without being removed, as a process that is killed leaves it.
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(os.fspath(item / SOCKET))
    # Its process is in another container.
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(shared / SOCKET))
        listening.listen()
        opened = IndexSocket(held, own)
    remote = RemoteIndex(own, SECONDS)
    assert found(remote, 4).product_id == "p4"
    remote.close()
    opened.close()
    assert {item.name for item in folder.parent.iterdir()} == {alive.name, shared.name}


def test_a_path_that_is_too_long_for_a_socket_is_refused_with_a_remedy(
    tmp_path: Path, held: HeldIndex
) -> None:
    with pytest.raises(SetupError, match=r"bytes; a socket's path has at most 107: set TMPDIR"):
        IndexSocket(held, tmp_path / ("x" * 100))


def test_a_folder_that_others_may_enter_is_neither_used_nor_believed(
    folder: Path, held: HeldIndex, remote: RemoteIndex
) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(SetupError, match="nobody else may enter"):
        IndexSocket(held, folder)
    with pytest.raises(SetupError, match="nobody else may enter"):
        found(remote, 1)
    folder.rmdir()
    elsewhere = folder.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    with pytest.raises(SetupError, match="nobody else may enter"):
        IndexSocket(held, folder)


def test_an_asker_that_goes_away_costs_the_holder_nothing(
    opened: IndexSocket, folder: Path, held: HeldIndex
) -> None:
    for content in (b"", b"\x80"):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(os.fspath(folder / SOCKET))
            caller.sendall(content)
    remote = RemoteIndex(folder, SECONDS)
    assert found(remote, 6).product_id == "p6"
    remote.close()
    wait_for(
        lambda: not [item for item in threading.enumerate() if item.name == "index-caller"],
        "no thread waits for those that went away",
    )
