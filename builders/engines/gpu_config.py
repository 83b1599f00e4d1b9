"""``configs/gpu.pbtxt``: how Triton serves an engine, from the same spec as everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from bls_models.bundle import Bundle
from bls_models.files import atomic_write
from bls_models.specs import CAPTION_DECODER, ModelSpec, TensorSpec
from builders.engines.profiles import OptimizationProfile, bundle_dims, profiles_for


def gpu_config_from_spec(spec: ModelSpec, bundle: Bundle) -> model_config_pb2.ModelConfig:
    """The configuration of a model's engine.

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
    optimization: dict[str, Any] = {
        "input_pinned_memory": {"enable": True},
        "output_pinned_memory": {"enable": True},
    }
    if all(-1 not in bundle_dims(tensor, bundle) for tensor in spec.inputs):
        graphs = list(_cuda_graphs(spec, bundle, tuned))
        optimization["cuda"] = {"graphs": True, "graph_spec": graphs}
    config = model_config_pb2.ModelConfig(
        name=spec.name,
        platform="tensorrt_plan",
        max_batch_size=spec.max_batch_size,
        input=_tensors(spec.inputs, bundle),
        output=_tensors(spec.outputs, bundle),
        instance_group=[{"count": 1, "kind": "KIND_GPU"}],
        optimization=optimization,
        model_warmup=_warm_ups(spec, profiles, sorted({1, tuned})),
    )
    if spec.name != CAPTION_DECODER.name:
        config.dynamic_batching.preferred_batch_size.extend(_doubling(tuned, spec.max_batch_size))
    if len(profiles) > 1:
        # Triton uses the first profile unless told of others.
        config.instance_group[0].profile.extend(str(index) for index in range(len(profiles)))
    return config


def write_gpu_config(spec: ModelSpec, bundle: Bundle, repository: Path) -> Path:
    """Write a model's configuration into the repository and return its path."""
    path = repository / spec.name / "configs" / "gpu.pbtxt"
    text = text_format.MessageToString(
        gpu_config_from_spec(spec, bundle), use_short_repeated_primitives=True
    )
    header = f"# TensorRT, with the sizes of bundle {bundle.name}; `make engines` writes this file."
    with atomic_write(path) as stream:
        stream.write(f"{header}\n{text}".encode())
    return path


def _tensors(tensors: Iterable[TensorSpec], bundle: Bundle) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor.name,
            "data_type": f"TYPE_{tensor.dtype}",
            "dims": bundle_dims(tensor, bundle),
        }
        for tensor in tensors
    ]


def _doubling(first: int, last: int) -> list[int]:
    sizes = [first]
    while sizes[-1] * 2 <= last:
        sizes.append(sizes[-1] * 2)
    return sizes


def _cuda_graphs(spec: ModelSpec, bundle: Bundle, tuned: int) -> Iterator[dict[str, Any]]:
    """CUDA graphs for small batches, whose kernels take longer to launch than to run.

    A graph launches them at once. A batch of 3 uses the graph of 4: rows are independent.
    """
    shapes = {tensor.name: {"dim": bundle_dims(tensor, bundle)} for tensor in spec.inputs}
    smallest = 1
    for size in _doubling(1, tuned):
        bound = {"graph_lower_bound": {"batch_size": smallest, "input": shapes}}
        yield {"batch_size": size, "input": shapes, **(bound if smallest < size else {})}
        smallest = size + 1


def _warm_ups(
    spec: ModelSpec, profiles: tuple[OptimizationProfile, ...], batches: list[int]
) -> list[dict[str, Any]]:
    """Zeros, which fit every input: random numbers would not be token ids."""
    return [
        {
            "name": f"{'' if len(profiles) == 1 else f'{profile.name}, '}batch of {batch}",
            "batch_size": batch,
            "inputs": {
                tensor.name: {
                    "data_type": f"TYPE_{tensor.dtype}",
                    "dims": profile.shapes()[tensor.name].optimum[1:],
                    "zero_data": True,
                }
                for tensor in spec.inputs
            },
        }
        for profile in profiles
        for batch in batches
    ]
