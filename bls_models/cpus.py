"""How many CPUs there are for a process: what its threads are counted by."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

# A setting of the serving models (``bls_models.settings``), which all code of a process heeds.
CPUS = "PRODUCT_MATCH_CPUS"

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
# Where the CPU controller of version 1 may be mounted.
CPU_CONTROLLERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


@functools.cache
def cpu_count() -> int:
    """CPUs that this process may use, at least 1.

    ``PRODUCT_MATCH_CPUS`` where that is set; else the fewest of its affinity and of the quotas of
    its cgroups, rounded up. A container with a limit of two CPUs sees all CPUs of its node, and
    a thread for each of them would only wait for the others.
    """
    told = int(os.environ.get(CPUS) or 0)
    return told or max(1, math.ceil(min(len(os.sched_getaffinity(0)), quota())))


def quota(groups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float:
    """The least CPU quota of this process's cgroups, in CPUs; endless where there is none.

    Args:
        groups: where cgroups are mounted, of version 2 or 1.
        membership: the kernel's list of the process's cgroups.
    """
    least = math.inf
    for folder in _folders(groups, membership):
        # Version 2 has one file, version 1 two.
        words = [
            word
            for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
            for word in _text(folder / name).split()
        ]
        if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
            least = min(least, int(words[0]) / int(words[1]))
    return least


def _folders(groups: Path, membership: Path) -> Iterator[Path]:
    """The process's own group and all above it, of both versions."""
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            roots = [groups]
        elif "cpu" in controllers.split(","):
            roots = [groups / name for name in CPU_CONTROLLERS]
        else:
            continue
        # In a container the path may be the host's, of which only the end of it is mounted.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for root in roots:
            for depth in range(len(parts) + 1):
                yield root.joinpath(*parts[:depth])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
