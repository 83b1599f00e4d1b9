"""Reading engines back: what they take and give, and whether they fit this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bls_models.bundle import Bundle, file_sha256
from bls_models.errors import BundleError
from bls_models.specs import ModelSpec
from builders.engines.metadata import (
    EngineMetadata,
    EngineRecipe,
    TensorDescription,
    check_tensors,
    engine_hint,
    fingerprint_of_model,
)
from builders.engines.tensorrt_api import Compiler, error_log, kserve_dtype


@dataclass(frozen=True)
class EngineDescription:
    """An engine as it was read back.

    Attributes:
        recipe: what it was built from, by its metadata.
        inputs: from the engine itself with target ``gpu``, and the metadata's with ``rtx``.
        outputs: likewise.
        profiles: likewise; minimum, optimum and maximum shape by input, one dict a profile.
    """

    recipe: EngineRecipe
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    profiles: tuple[dict[str, list[list[int]]], ...]


def describe_engine(path: Path, compiler: Compiler) -> EngineDescription:
    """Read an engine back.

    With target ``gpu`` the engine is deserialised. TensorRT for RTX does that only where a GPU is,
    so with ``rtx`` the metadata tells what TensorRT accepted when it compiled this very plan.

    Raises:
        BundleError: the plan or its metadata is missing, they do not belong together, or the
            engine is of another target, TensorRT version or GPU.
    """
    hint = engine_hint(compiler.target)
    if not path.is_file():
        raise BundleError(f"{path} is missing. {hint}")
    metadata = EngineMetadata.read(path)
    if file_sha256(path) != metadata.plan_sha256:
        raise BundleError(f"{path} is not the plan that its metadata describes. {hint}")
    recipe = metadata.recipe
    for kind, found, here in (
        ("target", recipe.target, compiler.target),
        ("TensorRT version", recipe.tensorrt_version, compiler.version),
        ("GPU", recipe.gpu, compiler.gpu),
    ):
        if found != here:
            raise BundleError(f"{path} is an engine of {kind} {found}, this is {here}. {hint}")
    if compiler.target == "rtx":
        profiles = tuple(profile["shapes"] for profile in recipe.profiles)
        return EngineDescription(recipe, metadata.inputs, metadata.outputs, profiles)
    return _description(recipe, compiler.api, _deserialised(path, compiler))


def check_engine(path: Path, spec: ModelSpec, bundle: Bundle, compiler: Compiler) -> None:
    """Read an engine back and compare it with the spec and the bundle.

    Raises:
        BundleError: it cannot be read here, is of another bundle, or has other tensors or
            profiles than it should.
    """
    found = describe_engine(path, compiler)
    expected = fingerprint_of_model(spec, bundle)
    if found.recipe.fingerprint != expected:
        raise BundleError(
            f"{path} is of bundle {found.recipe.bundle} ({found.recipe.fingerprint}), the models "
            f"are of {bundle.name} ({expected}). {engine_hint(compiler.target)}"
        )
    check_tensors(str(path), found.inputs, found.outputs, spec, bundle)
    wanted = tuple(profile["shapes"] for profile in found.recipe.profiles)
    if found.profiles != wanted:
        raise BundleError(f"{path} has profiles {found.profiles}, expected {wanted}")


def _deserialised(path: Path, compiler: Compiler) -> Any:
    log = error_log(compiler.api)
    log.errors.clear()
    engine = compiler.api.Runtime(log).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise BundleError(
            f"{path}: TensorRT {compiler.version} cannot load it on {compiler.gpu}: "
            f"{'; '.join(log.errors)}. {engine_hint(compiler.target)}"
        )
    return engine


def _description(recipe: EngineRecipe, api: Any, engine: Any) -> EngineDescription:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == api.TensorIOMode.INPUT]
    tensors = {
        name: TensorDescription(
            name,
            kserve_dtype(engine.get_tensor_dtype(name)),
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    }
    return EngineDescription(
        recipe,
        inputs=tuple(tensors[name] for name in inputs),
        outputs=tuple(tensors[name] for name in names if name not in inputs),
        profiles=tuple(
            {
                name: [list(shape) for shape in engine.get_tensor_profile_shape(name, index)]
                for name in inputs
            }
            for index in range(engine.num_optimization_profiles)
        ),
    )
