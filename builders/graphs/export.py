"""ONNX from torch modules, and the check that both give the same vectors."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from bls_models.errors import BundleError
from bls_models.files import atomic_write
from bls_models.specs import ModelSpec
from builders.graphs.calibration import Feed

OPSET = 20

# fp32 on both sides: what is left is the order of summation.
MIN_COSINE = 0.9999


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter narrates each pass on stdout; keep that out of the build's own progress."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def onnx_from_torch(
    module: torch.nn.Module,
    spec: ModelSpec,
    example: Feed,
    path: Path,
    dynamic_dims: Mapping[str, Mapping[int, str]],
) -> None:
    """Write ``module`` as ONNX with the tensor names of ``spec``.

    Args:
        module: takes the spec's inputs and returns its outputs, both in their order.
        spec: names of inputs and outputs.
        example: one batch a input, to trace with; free dimensions must not be 1.
        path: file to write; it appears only when the export has succeeded.
        dynamic_dims: a name for each free dimension, by input; a sum of names where the module
            itself makes it that long.
    """
    arguments = tuple(torch.from_numpy(example[tensor.name]) for tensor in spec.inputs)
    dims: dict[str, Any] = {}
    shapes = []
    for tensor in spec.inputs:
        free = dynamic_dims[tensor.name]
        for name in free.values():
            # The exporter has no sums of two names, but finds by itself what must be equal.
            dim = torch.export.Dim.AUTO if "+" in name else torch.export.Dim(name, min=1)
            dims.setdefault(name, dim)
        shapes.append({axis: dims[name] for axis, name in free.items()})
    with atomic_write(path) as stream, _quiet_exporter():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=spec.output_names,
            dynamic_shapes=tuple(shapes),
            verbose=False,
        )
        assert program is not None
        program.save(stream.name, external_data=False)


def check_onnx_against_torch(
    path: Path,
    module: torch.nn.Module,
    spec: ModelSpec,
    batches: list[Feed],
) -> float:
    """Run both on the same batches and return the least cosine similarity.

    Raises:
        BundleError: a vector differs by more than ``MIN_COSINE`` allows.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    least = 1.0
    for batch in batches:
        (actual,) = session.run(spec.output_names, batch)
        with torch.inference_mode():
            expected = module(
                *(torch.from_numpy(batch[tensor.name]) for tensor in spec.inputs)
            ).numpy()
        least = min(least, float((actual * expected).sum(axis=1).min()))
    if least < MIN_COSINE:
        raise BundleError(
            f"{path}: cosine similarity to the torch original is {least:.6f}, "
            f"expected at least {MIN_COSINE}; the export is wrong, do not serve it"
        )
    return least
