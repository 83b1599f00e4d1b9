"""A process whose work does not move ends and says where it stood; one that is slow goes on."""

from __future__ import annotations

import subprocess
import sys

HANG = """
import threading
from bls_models.watchdog import watched

def stuck_here():
    threading.Event().wait()

with watched(0.2):
    stuck_here()
"""
# A match that backtracks for years never lets go of the interpreter.
HOLD_THE_INTERPRETER = """
import re
from bls_models.watchdog import watched

with watched(0.2):
    re.match("(a+)+b", "a" * 60)
"""
SLOW = """
import time
from bls_models.watchdog import progress, watched

for _ in range(2):
    with watched(1.0):
        for _ in range(30):
            time.sleep(0.05)
            progress()
# Between two blocks nothing is watched.
progress()
time.sleep(1.5)
print("went on")
"""


def ran(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_work_that_hangs_ends_its_process_and_says_where_it_stood() -> None:
    ended = ran(HANG)
    assert ended.returncode == 1
    assert "stuck_here" in ended.stderr


def test_a_stuck_interpreter_is_ended_too() -> None:
    ended = ran(HOLD_THE_INTERPRETER)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr


def test_work_that_moves_may_take_longer_than_one_step_and_idle_time_does_not_count() -> None:
    ended = ran(SLOW)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "went on\n", "")
