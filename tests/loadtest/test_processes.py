from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from loadtest.processes import ProcessTrees, idle_seconds, peak_memory

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
        # The last argument is that of a Triton's process for a model.
        ["sh", "-c", f"'{sys.executable}' -c '{PROGRAM}' /m/image_encoder/1/model.py; exit $?"],
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
    by_process_before = trees.cpu_ms_by_process()
    with peak_memory(trees) as peak:
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "held\n"
    assert trees.cpu_ms()["serving"] > cpu_before["serving"]
    by_process = trees.cpu_ms_by_process()
    assert by_process["image_encoder"] > by_process_before["image_encoder"]
    assert len(by_process) == 2
    assert sum(by_process.values()) == pytest.approx(trees.cpu_ms()["serving"])
    assert peak["serving"] - memory_before["serving"] > MEGABYTES * 0.95


def test_a_server_that_runs_elsewhere_has_no_processes() -> None:
    trees = ProcessTrees({})
    with peak_memory(trees) as peak:
        pass
    assert (trees.cpu_ms(), trees.cpu_ms_by_process(), peak) == ({}, {}, {})


def test_servers_that_are_no_triton_have_no_processes_of_models() -> None:
    assert ProcessTrees({"serving": os.getpid()}).cpu_ms_by_process() == {}


def test_cpus_are_idle_for_no_longer_than_time_passes() -> None:
    start, idle = time.perf_counter(), idle_seconds()
    time.sleep(0.5)
    # The kernel counts in hundredths of a second.
    assert 0 <= idle_seconds() - idle <= time.perf_counter() - start + 0.05
