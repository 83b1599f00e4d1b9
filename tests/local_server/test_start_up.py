"""``make run`` and ``make smoke`` as a new user runs them, as processes of their own."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from collector_support import running_collector
from PIL import Image
from serving_support import ROOT, SAMPLE, SampleProduct, wait_for

from bls_models.bundle import Bundle
from local_server.running import find_running
from product_match_client import ProductMatchClient

pytestmark = pytest.mark.server

START_SECONDS = 180.0
PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


def command(name: str, state: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "local_server", name, "--state", str(state), *flags]


@pytest.fixture
def fashion_catalogue(tmp_path: Path, sample: list[SampleProduct]) -> Path:
    """Six sample products laid out as Kaggle's Fashion Product Images."""
    folder = tmp_path / "fashion catalogue"
    (folder / "images").mkdir(parents=True)
    header = (
        "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,"
        "productDisplayName"
    )
    with (folder / "styles.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header.split(","))
        for number, item in enumerate(sample[:6], start=1000):
            product = item.product
            row = [number, "Women", "Home", "Table", product["category"], "Red", "Fall", 2024]
            writer.writerow([*row, "Casual", product["name"]])
            Image.open(item.images[0]).convert("RGB").save(folder / "images" / f"{number}.jpg")
    return folder


@pytest.fixture
def started(
    bundle: Bundle, tmp_path: Path, fashion_catalogue: Path
) -> Iterator[subprocess.Popen[str]]:
    flags = [*PORTS, "--catalog", str(fashion_catalogue)]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            command("run", tmp_path / "state", *flags),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    yield process
    process.kill()
    process.wait()


def test_run_serves_a_kaggle_catalogue_until_ctrl_c_and_stops_all_it_started(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    state = tmp_path / "state"

    def output() -> str:
        return (tmp_path / "output").read_text(encoding="utf-8")

    def serving_or_ended() -> bool:
        assert started.poll() is None, output()
        return "Serving: HTTP" in output()

    wait_for(serving_or_ended, "the server says that it serves", START_SECONDS)
    running = find_running(state)
    assert running is not None
    with ProductMatchClient(running.http_url) as client:
        result = client.match(
            tmp_path / "fashion catalogue" / "images" / "1003.jpg",
            filter={"attributes.year": {"$gte": 2024}},
        )
    assert result.matches[0].product_id == "1003"
    assert result.matches[0].score > 0.99

    second = subprocess.run(
        command("run", state, *PORTS), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert f"process {started.pid} already serves" in second.stderr

    logs = subprocess.run(
        command("logs", state), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Latest matches" in logs.stdout
    assert "1003" in logs.stdout

    check = subprocess.run(
        command("sync-check", state), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr
    assert "6 products in the database, 6 in the index" in check.stdout
    assert "nothing differs" in check.stdout

    metric = subprocess.run(
        command("metric", state), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert metric.returncode == 0, metric.stderr
    assert "No metric: 0 products with several views" in metric.stdout
    assert f"{running.http_url} serves metric none." in metric.stdout
    assert "metric: none, image vectors are compared as they are" in output()

    children = psutil.Process(started.pid).children(recursive=True)
    assert any("triton" in child.name() for child in children)
    started.send_signal(signal.SIGINT)
    assert started.wait(START_SECONDS) == 0, output()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert find_running(state) is None
    assert len(list(state.glob("snapshots/*/snapshot-*"))) == 1


def test_smoke_ends_with_the_right_match_as_json_and_leaves_nothing_running(
    bundle: Bundle, tmp_path: Path
) -> None:
    done = subprocess.run(
        command("smoke", tmp_path / "state"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["top1_correct"] is True
    assert facts["product_id"] == facts["expected_product_id"]
    assert 0.5 < facts["score"] <= 1
    assert facts["caption"]
    assert f"caption: {facts['caption']}" in done.stdout
    found = re.search(r"metric: (\d+) of 100 left-out views .* first, (\d+) before", done.stdout)
    assert found is not None
    assert int(found[1]) > int(found[2])
    assert not Path(facts["query"]).is_relative_to(SAMPLE / "images")
    here = str(tmp_path)
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if here in str(p.info["cmdline"])] == []


def test_a_local_server_sends_traces_where_it_is_told(bundle: Bundle, tmp_path: Path) -> None:
    with running_collector() as collector:
        flags = ("--trace-url", collector.url, "--trace-rate", "1")
        subprocess.run(
            command("smoke", tmp_path / "state", *flags),
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=START_SECONDS,
        )
    names = {span["name"] for span in collector.spans}
    assert {"product_ingest", "product_match", "image_encoder"} <= names


def test_run_says_which_port_is_taken_and_how_to_choose_another(
    bundle: Bundle, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("run", tmp_path / "state", "--http-port", str(port)),
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
    assert done.returncode == 1
    assert f"port {port} for Triton's http endpoint is taken" in done.stderr
    assert "--http-port" in done.stderr


def test_run_refuses_a_folder_that_is_no_catalogue_before_it_starts_anything(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        command("run", tmp_path / "state", "--catalog", str(tmp_path / "empty")),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "styles.csv" in done.stderr
    assert not (tmp_path / "state").exists()
