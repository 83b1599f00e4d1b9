"""What a plan of TensorRT for RTX says about itself, read without a GPU.

TensorRT for RTX deserialises an engine only where a GPU is. Its plans begin with a header and
carry their program as text, from which the version, the GPUs, and the inputs and outputs can be
read anywhere. The layout is not documented: it was found by compiling the same graphs for each
compute capability, and a test does that again. Where it does not hold, reading is an error.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import BundleError
from builders.engine_metadata import TensorDescription

# magic, format, bytes of the file, version (4 bytes), magic, bits of the compute capabilities,
# bytes of weights
_HEADER = struct.Struct("<4s4xQQ4B4sI20xQ")
_MAGIC = b"vtrt"
_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")

_DTYPES = {
    b"bool": "BOOL",
    b"float": "FP32",
    b"half": "FP16",
    b"int32": "INT32",
    b"int64": "INT64",
    b"int8": "INT8",
    b"uint8": "UINT8",
}
_NAME_LISTS = {
    kind: re.compile(rb"\n  " + kind + rb'=\{((?: "[^"]*")*) \}')
    for kind in (b"inputs", b"outputs")
}


@dataclass(frozen=True)
class RtxHeader:
    """A plan's header.

    Attributes:
        version: of TensorRT for RTX.
        compute_capabilities: that it was compiled for.
        bytes: of the file.
        weight_bytes: of the weights in it; the rest is code for each compute capability.
    """

    version: str
    compute_capabilities: tuple[str, ...]
    bytes: int
    weight_bytes: int


def read_rtx_header(path: Path) -> RtxHeader:
    """Read a plan's header.

    Raises:
        BundleError: the file is not such a plan, or is cut off.
    """
    with path.open("rb") as stream:
        start = stream.read(_HEADER.size)
    if len(start) < _HEADER.size or not start.startswith(_MAGIC):
        raise BundleError(f"{path} is not a plan of TensorRT for RTX")
    _, _, length, *version, _, bits, weights = _HEADER.unpack(start)
    if length != path.stat().st_size:
        raise BundleError(
            f"{path} is damaged: {path.stat().st_size} bytes, its header says {length}"
        )
    return RtxHeader(
        version=".".join(str(part) for part in version),
        compute_capabilities=tuple(
            capability for bit, capability in enumerate(_CAPABILITIES) if bits >> bit & 1
        ),
        bytes=length,
        weight_bytes=weights,
    )


def read_rtx_tensors(
    path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> tuple[tuple[TensorDescription, ...], tuple[TensorDescription, ...]]:
    """Find inputs and outputs of given names in a plan's program.

    Args:
        path: the plan.
        inputs: names of inputs.
        outputs: names of outputs.

    Returns:
        Dtype and shape of each, as compiled; -1 stands for a size that is free at run time.

    Raises:
        BundleError: one of them is not in the program.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as plan:
        return (
            tuple(_tensor(path, plan, b"inputs", name) for name in inputs),
            tuple(_tensor(path, plan, b"outputs", name) for name in outputs),
        )


def _tensor(path: Path, plan: mmap.mmap, kind: bytes, name: str) -> TensorDescription:
    # Names in the program may have a number appended: `image.1`.
    quoted = rb'"' + re.escape(name.encode()) + rb'(?:\.\d+)?"'
    listed = any(re.search(quoted, found[1]) for found in _NAME_LISTS[kind].finditer(plan))
    described = re.search(
        rb"dims=\{([^}]*)\} mem_prop=\d+ name=" + quoted + rb".{0,400}? type=(\w+) \}",
        plan,
        re.DOTALL,
    )
    if not listed or described is None or described[2] not in _DTYPES:
        raise BundleError(
            f"{path}: no {name!r} among the {kind.decode()} of the compiled program; "
            "it is the engine of another model, or of a version with another layout of plans"
        )
    return TensorDescription(
        name,
        _DTYPES[described[2]],
        # A free size stands as a quoted name.
        tuple(int(dim) if dim.isdigit() else -1 for dim in described[1].split()),
    )
