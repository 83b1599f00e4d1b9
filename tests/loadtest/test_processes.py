from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtest.processes import ProcessTrees, peak_memory

MEGABYTES = 150
# Waits for a line, holds that much memory, works until some CPU time has passed, says so, and waits
# for another line.
PROGRAM = f"""
import sys, time
print("ready", flush=True)
sys.stdin.readline()
held = b"x" * {MEGABYTES * 10**6}
end = time.process_time() + 0.1
while time.process_time() < end:
    pass
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        # Behind a shell: what counts is a process's descendants as well.
        ["sh", "-c", f"'{sys.executable}' -c '{PROGRAM}'; exit $?"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate("\n\n", timeout=60)


def test_cpu_time_and_peak_memory_are_those_of_a_process_and_its_descendants(
    child: subprocess.Popen[str],
) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    trees = ProcessTrees({"serving": child.pid})
    cpu_before, memory_before = trees.cpu_ms(), trees.memory_mb()
    with peak_memory(trees) as peak:
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "held\n"
    assert trees.cpu_ms()["serving"] > cpu_before["serving"]
    assert peak["serving"] - memory_before["serving"] > MEGABYTES * 0.95


def test_a_server_that_runs_elsewhere_has_no_processes() -> None:
    trees = ProcessTrees({})
    with peak_memory(trees) as peak:
        pass
    assert (trees.cpu_ms(), peak) == ({}, {})
