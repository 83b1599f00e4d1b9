"""Threads are counted by the CPUs of a container, not by those of its node."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bls_models.cpus import CPUS, cpu_count, quota
from bls_models.errors import SetupError
from bls_models.settings import Settings

POD = "kubepods/burstable/pod1/abc"


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        # The limit of a pod stands above its container's.
        (
            f"0::/{POD}\n",
            {f"{POD}/cpu.max": "max 100000", "kubepods/burstable/pod1/cpu.max": "150000 100000"},
            1.5,
        ),
        (f"0::/{POD}\n", {f"{POD}/cpu.max": "50000 100000", "cpu.max": "max 100000"}, 0.5),
        (
            f"8:memory:/x\n4:cpu,cpuacct:/{POD}\n1:cpuset:/y\n",
            {
                f"cpu,cpuacct/{POD}/cpu.cfs_quota_us": "300000\n",
                f"cpu,cpuacct/{POD}/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        # The path is the host's, and the container has its own group mounted as the root.
        (
            f"4:cpu:/{POD}\n",
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        (
            "4:cpu:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            math.inf,
        ),
        ("0::/\n", {"cpu.max": "0 0\n"}, math.inf),
        ("0::/../..\n", {}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_the_least_quota_counts(
    tmp_path: Path, membership: str, files: Mapping[str, str], cpus: float
) -> None:
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "own").write_text(membership, encoding="utf-8")
    assert quota(tmp_path / "groups", tmp_path / "own") == cpus


def test_a_process_counts_the_cpus_that_it_has() -> None:
    available = len(os.sched_getaffinity(0))
    assert cpu_count() == max(1, math.ceil(min(available, quota())))


def test_the_setting_wins() -> None:
    program = "from bls_models.cpus import cpu_count; print(cpu_count())"
    environment = os.environ | {CPUS: "7"}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    assert found.stdout == b"7\n"
    with pytest.raises(SetupError, match=CPUS):
        Settings.from_environment({CPUS: "-1"})
