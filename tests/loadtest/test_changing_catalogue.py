"""The benchmark of a changing catalogue runs against real servers and reports what it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bls_models.bundle import Bundle
from loadtest.catalogue_changes import KINDS
from loadtest.live_changes import main

pytestmark = [pytest.mark.server, pytest.mark.nightly]


def test_a_short_run_reports_each_rate_and_that_index_and_database_are_the_same(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    flags = "--rates 0 40 --rounds 1 --seconds 3 --clients 2 --products 200 --photo-side 300"
    assert main([*flags.split(), "--report", str(path)]) == 0
    assert "differ at the end in: nothing" in capsys.readouterr().out
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["index_differs_at_the_end"] == {}
    still, live = report["rates"]
    assert still["changes_per_s"] == 0
    assert still["throughput_ratio"] == 1
    assert still["visible_after_ms"] == {}
    assert live["changes_per_s"] > 0
    assert set(live["made"]) <= set(KINDS)
    assert set(live["visible_after_ms_by_kind"]) <= set(live["made"])
    assert live["cores"]["database"] > 0
    assert live["cores"]["changes"] > 0 == still["cores"]["changes"]
    assert 0 < live["visible_after_ms"]["p50"] <= live["visible_after_ms"]["max"]
