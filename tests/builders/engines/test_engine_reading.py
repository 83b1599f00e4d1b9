"""Engines read back: by their metadata without a GPU, and from a deserialised engine."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from engine_support import BUNDLE, LENGTH, PIXELS, SPEC, SmallEngine, small_engine, small_graph

from bls_models.errors import BundleError
from bls_models.specs import TensorSpec
from builders.engines.metadata import EngineMetadata, TensorDescription, metadata_path
from builders.engines.reading import check_engine, describe_engine
from builders.engines.tensorrt_api import Compiler, compiler_for_target, error_log

IMAGE = TensorDescription("image", "UINT8", (-1, PIXELS))
VECTOR = TensorDescription("vector", "FP32", (-1, LENGTH))


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return compiler_for_target("rtx", ["8.6", "12.0"])


@pytest.fixture
def plan(tmp_path: Path, compiler: Compiler) -> Path:
    path = tmp_path / "small.plan"
    small_engine(small_graph(tmp_path / "small.onnx"), compiler, path)
    return path


def change_recipe(plan: Path, **changes: Any) -> None:
    metadata = EngineMetadata.read(plan)
    recipe = dataclasses.replace(metadata.recipe, **changes)
    dataclasses.replace(metadata, recipe=recipe).write(plan)


# --- plans of TensorRT for RTX, without a GPU -------------------------------------------------


def test_tensorrt_for_rtx_does_not_deserialise_without_a_gpu(
    plan: Path, compiler: Compiler
) -> None:
    """Why the metadata is asked instead. Where a GPU is, this says nothing."""
    engine = compiler.api.Runtime(error_log(compiler.api)).deserialize_cuda_engine(
        plan.read_bytes()
    )
    assert engine is None or engine.num_io_tensors == 2


def test_an_engine_tells_its_tensors_its_version_and_its_gpus(
    plan: Path, compiler: Compiler
) -> None:
    found = describe_engine(plan, compiler)
    assert found.inputs == (IMAGE,)
    assert found.outputs == (VECTOR,)
    assert found.profiles == ({"image": [[1, PIXELS], [2, PIXELS], [4, PIXELS]]},)
    assert found.recipe.tensorrt_version == compiler.version
    assert found.recipe.compute_capabilities == ("8.6", "12.0")
    check_engine(plan, SPEC, BUNDLE, compiler)


# --- engines that do not fit ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tensorrt_version": "1.6.0.1"},
            r"is an engine of TensorRT version 1\.6\.0\.1, this is .*make engines TARGET=rtx",
        ),
        ({"gpu": "NVIDIA L4"}, "is an engine of GPU NVIDIA L4, this is None"),
        ({"target": "gpu"}, "is an engine of target gpu, this is rtx"),
    ],
    ids=["version", "gpu", "target"],
)
def test_an_engine_of_another_version_gpu_or_target_is_refused_with_the_remedy(
    plan: Path, compiler: Compiler, changes: dict[str, str], message: str
) -> None:
    change_recipe(plan, **changes)
    with pytest.raises(BundleError, match=message):
        describe_engine(plan, compiler)


def test_a_missing_engine_is_refused(tmp_path: Path, compiler: Compiler) -> None:
    with pytest.raises(BundleError, match=r"none.plan is missing.*make engines TARGET=rtx"):
        describe_engine(tmp_path / "none.plan", compiler)


def test_an_engine_without_metadata_is_refused(plan: Path, compiler: Compiler) -> None:
    metadata_path(plan).unlink()
    with pytest.raises(BundleError, match=r"small.plan.json is missing"):
        describe_engine(plan, compiler)


def test_an_engine_with_another_engines_metadata_is_refused(plan: Path, compiler: Compiler) -> None:
    plan.write_bytes(plan.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="is not the plan that its metadata describes"):
        describe_engine(plan, compiler)


def test_an_engine_of_another_bundle_is_refused(plan: Path, compiler: Compiler) -> None:
    other = dataclasses.replace(BUNDLE, name="other", fingerprint="f" * 16)
    with pytest.raises(BundleError, match=r"is of bundle mini \(0123.*the models are of other"):
        check_engine(plan, SPEC, other, compiler)


def test_an_engine_with_other_tensors_than_its_spec_is_refused(
    plan: Path, compiler: Compiler
) -> None:
    spec = dataclasses.replace(SPEC, outputs=(TensorSpec("vector", "FP32", (LENGTH + 1,)),))
    with pytest.raises(BundleError, match=r"'vector' is FP32 \[-1, 4\], expected FP32 \[-1, 5\]"):
        check_engine(plan, spec, BUNDLE, compiler)


# --- engines that are deserialised, with a stand-in for the runtime ----------------------------


def gpu_compiler(compiler: Compiler, engine: type[SmallEngine] | None) -> Compiler:
    """TensorRT with a GPU, whose runtime gives this engine, or fails to load any."""

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log

        def deserialize_cuda_engine(self, plan: bytes) -> SmallEngine | None:
            if engine is None:
                self._log.errors.append("Serialization assertion stdVersionRead failed")
                return None
            return engine(compiler.api)

    api = {"Runtime": Runtime} | {
        name: getattr(compiler.api, name) for name in ("ILogger", "TensorIOMode", "DataType")
    }
    # A class, because a namespace has no hash and the library's logger is kept by its module.
    stand_in = type("Api", (), api)
    return dataclasses.replace(compiler, api=stand_in, target="gpu", gpu="NVIDIA L4")


def test_an_engine_of_the_gpu_at_hand_is_deserialised_and_compared(
    plan: Path, compiler: Compiler
) -> None:
    change_recipe(plan, target="gpu", gpu="NVIDIA L4")
    with_gpu = gpu_compiler(compiler, SmallEngine)
    found = describe_engine(plan, with_gpu)
    assert (found.inputs, found.outputs) == ((IMAGE,), (VECTOR,))
    assert found.profiles == ({"image": [[1, PIXELS], [2, PIXELS], [4, PIXELS]]},)
    check_engine(plan, SPEC, BUNDLE, with_gpu)


def test_an_engine_with_other_profiles_than_its_metadata_says_is_refused(
    plan: Path, compiler: Compiler
) -> None:
    change_recipe(
        plan, target="gpu", gpu="NVIDIA L4", profiles=({"name": "all", "shapes": {"image": []}},)
    )
    with pytest.raises(BundleError, match="has profiles"):
        check_engine(plan, SPEC, BUNDLE, gpu_compiler(compiler, SmallEngine))


def test_an_engine_that_the_runtime_cannot_load_is_refused_with_its_reason(
    plan: Path, compiler: Compiler
) -> None:
    change_recipe(plan, target="gpu", gpu="NVIDIA L4")
    message = re.escape("cannot load it on NVIDIA L4: Serialization assertion")
    with pytest.raises(BundleError, match=message):
        describe_engine(plan, gpu_compiler(compiler, None))
