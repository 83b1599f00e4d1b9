from __future__ import annotations

import base64
import csv
import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from bls_models.errors import SetupError
from loadtest.measurements import LoadError
from loadtest.perf import analyzer
from loadtest.perf.analyzer import Level, find_analyzer
from loadtest.perf.figures import figures_from_output, write_figures
from loadtest.perf.inputs import write_inputs
from loadtest.perf.plot import plot_figures

TABLE = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
    "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,"
    "p90 latency,p95 latency,p99 latency,request/response,response wait\n"
    "4,80.5005,17,3206,10264,43,35602,360,4,47208,72249,81223,100040,21,49451\n"
)
PRINTED = """\
Request concurrency: 4
  Server: 
    Avg request latency: 46275 usec (overhead 28535 usec + queue 2729 usec + compute 15011 usec)

  Composing models: 
  image_encoder, version: 1
      Inference count: 583
      Execution count: 420
      Successful request count: 424
      Avg request latency: 15127 usec (overhead 4 usec + queue 2387 usec + compute input 56 usec \
+ compute infer 12374 usec + compute output 305 usec)

  product_index, version: 1
      Inference count: 424
      Execution count: 424
      Successful request count: 424
      Avg request latency: 2620 usec (overhead 3 usec + queue 342 usec + compute input 53 usec \
+ compute infer 2145 usec + compute output 77 usec)
"""
LEVEL = Level("concurrency", 4)


def test_the_figures_of_a_level_are_those_of_the_product_and_of_the_models_it_calls() -> None:
    own, encoder, index = figures_from_output(LEVEL, TABLE, PRINTED)
    assert (own.model, own.sweep, own.load) == ("product_match", "concurrency", 4)
    assert (own.requests_per_s, own.p50_ms, own.p99_ms) == (80.5005, 47.208, 100.04)
    assert own.rest_ms == pytest.approx(3.227)
    stages = (own.queue_ms, own.input_ms, own.infer_ms, own.output_ms)
    assert stages == (10.264, 0.043, 35.602, 0.36)
    assert (encoder.model, encoder.queue_ms, encoder.infer_ms) == ("image_encoder", 2.387, 12.374)
    assert (index.model, index.infer_ms, index.output_ms) == ("product_index", 2.145, 0.077)
    assert encoder.requests_per_s is encoder.p99_ms is encoder.rest_ms is None


@pytest.mark.parametrize(
    ("table", "printed"),
    [("", PRINTED), (TABLE.replace("Queue", "Line"), PRINTED), (TABLE, "nothing")],
    ids=["empty", "other columns", "no models"],
)
def test_output_of_another_form_is_an_error(table: str, printed: str) -> None:
    with pytest.raises(LoadError, match="perf_analyzer"):
        figures_from_output(LEVEL, table, printed)


def test_figures_become_a_csv_with_a_line_a_model_and_a_plot(tmp_path: Path) -> None:
    figures = figures_from_output(LEVEL, TABLE, PRINTED)
    figures += [dataclasses.replace(item, sweep="request_rate", load=40.0) for item in figures]
    write_figures(figures, tmp_path / "reports" / "perf.csv")
    plot_figures(figures, tmp_path / "reports" / "perf.png")
    with (tmp_path / "reports" / "perf.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["sweep"], row["model"]) for row in rows[2:4]] == [
        ("concurrency", "product_index"),
        ("request_rate", "product_match"),
    ]
    assert (rows[0]["p99_ms"], rows[1]["p99_ms"]) == ("100.04", "")
    with Image.open(tmp_path / "reports" / "perf.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height) or []) > 50


def test_photos_become_input_data_with_a_length_before_each(tmp_path: Path) -> None:
    write_inputs([b"\xff\xd8first", b"second"], tmp_path / "in.json")
    steps = json.loads((tmp_path / "in.json").read_text())["data"]
    sent = [base64.b64decode(step["image"]["b64"]) for step in steps]
    assert sent == [b"\x07\0\0\0\xff\xd8first", b"\x06\0\0\0second"]


def test_levels_as_flags() -> None:
    assert LEVEL.flags == ["--concurrency-range", "4"]
    assert Level("request_rate", 12.5).flags[:2] == ["--request-rate-range", "12.5"]


def test_a_machine_that_it_does_not_exist_for_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(analyzer.platform, "machine", lambda: "aarch64")
    with pytest.raises(SetupError, match=r"Linux on x86-64 only, this is .* on aarch64.*loadtest"):
        find_analyzer(tmp_path / "tool")
    assert not (tmp_path / "tool").exists()


def test_a_program_that_does_not_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "perf_analyzer"
    program.write_text("#!/bin/sh\necho GLIBC_2.38 not found; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"perf_analyzer does not run here: GLIBC_2.38 not found"):
        find_analyzer(tmp_path / "tool")
