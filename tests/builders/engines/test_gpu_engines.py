"""Engines for the GPU at hand: where they go and what stands beside them.

TensorRT itself needs a GPU. Here TensorRT for RTX compiles in its place, for one compute
capability, and a stand-in for its runtime reads the engine back.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from engine_support import BUNDLE, PROFILES, SPEC, SmallEngine, small_graph

import builders.commands.engines
import builders.engines.gpu_config
from bls_models.bundle import graph_file
from bls_models.errors import BundleError
from builders.commands.engines import build_engines, main
from builders.engines.metadata import EngineMetadata
from builders.engines.tensorrt_api import Compiler, compiler_for_target

# TensorRT for RTX keeps the functions of the timing cache, which do nothing there.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning")

GPU = "NVIDIA L4"


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """TensorRT for RTX in the place of TensorRT, with a GPU."""
    rtx = compiler_for_target("rtx", ["8.9"])
    api = rtx.api

    class Builder:
        def __init__(self, log: Any) -> None:
            self._builder = api.Builder(log)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._builder, name)

        def create_builder_config(self) -> Any:
            config = self._builder.create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(api.ComputeCapability.SM89, 0)
            return config

    class Runtime:
        def __init__(self, log: Any) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> SmallEngine:
            return SmallEngine(api)

    names = ("ILogger", "OnnxParser", "NetworkDefinitionCreationFlag", "BuilderFlag")
    stand_in = type(
        "Api",
        (),
        {
            "Builder": Builder,
            "Runtime": Runtime,
            "TensorIOMode": api.TensorIOMode,
            "DataType": api.DataType,
        }
        | {name: getattr(api, name) for name in names},
    )
    found = dataclasses.replace(
        rtx, api=stand_in, target="gpu", package="tensorrt", version="11.4.0.106", gpu=GPU
    )
    monkeypatch.setattr(builders.commands.engines, "compiler_for_target", lambda *_: found)
    for module in (builders.commands.engines, builders.engines.gpu_config):
        monkeypatch.setattr(module, "profiles_for", lambda *_: PROFILES)
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / SPEC.name / "1").mkdir(parents=True)
    small_graph(folder / graph_file(SPEC.name, "fp32"))
    BUNDLE.write(folder)
    return folder


def build(repository: Path, lines: list[str] | None = None) -> bool:
    """Build for the GPU; returns whether the engine was reused."""
    (engine,) = build_engines(
        "gpu",
        [].append if lines is None else lines.append,
        specs=[SPEC],
        repository=repository,
        build=repository.parent / "build",
        reports=repository.parent / "reports",
    )
    return engine.reused


@pytest.mark.usefixtures("compiler")
def test_plan_metadata_and_configuration_lie_where_triton_looks(repository: Path) -> None:
    assert not build(repository)
    model = repository / SPEC.name
    assert {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()} == {
        "1/model.fp32.onnx",
        "1/model.plan",
        "1/model.plan.json",
        "configs/gpu.pbtxt",
    }
    recipe = EngineMetadata.read(model / "1" / "model.plan").recipe
    assert (recipe.target, recipe.gpu, recipe.precision) == ("gpu", GPU, "fp32")
    assert (recipe.tensorrt, recipe.tensorrt_version) == ("tensorrt", "11.4.0.106")
    assert build(repository)


@pytest.mark.usefixtures("compiler")
def test_timings_are_kept_for_a_version_and_a_gpu(repository: Path) -> None:
    build(repository)
    folder = repository.parent / "build" / "engines" / "timing"
    (cache,) = folder.iterdir()
    assert cache.name == "tensorrt-11.4.0.106-NVIDIA-L4.cache"
    written = cache.stat().st_mtime_ns
    small_graph(repository / graph_file(SPEC.name, "fp32"), seed=1)
    build(repository)
    assert cache.stat().st_mtime_ns > written
    assert list(folder.iterdir()) == [cache]


def test_an_engine_of_another_gpu_is_built_anew(repository: Path, compiler: Compiler) -> None:
    build(repository)
    path = repository / SPEC.name / "1" / "model.plan"
    metadata = EngineMetadata.read(path)
    other = dataclasses.replace(metadata.recipe, gpu="NVIDIA A10")
    dataclasses.replace(metadata, recipe=other).write(path)
    assert not build(repository)
    assert EngineMetadata.read(path).recipe.gpu == compiler.gpu


@pytest.mark.usefixtures("compiler")
def test_the_report_names_the_gpu_and_keeps_the_rows_of_other_engines(repository: Path) -> None:
    path = repository.parent / "reports" / "engines.json"
    path.parent.mkdir()
    kept = {"bundle": "mini", "model": SPEC.name, "precision": "fp32", "target": "rtx", "bytes": 1}
    path.write_text(json.dumps({"engines": [kept]}))
    build(repository)
    build(repository)
    rows = json.loads(path.read_text())["engines"]
    assert len(rows) == 2
    assert kept in rows
    (row,) = [row for row in rows if row["target"] == "gpu"]
    assert (row["gpu"], row["reused"]) == (GPU, True)


@pytest.mark.usefixtures("compiler")
def test_a_served_precision_that_is_not_there_is_refused(repository: Path) -> None:
    with pytest.raises(BundleError, match=r"no fp16 graph of small_encoder, only fp32"):
        build_engines(
            "gpu",
            print,
            precisions=["fp16"],
            specs=[SPEC],
            repository=repository,
            build=repository.parent / "build",
            reports=repository.parent / "reports",
        )
    assert not (repository / SPEC.name / "1" / "model.plan").exists()


def test_without_a_gpu_the_command_says_what_can_be_done_instead(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["--target", "gpu", "--repository", str(repository)]) == 1
    assert "make engines TARGET=rtx" in capsys.readouterr().err
