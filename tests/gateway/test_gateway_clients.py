"""The project's own programs call through the gateway with a key from their environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gateway_support import LOADER_KEY, SHOP_KEY, Gateway
from serving_support import ROOT, SAMPLE, SampleProduct

pytestmark = pytest.mark.server

SECONDS = 120


def run(module: str, *arguments: str, key: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
    environment.pop("PRODUCT_MATCH_API_KEY", None)
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment | ({"PRODUCT_MATCH_API_KEY": key} if key else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_command_line_sends_the_key_of_its_environment(
    gateway: Gateway, catalogue: list[SampleProduct], tmp_path: Path, protocol: str
) -> None:
    arguments = ("--url", gateway.url(protocol), "match", "--text", "helm test", "--json")
    done = run("product_match_client", *arguments, key=SHOP_KEY, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["matches"]
    refused = run("product_match_client", *arguments, key="", folder=tmp_path)
    assert refused.returncode != 0
    assert refused.stdout == ""


def test_the_import_takes_a_key_that_may_write(gateway: Gateway, tmp_path: Path) -> None:
    arguments = ("import", str(SAMPLE), "--limit=2", f"--url={gateway.url('http')}")
    done = run("seed", *arguments, key=LOADER_KEY, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 rows" in done.stdout
    assert run("seed", *arguments, key=SHOP_KEY, folder=tmp_path).returncode == 1
