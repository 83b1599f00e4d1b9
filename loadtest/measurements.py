"""What a round of load gives, and what several rounds come to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from loadtest.processes import idle_seconds


@dataclass(frozen=True)
class Measurement:
    """One round with one contestant.

    Attributes:
        latencies_ms: of each request, milliseconds.
        seconds: from the first request's start to the last one's end.
        cpu_ms: user and system time of the whole round, milliseconds, by who used it;
            ``SERVING`` is what answers the requests. Empty where it cannot be seen.
        memory_mb: the largest memory during the round, MB, by whose it is. Empty likewise.
        stages_ms: milliseconds of each stage, one mapping for each answer looked into.
        cpu_ms_by_process: the serving CPU time again, by process where those are told apart.
        kinds: what kind of request each was; empty where that does not matter.
        idle: share of the machine's CPUs that nobody used; None where it was not watched.
    """

    latencies_ms: Sequence[float]
    seconds: float
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    memory_mb: Mapping[str, float] = field(default_factory=dict)
    stages_ms: Sequence[Mapping[str, float]] = ()
    cpu_ms_by_process: Mapping[str, float] = field(default_factory=dict)
    kinds: Sequence[str] = ()
    idle: float | None = None

    @property
    def throughput(self) -> float:
        """Requests a second."""
        return len(self.latencies_ms) / self.seconds


# Whose CPU time it is, beside the parts of a server (``local_server.temporary_stack``).
LOAD_GENERATOR = "load gen."


class Contestant(Protocol):
    """Something that answers match requests and can be put under load."""

    name: str

    def first_matches(self) -> list[str]:
        """The product found first for each photo; empty text where there is none.

        Raises:
            LoadError: a request was not answered.
        """
        ...

    def measure(self, clients: int, seconds: float) -> Measurement:
        """Load it in a closed loop.

        Args:
            clients: requests under way at once.
            seconds: no request starts after that long.

        Raises:
            LoadError: a request was not answered.
        """
        ...


class LoadError(Exception):
    """A request of the benchmark failed, so that its numbers would mean nothing."""


@dataclass(frozen=True)
class Summary:
    """All rounds of one contestant.

    Attributes:
        throughput: requests a second, over all rounds.
        p50_ms: median latency.
        p95_ms: 95th percentile of the latency.
        p99_ms: 99th percentile of the latency.
        cpu_ms_per_request: by who used it, milliseconds.
        peak_memory_mb: the largest memory of all rounds, MB, by whose it is.
        ratio_to: throughput relative to each contestant's, the median of the rounds.
        stages_ms: mean milliseconds of each stage.
        cpu_ms_by_process: a request's serving CPU time by process, milliseconds.
        idle: see ``Measurement``; the mean of the rounds.
    """

    throughput: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms_per_request: Mapping[str, float]
    peak_memory_mb: Mapping[str, float]
    ratio_to: Mapping[str, float]
    stages_ms: Mapping[str, float]
    cpu_ms_by_process: Mapping[str, float]
    idle: float | None


def summary_from_rounds(
    rounds: Sequence[Measurement], contestants: Mapping[str, Sequence[Measurement]]
) -> Summary:
    """Sum up the rounds of a contestant.

    Args:
        rounds: its rounds, at least one.
        contestants: what it is compared with: their rounds next to each of its own, of the same
            number.
    """
    latencies = np.concatenate([item.latencies_ms for item in rounds])
    idle = [item.idle for item in rounds if item.idle is not None]
    p50, p95, p99 = (float(value) for value in np.percentile(latencies, [50, 95, 99]))
    return Summary(
        throughput=len(latencies) / sum(item.seconds for item in rounds),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        cpu_ms_per_request=_each([item.cpu_ms for item in rounds], len(latencies)),
        peak_memory_mb={
            name: max(item.memory_mb[name] for item in rounds) for name in rounds[0].memory_mb
        },
        ratio_to={
            name: statistics.median(
                mine.throughput / other.throughput
                for mine, other in zip(rounds, others, strict=True)
            )
            for name, others in contestants.items()
        },
        stages_ms=mean_stages([stages for item in rounds for stages in item.stages_ms]),
        cpu_ms_by_process=_each([item.cpu_ms_by_process for item in rounds], len(latencies)),
        idle=statistics.fmean(idle) if idle else None,
    )


def only_kind(rounds: Sequence[Measurement], kind: str) -> list[Measurement]:
    """The latencies of one kind in rounds of a mix; whose CPU time the rest is nobody can say."""
    return [
        Measurement(
            [
                value
                for value, sent in zip(item.latencies_ms, item.kinds, strict=True)
                if sent == kind
            ],
            item.seconds,
        )
        for item in rounds
    ]


def _each(rounds: Sequence[Mapping[str, float]], requests: int) -> dict[str, float]:
    """What the rounds spent, as a request's share, by who spent it."""
    return {name: sum(item[name] for item in rounds) / requests for name in rounds[0]}


def mean_stages(answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each stage over the answers that have it, in the order of their appearance."""
    names = dict.fromkeys(name for stages in answers for name in stages)
    return {
        name: statistics.fmean(stages[name] for stages in answers if name in stages)
        for name in names
    }


def alternating_rounds(
    contestants: Sequence[Contestant],
    clients: int,
    rounds: int,
    seconds: float,
    warm_up_seconds: float,
) -> dict[str, list[Measurement]]:
    """Measure contestants in turn, so that a machine's slow minute meets all of them.

    Args:
        contestants: in the order of each round.
        clients: requests under way at once.
        rounds: how often each has its turn.
        seconds: length of a turn.
        warm_up_seconds: load before each turn that does not count.

    Returns:
        The rounds of each contestant by its name.

    Raises:
        LoadError: a request was not answered.
    """
    measured: dict[str, list[Measurement]] = {item.name: [] for item in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            contestant.measure(clients, warm_up_seconds)
            start, idle = time.perf_counter(), idle_seconds()
            measurement = contestant.measure(clients, seconds)
            idle = (idle_seconds() - idle) / (time.perf_counter() - start)
            measured[contestant.name].append(replace(measurement, idle=idle))
    return measured
