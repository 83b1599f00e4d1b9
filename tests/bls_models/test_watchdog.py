"""A process whose work does not move ends and says where it stood; one that is slow goes on."""

from __future__ import annotations

import subprocess
import sys

HANG = """
import threading
from bls_models.watchdog import Watchdog, watched

Watchdog(0.2)

def stuck_here():
    with watched():
        threading.Event().wait()

stuck_here()
"""
# A match that backtracks for years never lets go of the interpreter.
HOLD_THE_INTERPRETER = """
import re
from bls_models.watchdog import Watchdog, watched

Watchdog(0.2)
with watched():
    re.match("(a+)+b", "a" * 60)
"""
HANG_BESIDE_OTHERS = """
import threading
import time
from bls_models.watchdog import Watchdog, progress, watched

Watchdog(0.4)

def stuck_here():
    with watched():
        threading.Event().wait()

threading.Thread(target=stuck_here, daemon=True).start()
while True:
    with watched():
        time.sleep(0.01)
        progress()
"""
SLOW = """
import threading
import time
from bls_models.watchdog import Watchdog, progress, watched

watchdog = Watchdog(2.0)

def other_thread():
    for _ in range(30):
        time.sleep(0.1)
        progress()

for step in (progress, None):
    with watched():
        if step is None:
            helper = threading.Thread(target=other_thread)
            helper.start()
            helper.join()
        else:
            for _ in range(30):
                time.sleep(0.1)
                step()
# Between two blocks nothing is watched.
progress()
time.sleep(3)
watchdog.close()
time.sleep(3)
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


def test_it_is_ended_too_where_other_work_goes_on() -> None:
    ended = ran(HANG_BESIDE_OTHERS)
    assert ended.returncode == 1
    assert "stuck_here" in ended.stderr


def test_a_stuck_interpreter_is_ended_too() -> None:
    ended = ran(HOLD_THE_INTERPRETER)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr


def test_work_that_moves_may_take_longer_than_one_step_and_idle_time_does_not_count() -> None:
    ended = ran(SLOW)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "went on\n", "")
