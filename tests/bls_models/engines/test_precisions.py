"""The graph that is served is the one that is right on the CPU at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from serving_support import REPOSITORY, ROOT, SMALL_BUNDLE

from bls_models.bundle import Bundle
from bls_models.engines import precisions
from bls_models.engines.precisions import (
    Int8Support,
    described_precisions,
    graph_on_cpu,
    int8_support,
    precision_on_cpu,
    served_precisions,
)
from bls_models.errors import BundleError
from bls_models.settings import Settings

PRECISIONS = {"encoder": ["int8", "fp32"], "decoder": ["int8"], "other": ["fp16"]}
BUNDLE = replace(SMALL_BUNDLE, precisions=PRECISIONS)
# What the CPU at hand has beside them plays no part: each is a limit that OpenVINO heeds.
INSTRUCTION_SETS = ("AVX2", "AVX512_CORE")


@pytest.fixture(params=[True, False], ids=["exact", "inexact"])
def exact(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A CPU of either kind."""
    monkeypatch.setattr(precisions, "int8_support", lambda: Int8Support("kernel", request.param))
    return bool(request.param)


def test_int8_activations_are_served_where_they_are_exact(exact: bool, tmp_path: Path) -> None:
    found = served_precisions(BUNDLE, tmp_path, Settings())
    assert found == {"encoder": "int8" if exact else "fp32", "decoder": "int8", "other": "fp16"}


def test_a_setting_decides_without_looking_at_the_cpu(exact: bool, tmp_path: Path) -> None:
    for setting in ("int8", "fp32"):
        found = served_precisions(BUNDLE, tmp_path, Settings(cpu_precision=setting))
        assert found == {"encoder": setting, "decoder": "int8", "other": "fp16"}


def test_the_line_for_people_says_what_decided(exact: bool, tmp_path: Path) -> None:
    words = "INT8 products are exact here" if exact else "INT8 products are not exact here"
    assert words in described_precisions(BUNDLE, tmp_path, Settings())
    chosen = described_precisions(BUNDLE, tmp_path, Settings(cpu_precision="fp32"))
    assert chosen == "encoder fp32, decoder int8, other fp16 (PRODUCT_MATCH_CPU_PRECISION=fp32)"


def test_on_a_gpu_the_engines_say_their_precision(tmp_path: Path) -> None:
    settings = Settings(profile="gpu")
    for model in PRECISIONS:
        path = tmp_path / model / "1" / "model.plan.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"recipe": {"precision": "fp16"}}))
    assert served_precisions(BUNDLE, tmp_path, settings) == dict.fromkeys(PRECISIONS, "fp16")
    (tmp_path / "decoder" / "1" / "model.plan.json").write_text("{}")
    with pytest.raises(BundleError, match=r"decoder.*`make engines`"):
        served_precisions(BUNDLE, tmp_path, settings)


def test_a_model_that_the_bundle_lacks_is_named(tmp_path: Path) -> None:
    BUNDLE.write(tmp_path)
    with pytest.raises(BundleError, match=r"no graph of image_encoder.*make models"):
        graph_on_cpu(tmp_path, "image_encoder")


def test_this_cpus_graphs_are_there(bundle: Bundle) -> None:
    for model, choices in bundle.precisions.items():
        path = graph_on_cpu(REPOSITORY, model)
        assert path.is_file()
        assert precision_on_cpu(choices) in path.name


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_cpus_without_vnni_are_found_out(instruction_set: str) -> None:
    """OpenVINO is asked, in a process that may use no more of this CPU."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from bls_models.engines.precisions import *; print(int8_support().exact)",
        ],
        cwd=ROOT,
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instruction_set},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_the_kernel_is_named() -> None:
    assert "I8" in int8_support().kernel
