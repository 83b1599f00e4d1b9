"""What a running server leaves in its state folder, and what is made of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from serving_support import ROOT

from bls_models.errors import SetupError
from local_server.running import STATE_FILE, Running, announced, find_running, read_running

RUNNING = Running("http://a", "grpc://a", "http://m", "mongodb://u:secret@h/?x=1", "shop")
HOLD_LOCK = """
import sys, time
from pathlib import Path
from local_server.running import state_lock
with state_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_server_is_found_while_its_process_lives_and_not_after_it_was_killed(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with announced(RUNNING, tmp_path):
            assert find_running(tmp_path) == RUNNING
            holder.kill()
            holder.wait()
            assert find_running(tmp_path) is None, "its file is there, its lock is not"


def test_where_nothing_runs_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="make run"):
        read_running(tmp_path)


def test_the_file_may_hold_a_password_so_only_its_owner_reads_it(tmp_path: Path) -> None:
    with announced(RUNNING, tmp_path):
        assert (tmp_path / STATE_FILE).stat().st_mode & 0o077 == 0
    assert not (tmp_path / STATE_FILE).exists()
    assert RUNNING.database_address == "h / shop"
