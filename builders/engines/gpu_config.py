"""``configs/gpu.pbtxt``: how Triton serves an engine, from the same spec as everything else."""

from __future__ import annotations

from pathlib import Path

from bls_models.bundle import Bundle
from bls_models.specs import CAPTION_DECODER, ModelSpec, TensorSpec
from builders.engines.metadata import atomic_write
from builders.engines.profiles import OptimizationProfile, bundle_dims, profiles_for


def gpu_config_from_spec(spec: ModelSpec, bundle: Bundle) -> str:
    """The configuration of a model's engine, as protobuf text.

    Batches of the preferred sizes are powers of two from the tuned batch to the largest. The
    caption decoder's requests are whole batches already, and are not batched again. One instance:
    the backend copies the next batch, through pinned memory, while this one runs. A model whose
    inputs have no free size but the batch gets CUDA graphs for small batches.

    Args:
        spec: the engine model.
        bundle: the sizes that its engine is compiled with.

    Raises:
        BundleError: the model has no optimisation profiles.
    """
    profiles = profiles_for(spec, bundle)
    tuned = min(shape.optimum[0] for shape in profiles[0].shapes().values())
    lines = [
        f"# TensorRT, with the sizes of bundle {bundle.name}; `make engines` writes this file.",
        f'name: "{spec.name}"',
        'platform: "tensorrt_plan"',
        f"max_batch_size: {spec.max_batch_size}",
        *_tensors("input", spec.inputs, bundle),
        *_tensors("output", spec.outputs, bundle),
        *_batching(spec, tuned),
        f"instance_group [{{ count: 1, kind: KIND_GPU{_profile_choice(profiles)} }}]",
    ]
    fixed = all(-1 not in bundle_dims(tensor, bundle) for tensor in spec.inputs)
    lines += _optimization(_cuda_graphs(spec, bundle, tuned) if fixed else [])
    lines += _warm_up(spec, profiles, sorted({1, tuned}))
    return "\n".join(lines) + "\n"


def write_gpu_config(spec: ModelSpec, bundle: Bundle, repository: Path) -> Path:
    """Write a model's configuration into the repository and return its path."""
    path = repository / spec.name / "configs" / "gpu.pbtxt"
    with atomic_write(path) as stream:
        stream.write(gpu_config_from_spec(spec, bundle).encode())
    return path


def _tensors(kind: str, tensors: tuple[TensorSpec, ...], bundle: Bundle) -> list[str]:
    entries = [
        f'  {{ name: "{tensor.name}", data_type: TYPE_{tensor.dtype}, '
        f"dims: {list(bundle_dims(tensor, bundle))} }}"
        for tensor in tensors
    ]
    return [f"{kind} [", *",\n".join(entries).splitlines(), "]"]


def _batching(spec: ModelSpec, tuned: int) -> list[str]:
    if spec.name == CAPTION_DECODER.name:
        return []
    return [f"dynamic_batching {{ preferred_batch_size: {_doubling(tuned, spec.max_batch_size)} }}"]


def _doubling(first: int, last: int) -> list[int]:
    sizes = [first]
    while sizes[-1] * 2 <= last:
        sizes.append(sizes[-1] * 2)
    return sizes


def _profile_choice(profiles: tuple[OptimizationProfile, ...]) -> str:
    """Triton uses the first profile unless told of others."""
    if len(profiles) == 1:
        return ""
    return ", profile: [" + ", ".join(f'"{index}"' for index in range(len(profiles))) + "]"


def _cuda_graphs(spec: ModelSpec, bundle: Bundle, tuned: int) -> list[str]:
    specs = []
    smallest = 1
    for size in _doubling(1, tuned):
        shape = _graph_shape(spec, bundle)
        bound = f", graph_lower_bound {{ batch_size: {smallest}, {shape} }}"
        specs.append(f"      {{ batch_size: {size}, {shape}{bound if smallest < size else ''} }}")
        smallest = size + 1
    return [
        "  # Launching the kernels of a small batch takes longer than running them; a CUDA graph",
        "  # launches them at once. A batch of 3 uses the graph of 4: rows are independent.",
        "  cuda {",
        "    graphs: true",
        "    graph_spec [",
        *",\n".join(specs).splitlines(),
        "    ]",
        "  }",
    ]


def _optimization(cuda_graphs: list[str]) -> list[str]:
    return [
        "optimization {",
        "  input_pinned_memory { enable: true }",
        "  output_pinned_memory { enable: true }",
        *cuda_graphs,
        "}",
    ]


def _graph_shape(spec: ModelSpec, bundle: Bundle) -> str:
    return ", ".join(
        f'input {{ key: "{tensor.name}", value {{ dim: {list(bundle_dims(tensor, bundle))} }} }}'
        for tensor in spec.inputs
    )


def _warm_up(
    spec: ModelSpec, profiles: tuple[OptimizationProfile, ...], batches: list[int]
) -> list[str]:
    entries = []
    for profile in profiles:
        shapes = profile.shapes()
        what = "" if len(profiles) == 1 else f"{profile.name}, "
        for batch in batches:
            inputs = "\n".join(
                f'    inputs {{ key: "{tensor.name}", value {{ data_type: TYPE_{tensor.dtype}, '
                f"dims: {list(shapes[tensor.name].optimum[1:])}, zero_data: true }} }}"
                for tensor in spec.inputs
            )
            entries.append(
                f'  {{\n    name: "{what}batch of {batch}"\n    batch_size: {batch}\n{inputs}\n  }}'
            )
    return [
        "# Zeros fit every input; random numbers would not be token ids.",
        "model_warmup [",
        *",\n".join(entries).splitlines(),
        "]",
    ]
