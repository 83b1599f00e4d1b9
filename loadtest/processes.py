"""CPU time and memory of a contestant's processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import psutil

from bls_models.background import repeated

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

    def cpu_ms(self) -> dict[str, float]:
        """User and system time so far, milliseconds, by part."""
        return {
            name: sum(time.user + time.system for time in (item.cpu_times() for item in tree)) * 1e3
            for name, tree in self._trees.items()
        }

    def memory_mb(self) -> dict[str, float]:
        """Memory now, MB (10^6 bytes), by part.

        Proportional set sizes: what several processes share is shared out among them, so that
        it counts once in their sum.
        """
        return {
            name: sum(item.memory_full_info().pss for item in tree) / 1e6
            for name, tree in self._trees.items()
        }


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
