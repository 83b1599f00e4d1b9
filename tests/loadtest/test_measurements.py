from __future__ import annotations

import pytest

from loadtest.measurements import (
    Measurement,
    alternating_rounds,
    mean_stages,
    only_kind,
    summary_from_rounds,
)
from local_server.temporary_stack import SERVING


def measurement(
    count: int, seconds: float, cpu_ms: float = 0.0, memory_mb: float = 0.0
) -> Measurement:
    return Measurement([1.0] * count, seconds, {SERVING: cpu_ms}, {SERVING: memory_mb})


def test_throughput_is_requests_over_the_time_they_took() -> None:
    assert measurement(30, 2.0).throughput == 15.0


def test_percentiles_are_over_the_requests_of_all_rounds() -> None:
    rounds = [
        Measurement([float(value) for value in range(51)], 1.0),
        Measurement([float(value) for value in range(51, 101)], 1.0),
    ]
    summary = summary_from_rounds(rounds, {})
    assert (summary.p50_ms, summary.p95_ms, summary.p99_ms) == (50.0, 95.0, 99.0)


def test_a_ratio_is_the_median_of_the_rounds_so_that_one_bad_round_does_not_count() -> None:
    raw = [measurement(100, 1.0), measurement(100, 1.0), measurement(50, 1.0)]
    served = [measurement(80, 1.0), measurement(10, 1.0), measurement(35, 1.0)]
    summary = summary_from_rounds(served, {"raw": raw, "product_match": served})
    assert summary.ratio_to == pytest.approx({"raw": 0.7, "product_match": 1.0})


def test_cpu_time_is_shared_by_the_requests_of_all_rounds() -> None:
    rounds = [measurement(10, 1.0, cpu_ms=100.0), measurement(30, 1.0, cpu_ms=500.0)]
    assert summary_from_rounds(rounds, {}).cpu_ms_per_request == {SERVING: 15.0}


def test_cpu_time_by_process_is_a_requests_too() -> None:
    rounds = [
        Measurement([1.0] * count, 1.0, cpu_ms_by_process={"image_encoder": spent})
        for count, spent in ((10, 100.0), (30, 500.0))
    ]
    assert summary_from_rounds(rounds, {}).cpu_ms_by_process == {"image_encoder": 15.0}


def test_one_kind_of_a_mix_has_its_own_latencies_and_the_time_of_all() -> None:
    mix = Measurement([5.0, 60.0, 7.0], 2.0, {SERVING: 9.0}, kinds=["text", "photo", "text"])
    summary = summary_from_rounds(only_kind([mix, mix], "text"), {})
    assert (summary.throughput, summary.p50_ms) == (1.0, 6.0)
    assert summary.cpu_ms_per_request == {}


def test_peak_memory_is_the_most_of_any_round() -> None:
    rounds = [measurement(1, 1.0, memory_mb=megabytes) for megabytes in (200.0, 350.0, 300.0)]
    assert summary_from_rounds(rounds, {}).peak_memory_mb == {SERVING: 350.0}


def test_a_server_whose_processes_cannot_be_seen_has_no_cpu_time_and_no_memory() -> None:
    rounds = [Measurement([1.0], 1.0)]
    summary = summary_from_rounds(rounds, {})
    assert (summary.cpu_ms_per_request, summary.peak_memory_mb) == ({}, {})


def test_rounds_without_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        summary_from_rounds([measurement(1, 1.0)] * 2, {"raw": [measurement(1, 1.0)]})


def test_stage_means_are_over_the_answers_that_have_the_stage() -> None:
    answers = [{"decode": 2.0, "encode": 4.0}, {"decode": 4.0}]
    assert mean_stages(answers) == {"decode": 3.0, "encode": 4.0}


class Recorder:
    """A contestant that notes its turns in a list shared with the others."""

    def __init__(self, name: str, turns: list[tuple[str, int, float]]) -> None:
        self.name = name
        self._turns = turns

    def first_matches(self) -> list[str]:
        raise AssertionError("turns ask for no matches")

    def measure(self, clients: int, seconds: float) -> Measurement:
        self._turns.append((self.name, clients, seconds))
        return measurement(len(self._turns), seconds)


def test_contestants_take_turns_each_after_a_warm_up_that_does_not_count() -> None:
    turns: list[tuple[str, int, float]] = []
    contestants = [Recorder("raw", turns), Recorder("served", turns)]
    measured = alternating_rounds(contestants, 8, rounds=2, seconds=5.0, warm_up_seconds=1.0)
    one_round = [("raw", 8, 1.0), ("raw", 8, 5.0), ("served", 8, 1.0), ("served", 8, 5.0)]
    assert turns == one_round * 2
    counts = {name: [len(item.latencies_ms) for item in mine] for name, mine in measured.items()}
    assert counts == {"raw": [2, 6], "served": [4, 8]}
    for mine in measured.values():
        assert all(item.idle is not None for item in mine)
        assert summary_from_rounds(mine, {}).idle is not None
