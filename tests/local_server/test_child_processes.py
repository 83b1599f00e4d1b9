"""Child processes: waited for, stopped with all they started, and their failures explained."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from serving_support import wait_for

from bls_models.errors import SetupError
from local_server.database import answers, local_database
from local_server.processes import ManagedProcess, check_port_free, free_port

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def python(script: str, log: Path, stop_seconds: float = 20.0) -> ManagedProcess:
    command = [sys.executable, "-u", "-c", script]
    return ManagedProcess("the program", command, log, ENVIRONMENT, stop_seconds)


def exists(pid: int) -> bool:
    """Whether the process runs; one that ended and waits for its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_process_that_ends_while_starting_is_explained_with_its_last_lines(
    tmp_path: Path,
) -> None:
    process = python("print('it went wrong'); raise SystemExit(3)", tmp_path / "log")
    with pytest.raises(SetupError, match=r"the program ended with status 3.*\n.*it went wrong"):
        process.wait_until(lambda: False, 60)
    process.stop()


def test_a_process_that_is_not_ready_in_time_is_explained_with_its_last_lines(
    tmp_path: Path,
) -> None:
    slow = python("import time; print('busy'); time.sleep(600)", tmp_path / "log")
    try:
        wait_for(lambda: slow.log_tail() == "busy", "the program has printed")
        with pytest.raises(SetupError, match=r"was not ready after 0 s;(.|\n)*busy"):
            slow.wait_until(lambda: False, 0)
        assert slow.alive
    finally:
        slow.stop()
    assert not slow.alive


def test_stopping_also_ends_a_child_of_a_process_that_ignores_the_request(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid)\n"
        "time.sleep(600)\n"
    )
    process = python(script, tmp_path / "log", stop_seconds=0.2)
    child = int(wait_for(process.log_tail, "the child has started"))
    assert exists(child)
    process.stop()
    assert not process.alive
    wait_for(lambda: not exists(child), "the child has ended")


def test_stopping_twice_is_no_error(tmp_path: Path) -> None:
    process = python("pass", tmp_path / "log")
    process.stop()
    process.stop()
    assert not process.alive


def test_a_taken_port_is_refused_with_the_flag_that_chooses_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=rf"port {port} for a thing is taken.*--thing-port"):
            check_port_free(port, "a thing", "--thing-port")
    check_port_free(free_port(), "a thing", "--thing-port")


def test_the_database_answers_while_its_block_runs_and_not_afterwards(tmp_path: Path) -> None:
    with local_database(tmp_path, 0) as uri:
        assert answers(uri, timeout_ms=20_000)
    assert not answers(uri)


def test_a_taken_database_port_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(SetupError, match=rf"port {port} for the local database is taken"),
            local_database(tmp_path, port),
        ):
            pass
    assert list(tmp_path.iterdir()) == []
