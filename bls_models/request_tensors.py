"""Reading the tensors of a request: what the models for clients have in common."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy.typing as npt

from bls_models.errors import RequestError
from bls_models.specs import ModelSpec
from bls_models.vectors import Arrays

# What Triton's protocols and the gateway add, and what marks a probe.
KNOWN_PARAMETERS = frozenset(
    {
        "binary_data_output",
        "id",
        "priority",
        "probe",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "timeout",
        "x-request-id",
    }
)
TRITONS_OWN = "triton_"


def inputs_from_tensors(model: ModelSpec, tensors: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The inputs of one query by name, those that were sent.

    Args:
        model: whose inputs they are.
        tensors: (1, ...) each, as Triton hands them over.

    Returns:
        The tensors without the leading 1.

    Raises:
        RequestError: several queries in one request, or a wrong shape.
    """
    return {
        spec.name: _without_batch_dimension(spec.name, tensors[spec.name], spec.config_dims)
        for spec in model.inputs
        if spec.name in tensors
    }


def check_parameters(model: ModelSpec, parameters: Iterable[str]) -> None:
    """Refuse parameters that nobody reads: with ``generate`` a misspelt input becomes one.

    Args:
        model: whose inputs may be meant.
        parameters: names of what a request carries beside its inputs.

    Raises:
        RequestError: one is not known; the message names the input that comes closest.
    """
    inputs = [spec.name for spec in model.inputs]
    for name in parameters:
        if name.lower() in KNOWN_PARAMETERS or name.startswith(TRITONS_OWN):
            continue
        close = difflib.get_close_matches(name[:64].lower(), inputs, 1)
        raise RequestError(
            f"{name:.64}",
            f"no input of {model.name}",
            f"one of {', '.join(inputs)}",
            f"Did you mean {close[0]}?" if close else "Leave it out.",
        )


def _without_batch_dimension(
    name: str, array: npt.NDArray[Any], dims: Sequence[int]
) -> npt.NDArray[Any]:
    expected = f"[1, {', '.join('n' if dim == -1 else str(dim) for dim in dims)}]"
    good = array.ndim == len(dims) + 1 and all(
        wanted in (-1, size) for wanted, size in zip(dims, array.shape[1:], strict=True)
    )
    if not good or array.shape[0] != 1:
        raise RequestError(
            name,
            f"shape {list(array.shape)}",
            f"shape {expected}",
            "Send one query a request; the server forms batches by itself.",
        )
    return array.reshape(array.shape[1:])


def choice(inputs: Arrays, name: str, default: str, allowed: Sequence[str]) -> str:
    """One of some words, in a tensor of one element without a batch dimension.

    Raises:
        RequestError: another word.
    """
    if name not in inputs:
        return default
    value = bytes(inputs[name][0]).decode(errors="replace")
    if value not in allowed:
        raise RequestError(name, repr(value)[:80], " | ".join(allowed))
    return value
