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
from loadtest.faults.scenarios import FAULTS, QUEUE_FULL

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def patient_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults that may last: how long matches and recovery take is what `make faults` judges."""
    patient = {"longest_match_s": 60.0, "recovery_s": 300.0}
    faults_ = [replace(fault, **patient) for fault in (*FAULTS, QUEUE_FULL)]
    monkeypatch.setattr(faults, "FAULTS", tuple(faults_[:-1]))
    monkeypatch.setattr(faults, "QUEUE_FULL", faults_[-1])


@pytest.mark.usefixtures("patient_faults")
def test_every_fault_is_survived_as_documented(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    status = faults.main(["--seconds", "8", "--report", str(path)])
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert (status, report["problems"]) == (0, [])
    results = {item["fault"]: item for item in report["faults"]}
    assert list(results) == [item.name for item in (*FAULTS, QUEUE_FULL)]
    for item in report["faults"]:
        sent = item["matches"]["sent"] + item["writes"]["sent"]
        failed = item["matches"]["failed"] + item["writes"]["failed"]
        assert item["logs"]["expected"] == sent - failed
        assert item["logs"]["missing"] <= item["dropped"]
        assert item["logs"]["doubled"] == 0
        assert item["matches"]["answered"] > 0
    # The faults were felt.
    assert results["database killed"]["matches"]["degraded"] > 0
    assert results["captioner killed"]["matches"]["degraded"] > 0
    assert results["encoder killed"]["matches"]["refused"] > 0
    assert results["index killed"]["matches"]["refused"] > 0
    assert results["product_match killed"]["matches"]["failed"] > 0
    assert results["triton killed"]["matches"]["failed"] > 0
    assert results["log queue full"]["dropped"] > 0


def test_a_minute_of_everything_leaves_no_error_and_no_difference(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "soak.json"
    status = soak.main(["--minutes", "1", "--report", str(path)])
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert (status, report["problems"]) == (0, [])
    assert report["logs"]["expected"] == report["logs"]["written"] > 0
    assert {"match answered", "upsert answered", "delete answered"} == set(report["requests"])
