"""`make faults` and `make soak`, shorter than by hand: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bls_models.bundle import Bundle
from loadtest import soak
from loadtest.faults import __main__ as faults
from loadtest.faults.scenarios import FAULTS, QUEUE_FULL

pytestmark = [pytest.mark.server, pytest.mark.slow]


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
        assert item["matches"]["answered"] > 20
    # The faults were felt.
    assert results["database killed"]["matches"]["degraded"] > 20
    assert results["captioner killed"]["matches"]["degraded"] > 0
    assert results["encoder killed"]["matches"]["refused"] > 0
    assert results["index killed"]["matches"]["refused"] > 0
    assert results["product_match killed"]["matches"]["failed"] > 0
    assert results["triton killed"]["matches"]["failed"] > 0
    assert results["log queue full"]["dropped"] > 0


def test_a_minute_of_everything_leaves_no_error_and_no_difference(
    bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "soak.json"
    status = soak.main(["--minutes", "1", "--report", str(path)])
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert (status, report["problems"]) == (0, [])
    assert report["logs"]["expected"] == report["logs"]["written"] > 500
    assert {"match answered", "upsert answered", "delete answered"} == set(report["requests"])
