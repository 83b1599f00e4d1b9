"""The graphs keep their bounds on CPUs that have less than the one at hand.

What OpenVINO may use of a CPU is settled when a process first asks, so the same tests run again in
processes of their own. Less than AVX2 cannot be shown so: OpenVINO then still chooses kernels for
the CPU that it sees, and its text encoder gives nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from serving_support import ROOT

FILES = (
    "tests/builders/quality/test_congruence.py",
    "tests/bls_models/engines/test_cpu_encoders.py",
    "tests/builders/quality/test_caption_congruence.py",
    "tests/builders/bundle/test_captioner_bundle.py",
)


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    "instruction_set",
    [
        pytest.param("AVX2", marks=pytest.mark.slow),
        pytest.param("AVX2_VNNI", marks=pytest.mark.nightly),
        pytest.param("AVX512_CORE", marks=pytest.mark.nightly),
    ],
)
def test_the_graphs_keep_their_bounds(instruction_set: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow and not nightly", *FILES],
        cwd=ROOT,
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instruction_set},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
