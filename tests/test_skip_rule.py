"""A skipped test fails the session in CI, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving_support import ROOT

PASSING = "def test_passing():\n    pass\n"
SKIPPED = "import pytest\n\n\ndef test_skipped():\n    pytest.skip('no printer')\n"
LEFT_OUT = "import pytest\n\npytest.importorskip('no_such_module')\n"
EXPECTED = "import pytest\n\n\n@pytest.mark.xfail\ndef test_failing():\n    assert False\n"
FAILING = SKIPPED + "\n\ndef test_failing():\n    assert False\n"


def session(folder: Path, ci: str, **files: str) -> subprocess.CompletedProcess[str]:
    """A session of its own on test files with the rule."""
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "skip_rule", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests"), "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )


def test_in_ci_skipped_tests_fail_the_session_by_name(tmp_path: Path) -> None:
    done = session(tmp_path, "true", passing=PASSING, skipped=SKIPPED, left_out=LEFT_OUT)
    assert done.returncode == 1, done.stdout
    assert "test_skipped.py::test_skipped: Skipped: no printer" in done.stdout
    assert "test_left_out.py: Skipped: could not import 'no_such_module'" in done.stdout
    assert "test_passing:" not in done.stdout


@pytest.mark.parametrize("ci", ["", "false"])
def test_elsewhere_they_do_not(tmp_path: Path, ci: str) -> None:
    done = session(tmp_path, ci, passing=PASSING, skipped=SKIPPED)
    assert done.returncode == 0, done.stdout
    assert "CI" not in done.stdout


def test_in_ci_other_outcomes_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    done = session(tmp_path / "good", "true", passing=PASSING, expected=EXPECTED)
    assert done.returncode == 0, done.stdout
    done = session(tmp_path, "true", failing=FAILING)
    assert done.returncode == 1
    assert "test_failing.py::test_skipped: Skipped: no printer" in done.stdout
