from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from loadtest.measurements import SERVING, Summary
from loadtest.report import (
    accuracy_from_matches,
    machine,
    report_from_summaries,
    table_from_summaries,
    write_report,
)

RAW = Summary(100.0, 10.0, 20.0, 30.0, {SERVING: 15.0}, 1.0, {})
SERVED = Summary(
    70.123, 15.0, 25.0, 35.0, {SERVING: 20.0, "database": 0.5}, 0.70123, {"decode": 7.0}
)


def test_the_report_has_the_numbers_of_each_contestant() -> None:
    report = report_from_summaries({"raw": RAW, "product_match": SERVED})
    assert report["raw"]["ratio_to_raw"] == 1.0
    assert report["product_match"] == {
        "throughput": 70.12,
        "ratio_to_raw": 0.701,
        "p50_ms": 15.0,
        "p95_ms": 25.0,
        "p99_ms": 35.0,
        "cpu_ms_per_request": 20.0,
        "other_cpu_ms_per_request": {"database": 0.5},
        "stages": {"decode": 7.0},
    }


def test_cpu_time_that_could_not_be_seen_is_null_and_not_0() -> None:
    unseen = Summary(70.0, 15.0, 25.0, 35.0, {"load gen.": 0.1}, 0.7, {})
    report = report_from_summaries({"product_match": unseen})
    assert report["product_match"]["cpu_ms_per_request"] is None


def test_the_table_has_a_line_for_each_contestant_and_a_column_for_each_part() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(table_from_summaries(8, {"raw": RAW, "product_match": SERVED}))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "8 clients" in text
    for part in ("raw", "product_match", "70.1", "0.70", "database", "serving"):
        assert part in text


def test_accuracy_compares_the_first_matches() -> None:
    accuracy = accuracy_from_matches(
        ["mug", "bowl", "vase", "bin"], ["mug", "bowl", "vase", "mug"], ["mug", "bowl", "", "mug"]
    )
    assert (accuracy.raw, accuracy.product_match, accuracy.agreement) == (0.75, 0.5, 0.75)


def test_a_written_report_reads_back_and_leaves_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "bench.json"
    write_report(path, {"clients": 8})
    write_report(path, {"clients": 4})
    assert json.loads(path.read_text()) == {"clients": 4}
    assert [item.name for item in path.parent.iterdir()] == ["bench.json"]


def test_the_machine_is_named() -> None:
    found = machine()
    assert found["cpu"]
    assert found["cores"] >= 1
