"""Which candidates the tuner tries, and which it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bls_models.cpus import cpu_count
from bls_models.settings import INDEX_PROCESS
from loadtest import tune
from loadtest.tune import Choice, Trial, candidate_values, coordinate_descent
from local_server.tuning import read_tuning

START = Choice(instances=2)


def trial(throughput_ratio: float, p50_ratio: float | None = None) -> Trial:
    return Trial(Choice(1), START, 100.0, throughput_ratio, p50_ratio)


@pytest.mark.parametrize(
    ("throughput_ratio", "p50_ratio", "taken"),
    [
        (1.031, 1.0, True),
        (1.031, 1.1, True),
        (1.5, 1.101, False),
        (1.03, 0.5, False),
        (0.9, 0.5, False),
    ],
)
def test_a_candidate_is_taken_for_more_throughput_without_a_slower_lone_request(
    throughput_ratio: float, p50_ratio: float, taken: bool
) -> None:
    assert trial(throughput_ratio, p50_ratio).taken is taken


def test_a_candidate_is_not_taken_before_its_latency_is_known() -> None:
    assert trial(1.5).gains
    assert not trial(1.5).taken


@pytest.mark.parametrize(
    ("cpus", "threads"),
    [(1, (0,)), (2, (0, 1)), (4, (0, 1, 2)), (6, (0, 1, 2, 4)), (64, (0, 1, 2, 4, 8, 16, 32))],
)
def test_threads_are_all_cpus_and_the_powers_of_two_below(
    cpus: int, threads: tuple[int, ...]
) -> None:
    assert candidate_values(cpus) == {
        "instances": (1, 2, 3),
        "decode_threads": threads,
        "engine_threads": threads,
    }


def by_speed(speed: Callable[[Choice], float]) -> Callable[[Choice, Choice], Trial]:
    def attempt(candidate: Choice, best: Choice) -> Trial:
        return Trial(candidate, best, speed(candidate), speed(candidate) / speed(best), 1.0)

    return attempt


def test_each_field_is_varied_from_the_best_so_far() -> None:
    def speed(choice: Choice) -> float:
        return 100 + 20 * choice.instances + 10 * (choice.engine_threads == 1)

    best, trials = coordinate_descent(START, candidate_values(2), by_speed(speed))
    assert best == Choice(3, 0, 1)
    assert [(item.candidate, item.best, item.taken) for item in trials] == [
        (Choice(1), Choice(2), False),
        (Choice(3), Choice(2), True),
        (Choice(3, 1), Choice(3), False),
        (Choice(3, 0, 1), Choice(3), True),
    ]


def test_small_gains_leave_everything_as_it_was() -> None:
    def speed(choice: Choice) -> float:
        return 100 + choice.instances + choice.decode_threads

    best, trials = coordinate_descent(START, candidate_values(4), by_speed(speed))
    assert best == START
    assert len(trials) == 6


def test_a_choice_says_every_count_so_that_the_environment_of_the_tuner_does_not_matter() -> None:
    assert Choice(3, 0, 1).tuning.instances == {"product_match": 3}
    assert Choice(1).tuning.settings[INDEX_PROCESS] == "product_match"
    assert Choice(3, 0, 1).tuning.settings == {
        INDEX_PROCESS: "product_index",
        "PRODUCT_MATCH_DECODE_THREADS": "0",
        "PRODUCT_MATCH_ENGINE_THREADS": "1",
    }


@pytest.mark.server
@pytest.mark.nightly
def test_the_tuner_writes_what_a_start_reads(
    bundle: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With any gain good enough, the last candidate of each field wins: servers change places.
    monkeypatch.setattr(tune, "LEAST_GAIN", 0.0)
    monkeypatch.setattr(tune, "MOST_P50", 1e9)
    output, report = tmp_path / "tuning.json", tmp_path / "tune.json"
    arguments = ["--rounds", "1", "--seconds", "1", "--clients", "2"]
    assert tune.main([*arguments, "--output", str(output), "--report", str(report)]) == 0
    found = json.loads(report.read_text())
    last = {name: values[-1] for name, values in candidate_values(cpu_count()).items()}
    assert found["best"] == last
    assert all(item["taken"] and item["throughput"] > 0 for item in found["trials"])
    assert read_tuning(output, found["bundle"], print) == Choice(**last).tuning


def test_models_that_are_not_built_are_an_error_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tuning.json"
    assert tune.main(["--repository", str(tmp_path), "--output", str(output)]) == 1
    assert "make models" in capsys.readouterr().err
    assert not output.exists()
