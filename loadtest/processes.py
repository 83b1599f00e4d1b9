"""CPU time and memory of a contestant's processes, and what of the machine nobody uses."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping

import psutil

from bls_models.background import repeated
from local_server.model_processes import model_processes

# Reading a process's memory map takes milliseconds, so it is not done often.
SAMPLE_SECONDS = 1.0


class ProcessTrees:
    """The processes that do a contestant's work, by the part they belong to.

    Args:
        roots: process ids by the name of the part; each counts with all the descendants that it
            has now. Empty for a server that runs elsewhere.
    """

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._trees = {
            name: [root, *root.children(recursive=True)]
            for name, root in ((name, psutil.Process(pid)) for name, pid in roots.items())
        }
        # Of Tritons alone: the processes of other servers are all alike.
        self._named = [
            (models.get(item.pid, item.name()), item)
            for name, pid in roots.items()
            if (models := model_processes(pid))
            for item in self._trees[name]
        ]

    def cpu_ms(self) -> dict[str, float]:
        """User and system time so far, milliseconds, by part."""
        return {name: sum(_cpu_ms(item) for item in tree) for name, tree in self._trees.items()}

    def cpu_ms_by_process(self) -> dict[str, float]:
        """The same of a Triton by process: its own, and those of each model by the model's name."""
        spent: dict[str, float] = defaultdict(float)
        for name, item in self._named:
            spent[name] += _cpu_ms(item)
        return dict(spent)

    def memory_mb(self) -> dict[str, float]:
        """Memory now, MB (10^6 bytes), by part.

        Proportional set sizes: what several processes share is shared out among them, so that
        it counts once in their sum.
        """
        return {
            name: sum(item.memory_full_info().pss for item in tree) / 1e6
            for name, tree in self._trees.items()
        }


def idle_seconds() -> float:
    """How long the machine's CPUs have been idle so far, seconds; the mean of all of them."""
    times = psutil.cpu_times()
    idle: float = (times.idle + times.iowait) / psutil.cpu_count()
    return idle


def _cpu_ms(process: psutil.Process) -> float:
    times = process.cpu_times()
    spent: float = (times.user + times.system) * 1e3
    return spent


@contextlib.contextmanager
def peak_memory(trees: ProcessTrees) -> Iterator[dict[str, float]]:
    """Watch the memory of processes until the end of the block.

    Yields:
        The largest value of each part in MB, complete when the block has ended.
    """
    peak: dict[str, float] = {}

    def sample() -> None:
        for name, value in trees.memory_mb().items():
            peak[name] = max(value, peak.get(name, 0.0))

    with repeated("samples", sample, SAMPLE_SECONDS):
        yield peak
    sample()
