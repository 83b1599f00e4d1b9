"""Engines from small graphs, compiled by the real TensorRT for RTX: reuse and refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from engine_support import (
    BUNDLE,
    LENGTH,
    PIXELS,
    PROFILES,
    SPEC,
    small_engine,
    small_graph,
    write_graph,
)
from onnx import TensorProto, helper

import builders.engines.building
from bls_models.bundle import file_sha256
from bls_models.errors import BundleError
from bls_models.specs import ModelSpec, TensorSpec
from builders.engines.metadata import EngineMetadata, TensorDescription, metadata_path
from builders.engines.profiles import AxisRange, OptimizationProfile
from builders.engines.tensorrt_api import Compiler, compiler_for_target


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return compiler_for_target("rtx", ["8.6"])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return small_graph(tmp_path / "small.onnx")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engines" / "small.plan"


def files_in(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()} if folder.is_dir() else set()


# --- building and reuse -----------------------------------------------------------------------


def test_an_engine_comes_with_what_it_was_built_from_and_what_came_out(
    graph: Path, path: Path, compiler: Compiler
) -> None:
    lines: list[str] = []
    engine = small_engine(graph, compiler, path, lines=lines)
    assert not engine.reused
    assert files_in(path.parent) == {"small.plan", "small.plan.json"}
    assert EngineMetadata.read(path) == engine.metadata
    recipe = engine.metadata.recipe
    assert (recipe.model, recipe.precision, recipe.target) == ("small_encoder", "fp32", "rtx")
    assert (recipe.bundle, recipe.fingerprint) == (BUNDLE.name, BUNDLE.fingerprint)
    assert (recipe.tensorrt, recipe.tensorrt_version) == ("tensorrt_rtx", compiler.version)
    assert (recipe.compute_capabilities, recipe.gpu) == (("8.6",), None)
    assert recipe.graph_sha256 == file_sha256(graph)
    assert recipe.profiles == (
        {"name": "all", "shapes": {"image": [[1, PIXELS], [2, PIXELS], [4, PIXELS]]}},
    )
    assert engine.metadata.inputs == (TensorDescription("image", "UINT8", (-1, PIXELS)),)
    assert engine.metadata.outputs == (TensorDescription("vector", "FP32", (-1, LENGTH)),)
    assert engine.metadata.plan_sha256 == file_sha256(path)
    assert engine.metadata.bytes == path.stat().st_size
    assert engine.metadata.seconds > 0
    assert "compiling for compute capability 8.6" in lines[0]
    assert lines[-1].endswith(str(path))


def test_an_engine_of_the_same_inputs_is_used_again(
    graph: Path, path: Path, compiler: Compiler
) -> None:
    first = small_engine(graph, compiler, path)
    written = path.stat().st_mtime_ns
    lines: list[str] = []
    second = small_engine(graph, compiler, path, lines=lines)
    assert second.reused
    assert second.metadata == first.metadata
    assert path.stat().st_mtime_ns == written
    assert lines == [f"small_encoder fp32: {path} is up to date"]


def test_another_graph_another_profile_and_another_gpu_each_compile_anew(
    graph: Path, path: Path, compiler: Compiler
) -> None:
    small_engine(graph, compiler, path)
    small_graph(graph, seed=1)
    assert not small_engine(graph, compiler, path).reused
    wider = (dataclasses.replace(PROFILES[0], axes={"batch": AxisRange(1, 4, 4)}),)
    assert not small_engine(graph, compiler, path, profiles=wider).reused
    two = compiler_for_target("rtx", ["8.6", "12.0"])
    assert not small_engine(graph, two, path, profiles=wider).reused
    assert small_engine(graph, two, path, profiles=wider).reused


@pytest.mark.parametrize("damage", ["plan", "metadata", "no metadata"])
def test_a_damaged_engine_is_compiled_anew(
    graph: Path, path: Path, compiler: Compiler, damage: str
) -> None:
    small_engine(graph, compiler, path)
    if damage == "plan":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "metadata":
        metadata_path(path).write_text("{")
    else:
        metadata_path(path).unlink()
    assert not small_engine(graph, compiler, path).reused
    assert small_engine(graph, compiler, path).reused


def test_a_long_compilation_shows_that_it_lives(
    graph: Path, path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builders.engines.building, "HEARTBEAT_SECONDS", 0.001)
    lines: list[str] = []
    small_engine(graph, compiler, path, lines=lines)
    assert any("small_encoder fp32: still compiling after" in line for line in lines)


def test_two_profiles_of_a_decoder_with_past_and_new_positions_compile(
    tmp_path: Path, compiler: Compiler
) -> None:
    width = 8
    spec = ModelSpec(
        "small_decoder",
        2,
        inputs=(
            TensorSpec("new", "FP32", (-1, width)),
            TensorSpec("past", "FP32", (-1, width)),
            TensorSpec("mask", "FP32", (-1,)),
        ),
        outputs=(TensorSpec("sum", "FP32", (width,)),),
    )
    graph = write_graph(
        tmp_path / "decoder.onnx",
        [
            helper.make_node("Concat", ["past", "new"], ["all"], "join", axis=1),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"], "widen"),
            helper.make_node("Mul", ["all", "column"], ["masked"], "apply"),
            helper.make_node("ReduceSum", ["masked", "middle"], ["sum"], "total", keepdims=0),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
            for name, dims in (
                ("new", ["batch", "n", width]),
                ("past", ["batch", "p", width]),
                ("mask", ["batch", "p_n"]),
            )
        ],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", width])],
        {"last": np.array([2], np.int64), "middle": np.array([1], np.int64)},
    )
    inputs = {
        "new": ("batch", "new", width),
        "past": ("batch", "past", width),
        "mask": ("batch", "past+new"),
    }
    batch = AxisRange(1, 1, 2)
    profiles = (
        OptimizationProfile(
            "prefill",
            {"batch": batch, "past": AxisRange(1, 1, 1), "new": AxisRange(1, 16, 32)},
            inputs,
        ),
        OptimizationProfile(
            "decode",
            {"batch": batch, "past": AxisRange(1, 24, 64), "new": AxisRange(1, 1, 1)},
            inputs,
        ),
    )
    engine = small_engine(graph, compiler, tmp_path / "decoder.plan", spec=spec, profiles=profiles)
    assert [profile["name"] for profile in engine.metadata.recipe.profiles] == ["prefill", "decode"]


# --- refusals ---------------------------------------------------------------------------------


def test_a_missing_graph_is_refused_with_the_remedy(
    tmp_path: Path, path: Path, compiler: Compiler
) -> None:
    with pytest.raises(BundleError, match=r"none.onnx is missing: .*`make models`"):
        small_engine(tmp_path / "none.onnx", compiler, path)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, path: Path, compiler: Compiler) -> None:
    graph = tmp_path / "text.onnx"
    graph.write_text("no graph")
    with pytest.raises(BundleError, match=r"text.onnx is not an ONNX graph"):
        small_engine(graph, compiler, path)


def test_an_fp32_graph_does_not_become_an_int8_engine(
    graph: Path, path: Path, compiler: Compiler
) -> None:
    with pytest.raises(BundleError, match="graph of fp32; it cannot become an int8 engine"):
        small_engine(graph, compiler, path, precision="int8")


def test_an_operator_that_tensorrt_does_not_know_is_named_with_its_node(
    tmp_path: Path, path: Path, compiler: Compiler
) -> None:
    graph = small_graph(tmp_path / "odd.onnx", middle="Det")
    with pytest.raises(
        BundleError,
        match=r"odd.onnx: TensorRT .* cannot read it: Det node 'the_middle': UNSUPPORTED_NODE",
    ):
        small_engine(graph, compiler, path)
    assert files_in(path.parent) == set()


def test_pixels_that_are_not_cast_first_are_refused_with_the_node_at_fault(
    tmp_path: Path, path: Path, compiler: Compiler
) -> None:
    graph = write_graph(
        tmp_path / "uncast.onnx",
        [
            helper.make_node("Transpose", ["image"], ["turned"], "turn", perm=[0, 1]),
            helper.make_node("Cast", ["turned"], ["vector"], "to_float", to=TensorProto.FLOAT),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", PIXELS])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", PIXELS])],
        {},
    )
    with pytest.raises(BundleError, match=r"Transpose node 'turn': INVALID_NODE .*UInt8"):
        small_engine(graph, compiler, path)


def test_a_zero_point_that_tensorrt_misreads_is_refused_before_compiling(
    tmp_path: Path, path: Path, compiler: Compiler
) -> None:
    graph = write_graph(
        tmp_path / "unsigned.onnx",
        [
            helper.make_node("Cast", ["image"], ["real"], "to_float", to=TensorProto.FLOAT),
            helper.make_node("QuantizeLinear", ["real", "scale", "zero"], ["q"], "quantize"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["vector"], "back"),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", PIXELS])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", PIXELS])],
        {"scale": np.array(0.5, np.float32), "zero": np.array(128, np.uint8)},
    )
    with pytest.raises(BundleError, match="not fit for TensorRT"):
        small_engine(graph, compiler, path, precision="int8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 5}, r"output 'vector' is FP32 \[-1, 5\], expected FP32 \[-1, 4\]"),
        ({"batch": 2}, r"input 'image' is UINT8 \[2, 6\], expected UINT8 \[-1, 6\]"),
    ],
    ids=["other length", "fixed batch"],
)
def test_a_graph_with_other_shapes_is_refused(
    tmp_path: Path,
    path: Path,
    compiler: Compiler,
    changes: dict[str, int],
    message: str,
) -> None:
    graph = small_graph(tmp_path / "other.onnx", **changes)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=message):
        small_engine(graph, compiler, path)


def test_a_graph_with_another_output_is_refused(
    graph: Path, path: Path, compiler: Compiler
) -> None:
    spec = dataclasses.replace(SPEC, outputs=(TensorSpec("embedding", "FP32", (LENGTH,)),))
    with pytest.raises(BundleError, match=r"output 'embedding' is absent, expected FP32 \[-1, 4\]"):
        small_engine(graph, compiler, path, spec=spec)


def test_a_profile_that_contradicts_the_graph_is_refused(
    graph: Path, path: Path, compiler: Compiler
) -> None:
    profiles = (
        OptimizationProfile("odd", {"batch": AxisRange(1, 2, 4)}, {"image": ("batch", PIXELS + 1)}),
    )
    with pytest.raises(BundleError, match=r"small.onnx: TensorRT"):
        small_engine(graph, compiler, path, profiles=profiles)


def test_a_failed_build_leaves_the_engine_that_was_there(
    graph: Path, path: Path, compiler: Compiler
) -> None:
    before = small_engine(graph, compiler, path).metadata
    small_graph(graph, middle="Det")
    with pytest.raises(BundleError, match="Det"):
        small_engine(graph, compiler, path)
    assert files_in(path.parent) == {"small.plan", "small.plan.json"}
    assert EngineMetadata.read(path) == before
    assert file_sha256(path) == before.plan_sha256
