"""TensorRT engines from ONNX graphs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bls_models.background import repeated
from bls_models.bundle import Bundle, file_sha256
from bls_models.errors import BundleError
from bls_models.files import atomic_write
from bls_models.specs import ModelSpec
from builders.engines.metadata import (
    EngineMetadata,
    EngineRecipe,
    TensorDescription,
    check_tensors,
    fingerprint_of_model,
    metadata_path,
)
from builders.engines.profiles import OptimizationProfile
from builders.engines.tensorrt_api import (
    Compiler,
    error_log,
    kserve_dtype,
    network_flags,
    set_compute_capabilities,
)
from builders.graphs.checks import check_graph_for_tensorrt
from builders.graphs.inventory import graph_precision
from reporting.progress import Report

# Raise when this module builds other engines from the same inputs.
BUILDER_REVISION = 1

HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True)
class BuiltEngine:
    """An engine's plan and metadata, and whether it was there already."""

    path: Path
    metadata: EngineMetadata
    reused: bool


def engine_from_onnx(
    graph: Path,
    spec: ModelSpec,
    profiles: Sequence[OptimizationProfile],
    compiler: Compiler,
    path: Path,
    *,
    bundle: Bundle,
    precision: str,
    report: Report,
    timing_cache: Path | None = None,
) -> BuiltEngine:
    """Compile a graph, unless the engine at ``path`` was compiled from the same inputs.

    The network is strongly typed: the engine computes in the types that the graph has.

    Args:
        graph: the ONNX graph.
        spec: the tensors that it must have.
        profiles: for which shapes to compile, in the order of the engine's profiles.
        compiler: the TensorRT to compile with.
        path: the plan to write; its metadata goes to ``<path>.json``.
        bundle: the bundle of the graph.
        precision: what the graph's precision is said to be.
        report: called with a line on each step, and every few seconds while it lasts.
        timing_cache: kernel timings of earlier builds; read and then written. TensorRT for RTX
            has none, because it tunes kernels where they run.

    Raises:
        BundleError: the graph is missing, of another precision or with other tensors, has
            something that TensorRT misreads or does not know, or does not compile. ``path`` is
            then as it was.
    """
    what = f"{spec.name} {precision}"
    actual = graph_precision(graph)
    if actual != precision:
        raise BundleError(f"{graph} is a graph of {actual}; it cannot become an {precision} engine")
    recipe = EngineRecipe(
        model=spec.name,
        bundle=bundle.name,
        fingerprint=fingerprint_of_model(spec, bundle),
        precision=precision,
        target=compiler.target,
        tensorrt=compiler.package,
        tensorrt_version=compiler.version,
        compute_capabilities=compiler.compute_capabilities,
        gpu=compiler.gpu,
        graph_sha256=file_sha256(graph),
        profiles=tuple(profile.as_json() for profile in profiles),
        builder_revision=BUILDER_REVISION,
    )
    if metadata := _reusable(path, recipe):
        report(f"{what}: {path} is up to date")
        return BuiltEngine(path, metadata, reused=True)

    check_graph_for_tensorrt(graph)
    report(f"{what}: compiling for compute capability {', '.join(recipe.compute_capabilities)}")
    start = time.monotonic()
    with _heartbeat(what, report):
        plan, inputs, outputs = _compile(graph, spec, bundle, profiles, compiler, timing_cache)
    seconds = time.monotonic() - start
    # Without metadata the old plan counts as unknown, so a crash in between leaves no mismatch.
    metadata_path(path).unlink(missing_ok=True)
    with atomic_write(path) as stream:
        stream.write(plan)
    metadata = EngineMetadata(
        recipe, inputs, outputs, file_sha256(path), path.stat().st_size, round(seconds, 2)
    )
    metadata.write(path)
    report(f"{what}: {metadata.bytes / 1e6:.1f} MB in {seconds:.1f} s: {path}")
    return BuiltEngine(path, metadata, reused=False)


def _reusable(path: Path, recipe: EngineRecipe) -> EngineMetadata | None:
    """The metadata of the engine at ``path`` if it is what the recipe would give."""
    if not path.is_file() or not metadata_path(path).is_file():
        return None
    try:
        metadata = EngineMetadata.read(path)
    except BundleError:
        return None
    fits = metadata.recipe == recipe and metadata.plan_sha256 == file_sha256(path)
    return metadata if fits else None


def _compile(
    graph: Path,
    spec: ModelSpec,
    bundle: Bundle,
    profiles: Sequence[OptimizationProfile],
    compiler: Compiler,
    timing_cache: Path | None,
) -> tuple[Any, tuple[TensorDescription, ...], tuple[TensorDescription, ...]]:
    """The plan (a buffer) with the network's inputs and outputs."""
    log = error_log(compiler.api)
    log.errors.clear()
    builder = compiler.api.Builder(log)
    network = builder.create_network(network_flags(compiler))
    # The parser keeps the weights that the network refers to, so it lives as long.
    parser = compiler.api.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        raise BundleError(
            f"{graph}: TensorRT {compiler.version} cannot read it: {_parser_errors(parser)}. "
            "Export the model without this; the CPU profile may still serve the graph"
        )
    inputs = tuple(_described(network.get_input(index)) for index in range(network.num_inputs))
    outputs = tuple(_described(network.get_output(index)) for index in range(network.num_outputs))
    check_tensors(str(graph), inputs, outputs, spec, bundle)

    config = builder.create_builder_config()
    if hasattr(compiler.api.BuilderFlag, "TF32"):
        # TF32 rounds FP32 factors to 10 bits; what the graph calls FP32 shall be FP32.
        config.clear_flag(compiler.api.BuilderFlag.TF32)
    set_compute_capabilities(compiler, config)
    for profile in profiles:
        _add_profile(builder, config, profile, graph)
    if timing_cache is not None:
        _load_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BundleError(
            f"{graph}: TensorRT {compiler.version} cannot compile it: "
            f"{'; '.join(log.errors) or 'it gives no reason'}"
        )
    if timing_cache is not None:
        with atomic_write(timing_cache) as stream:
            stream.write(config.get_timing_cache().serialize())
    return plan, inputs, outputs


def _described(tensor: Any) -> TensorDescription:
    return TensorDescription(tensor.name, kserve_dtype(tensor.dtype), tuple(tensor.shape))


def _parser_errors(parser: Any) -> str:
    """Each error with the node and operator at fault."""
    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        reasons = [line for line in error.desc().splitlines() if "catchCudaError" not in line]
        lines.append(
            f"{error.node_operator()} node {error.node_name()!r}: "
            f"{error.code().name} ({' '.join(reasons)})"
        )
    return "; ".join(lines)


def _add_profile(builder: Any, config: Any, profile: OptimizationProfile, graph: Path) -> None:
    made = builder.create_optimization_profile()
    for name, shape in profile.shapes().items():
        made.set_shape(name, shape.minimum, shape.optimum, shape.maximum)
    if config.add_optimization_profile(made) < 0:
        raise BundleError(
            f"{graph}: TensorRT refuses profile {profile.name!r} with {profile.as_json()['shapes']}"
        )


def _load_timing_cache(config: Any, path: Path) -> None:
    known = path.read_bytes() if path.is_file() else b""
    # A cache of another driver or device is refused; an empty one never is.
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _heartbeat(what: str, report: Report) -> contextlib.AbstractContextManager[None]:
    """A line every few seconds: compiling a large model takes minutes without a word."""
    start = time.monotonic()

    def beat() -> None:
        report(f"{what}: still compiling after {time.monotonic() - start:.0f} s")

    return repeated("engine-heartbeat", beat, HEARTBEAT_SECONDS)
