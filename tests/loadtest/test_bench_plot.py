"""Reports become pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from loadtest.bench_plot import main

ROW = {"throughput": 100.0, "p99_ms": 20.0, "stages": {"decode": 1.0, "encode": 5.0, "total": 6.0}}
CONTESTANTS = {"raw": ROW, "product_match": ROW}
BENCH = {"clients": 8, **CONTESTANTS, "one_client": CONTESTANTS, "clients_16": CONTESTANTS}
SCALE = {
    "sizes": [
        {
            "views": views,
            "ms_per_query": {"image": {"batch_1": views / 1000}},
            "flat_ms_per_query": {"image": {"batch_1": views / 500}},
        }
        for views in (1000, 10_000)
    ]
}
OVERLOAD = {
    "loads": [
        {
            "capacity": 100.0,
            "asked": 100.0 * factor,
            "in time": min(100.0, 100.0 * factor),
            "refused": max(0.0, 100.0 * factor - 100.0),
            "late": 0.0,
            "answered_p50_ms": 30.0 * factor,
            "answered_p99_ms": 60.0 * factor,
        }
        for factor in (0.5, 1, 2)
    ]
}


def test_each_report_becomes_a_picture(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(BENCH))
    (tmp_path / "catalogue_scale.json").write_text(json.dumps(SCALE))
    (tmp_path / "overload.json").write_text(json.dumps(OVERLOAD))
    assert main(["--reports", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    for name in ("bench", "catalogue_scale", "overload"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert len(set(picture.convert("L").tobytes())) > 10, "the picture is empty"


def test_a_folder_without_reports_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--reports", str(tmp_path)]) == 1
    assert "make bench" in capsys.readouterr().err
