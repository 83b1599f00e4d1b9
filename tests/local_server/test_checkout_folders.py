"""A checkout in a folder whose name is not English."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving_support import ROOT

from bls_models.bundle import Bundle

START_SECONDS = 180.0
PACKAGES = ("bls_models", "builders", "client", "local_server", "reporting", "seed")


@pytest.mark.server
def test_matches_succeed_in_any_folder_and_locale(bundle: Bundle, tmp_path: Path) -> None:
    checkout = tmp_path / "prüfung für [jürgen]"
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "render")
        )
    folders = os.pathsep.join(map(str, (checkout, checkout / "client")))
    done = subprocess.run(
        [sys.executable, "-m", "local_server", "smoke", "--repository", ROOT / "model_repository"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": folders, "LC_ALL": "C"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=START_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["top1_correct"] is True
    assert Path(facts["query"]).is_relative_to(checkout), "that tree was used"
