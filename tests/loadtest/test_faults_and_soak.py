"""`make faults` and `make soak`, shorter than by hand: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serving_support import PATIENT

from bls_models.bundle import Bundle
from loadtest import soak
from loadtest.faults import __main__ as faults
from loadtest.faults.scenarios import FAULTS, IN_MILVUS, QUEUE_FULL, SECONDARY_BEHIND

pytestmark = pytest.mark.server

# Not "encoder killed": its matches wait, and are answered when it is loaded again.
FELT = {
    "database killed": ("matches", "degraded"),
    "captioner killed": ("matches", "degraded"),
    "product_match killed": ("matches", "failed"),
    "triton killed": ("matches", "failed"),
    "milvus killed": ("matches", "refused"),
}


@pytest.fixture(
    params=[
        pytest.param({"database killed", "encoder killed"}, id="two", marks=pytest.mark.slow),
        pytest.param(
            {fault.name for fault in (*FAULTS, SECONDARY_BEHIND, *IN_MILVUS)},
            id="all",
            marks=pytest.mark.nightly,
        ),
    ]
)
def patient_faults(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Faults that may last: how long matches and recovery take is what `make faults` judges."""
    patient = {"longest_match_s": 60.0, "recovery_s": 300.0}
    chosen = [replace(fault, **patient) for fault in FAULTS if fault.name in request.param]
    monkeypatch.setattr(faults, "FAULTS", tuple(chosen))
    monkeypatch.setattr(faults, "QUEUE_FULL", replace(QUEUE_FULL, **patient))
    monkeypatch.setattr(faults, "SECONDARY_BEHIND", replace(SECONDARY_BEHIND, **patient))
    monkeypatch.setattr(faults, "IN_MILVUS", [replace(fault, **patient) for fault in IN_MILVUS])
    rare = (SECONDARY_BEHIND, *IN_MILVUS)
    last = [fault.name for fault in rare if fault.name in request.param]
    return [*(fault.name for fault in (*chosen, QUEUE_FULL)), *last]


def test_faults_are_survived_as_documented(
    bundle: Bundle, patient_faults: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "faults.json"
    status = faults.main(["--seconds", "8", "--report", str(path), "--faults", *patient_faults])
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert (status, report["problems"]) == (0, [])
    results = {item["fault"]: item for item in report["faults"]}
    assert list(results) == patient_faults
    for item in report["faults"]:
        sent = item["matches"]["sent"] + item["writes"]["sent"]
        failed = item["matches"]["failed"] + item["writes"]["failed"]
        assert item["logs"]["expected"] == sent - failed
        assert item["logs"]["missing"] <= item["dropped"]
        assert item["logs"]["doubled"] == 0
        assert item["matches"]["answered"] > 0
    # The faults were felt.
    for name in FELT.keys() & results.keys():
        part, outcome = FELT[name]
        assert results[name][part][outcome] > 0, name
    assert results["log queue full"]["dropped"] > 0


@pytest.mark.parametrize(
    ("minutes", "storm_minutes"),
    [
        pytest.param("0.2", "0.2", marks=pytest.mark.slow),
        pytest.param("1", "10", marks=pytest.mark.nightly),
    ],
)
def test_some_time_of_everything_leaves_no_error_and_no_difference(
    bundle: Bundle,
    minutes: str,
    storm_minutes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    if float(minutes) < 1:
        # In a storm memory grows for half a minute, to what the largest calls take, and stays so.
        monkeypatch.setattr(soak, "GROWTH_MB", 75.0)
    path = tmp_path / "soak.json"
    times = ["--minutes", minutes, "--storm-minutes", storm_minutes]
    status = soak.main([*times, "--report", str(path)])
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert (status, report["problems"]) == (0, [])
    assert report["logs"]["expected"] == report["logs"]["written"] > 0
    assert {"match answered", "upsert answered", "delete answered"} == set(report["requests"])
    named = ("browsing", "caption", "filter", "objects", "photos", "words")
    kinds = {f"{kind} answered" for kind in named}
    assert kinds | {"failing bad request", "given up"} <= set(report["storm"]["requests"])
