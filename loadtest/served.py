"""Contestants behind HTTP: put under load by a process of its own, watched from this one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from loadtest.http_load import (
    Address,
    HttpAnswer,
    HttpConnection,
    LoadResult,
    answer_from_bytes,
    run_load,
)
from loadtest.measurements import LOAD_GENERATOR, LoadError, Measurement
from loadtest.processes import ProcessTrees, peak_memory


@dataclass(frozen=True)
class AnswerFacts:
    """What the benchmark looks at in an answer.

    Attributes:
        first_match: the best product; empty where there is none.
        stages_ms: milliseconds of each stage, as far as the answer says.
    """

    first_match: str
    stages_ms: Mapping[str, float]


class ServedContestant:
    """A running server as a contestant.

    Args:
        name: what it is called in the report.
        address: its host and port.
        requests: whole HTTP requests.
        read: takes an answer of status 200 apart.
        trees: its processes.
        generator: the process that sends the load.
        repeat_every: one photo in so many is one that was sent before; 0: none is.
        kinds: what kind each request is of; empty where that does not matter.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        requests: Sequence[bytes],
        read: Callable[[HttpAnswer], AnswerFacts],
        trees: ProcessTrees,
        generator: ProcessPoolExecutor,
        repeat_every: int = 0,
        kinds: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.address = address
        self._requests = requests
        self._read = read
        self._trees = trees
        self._generator = generator
        self._repeat_every = repeat_every
        self._kinds = kinds

    def first_matches(self) -> list[str]:
        """The product found first for each request; empty text where there is none.

        Raises:
            LoadError: a request was not answered.
        """
        found = []
        with contextlib.closing(HttpConnection(self.address)) as connection:
            for request in self._requests:
                answer = answer_from_bytes(connection.send(request))
                if answer.status != 200:
                    message = answer.body.decode(errors="replace")
                    raise LoadError(f"{self.name} answered {answer.status}: {message}")
                found.append(self._read(answer).first_match)
        return found

    def measure(self, clients: int, seconds: float) -> Measurement:
        """Load it; see ``loadtest.measurements.Contestant``."""
        before, before_by_process = self._trees.cpu_ms(), self._trees.cpu_ms_by_process()
        with peak_memory(self._trees) as memory:
            load: LoadResult = self._generator.submit(
                run_load, self.address, self._requests, clients, seconds, self._repeat_every
            ).result()
        after, after_by_process = self._trees.cpu_ms(), self._trees.cpu_ms_by_process()
        return Measurement(
            latencies_ms=load.latencies_ms,
            seconds=load.seconds,
            cpu_ms={
                **{name: after[name] - before[name] for name in before},
                LOAD_GENERATOR: load.cpu_ms,
            },
            memory_mb=memory,
            stages_ms=[self._read(item).stages_ms for item in load.kept],
            cpu_ms_by_process={
                name: after_by_process[name] - spent for name, spent in before_by_process.items()
            },
            kinds=[self._kinds[place] for place in load.sent] if self._kinds else (),
        )
