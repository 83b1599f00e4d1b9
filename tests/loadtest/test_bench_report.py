from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.bench import clients_key, headline
from loadtest.measurements import LOAD_GENERATOR, Summary
from loadtest.report import accuracy_from_matches, report_from_summaries, table_from_summaries
from local_server.temporary_stack import DATABASE, SERVING
from reporting.reports import machine, write_report

RAW = Summary(
    throughput=100.0,
    p50_ms=10.0,
    p95_ms=20.0,
    p99_ms=30.0,
    cpu_ms_per_request={SERVING: 15.0},
    peak_memory_mb={SERVING: 210.0},
    ratio_to={"raw": 1.0, "usual": 3.0, "product_match": 1.43},
    stages_ms={},
    cpu_ms_by_process={},
    idle=0.101,
)
USUAL = dataclasses.replace(
    RAW, throughput=33.0, ratio_to={"raw": 0.33, "usual": 1.0, "product_match": 0.47}
)
SERVED = Summary(
    throughput=70.123,
    p50_ms=15.0,
    p95_ms=25.0,
    p99_ms=35.0,
    cpu_ms_per_request={SERVING: 20.0, DATABASE: 0.5, LOAD_GENERATOR: 0.1},
    peak_memory_mb={SERVING: 601.239, DATABASE: 60.0},
    ratio_to={"raw": 0.70123, "usual": 2.12, "product_match": 1.0},
    stages_ms={"decode": 7.0},
    cpu_ms_by_process={"tritonserver": 2.0, "product_match": 18.004},
    idle=0.2504,
)
ALL = {"raw": RAW, "usual": USUAL, "product_match": SERVED}


def test_the_report_has_the_numbers_of_each_contestant() -> None:
    report = report_from_summaries(ALL)
    assert list(report) == ["raw", "usual", "product_match"]
    assert report["usual"]["ratio_to_raw"] == 0.33
    assert report["product_match"] == {
        "throughput": 70.12,
        "ratio_to_raw": 0.701,
        "ratio_to_usual": 2.12,
        "p50_ms": 15.0,
        "p95_ms": 25.0,
        "p99_ms": 35.0,
        "cpu_ms_per_request": 20.0,
        "other_cpu_ms_per_request": {"database": 0.5, "load gen.": 0.1},
        "peak_memory_mb": 601.24,
        "other_peak_memory_mb": {"database": 60.0},
        "stages": {"decode": 7.0},
        "cpu_ms_by_process": {"tritonserver": 2.0, "product_match": 18.0},
        "idle": 0.25,
    }


def test_the_report_leads_with_the_ratios_and_stages_of_the_product() -> None:
    row = report_from_summaries(ALL)["product_match"]
    assert headline(row) == {
        "ratio_to_raw": 0.701,
        "ratio_to_usual": 2.12,
        "stages": {"decode": 7.0},
    }


@pytest.mark.parametrize(("clients", "key"), [(1, "one_client"), (16, "clients_16")])
def test_other_numbers_of_clients_have_a_place_of_their_own(clients: int, key: str) -> None:
    assert clients_key(clients) == key


def test_what_could_not_be_seen_of_a_server_is_null_and_not_0() -> None:
    unseen = dataclasses.replace(
        SERVED, cpu_ms_per_request={LOAD_GENERATOR: 0.1}, peak_memory_mb={}
    )
    row = report_from_summaries({"raw": RAW, "product_match": unseen})["product_match"]
    assert (row["cpu_ms_per_request"], row["peak_memory_mb"]) == (None, None)


def test_the_table_has_a_line_for_each_contestant_and_fits_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    slow = dataclasses.replace(SERVED, p50_ms=1234.5, p95_ms=1234.5, p99_ms=1234.5)
    four = {**ALL, "tuned": RAW, "product_match_repeats": slow}
    ratios = {name: 0.7012 for name in four}
    four = {name: dataclasses.replace(item, ratio_to=ratios) for name, item in four.items()}
    console.print(table_from_summaries(8, four))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "8 clients" in text
    parts = ("raw", "product_match", "repeats", "70.1", "0.70", "database", "serving", "601", "25%")
    for part in parts:
        assert part in text
    assert "…" not in text


def test_accuracy_compares_the_first_matches() -> None:
    accuracy = accuracy_from_matches(
        ["mug", "bowl", "vase", "bin"],
        {
            "raw": ["mug", "bowl", "vase", "mug"],
            "usual": ["mug", "bowl", "", "mug"],
            "product_match": ["mug", "bowl", "", "mug"],
        },
    )
    assert accuracy.as_json() == {
        "raw": 0.75,
        "usual": 0.5,
        "product_match": 0.5,
        "agreement": 0.75,
    }


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
