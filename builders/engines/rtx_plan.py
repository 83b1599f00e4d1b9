"""What a plan of TensorRT for RTX says about itself, read without a GPU.

TensorRT for RTX deserialises an engine only where a GPU is. Its plans begin with a header, have a
table of tensors and carry their programs as text, from which the version, the GPUs, and the inputs
and outputs can be read anywhere. The layout is not documented: it was found by compiling the same
graphs for each compute capability, and a test does that again. Where it does not hold, reading is
an error.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import BundleError
from builders.engines.metadata import TensorDescription

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
# The names that a program takes and gives, in their order.
_NAME_LISTS = {
    b"inputs": re.compile(rb'\n  inputs=\{((?: "[^"]*")*) \}\n  input_sync_idx'),
    b"outputs": re.compile(rb'\n  outputs=\{((?: "[^"]*")*) \}\n  output_sync_idx'),
}
# Each profile has a program of its own, and the names in it say which; a number may be appended.
_SUFFIX = rb"(?: \[profile \d+\])?(?:\.\d+)?"

# A list of numbers in the table of tensors: type tags, rank, type tags, count, and then the
# numbers. The table has two after each name: zeros, and the shape.
_NUMBERS = rb"Y\x80\x01\x00\x07\x80\x01\x00.{4}\x01\x80\t\x80\x01\x00(.{8})"
_BETWEEN = b"\xa6\x7f"
_MOST_DIMS = 8
# Names that the compiler makes up begin so.
_INNER = b"__mye"


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
    """Find inputs and outputs of given names in a plan's programs.

    Args:
        path: the plan.
        inputs: names of inputs, in the engine's order.
        outputs: names of outputs, in the engine's order.

    Returns:
        Dtype and shape of each, as compiled; -1 stands for a size that is free at run time or
        that profiles fix differently.

    Raises:
        BundleError: one of them is not in the programs.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as plan:
        found = {}
        for kind, names in ((b"inputs", inputs), (b"outputs", outputs)):
            found[kind] = tuple(
                TensorDescription(name, _dtype(plan, kind, names, name), _shape(plan, name))
                for name in names
            )
            for tensor in found[kind]:
                if not tensor.dtype or not tensor.shape:
                    raise BundleError(
                        f"{path}: no {tensor.name!r} among the {kind.decode()} of the compiled "
                        "program; it is the engine of another model, or of a version with "
                        "another layout of plans"
                    )
    return found[b"inputs"], found[b"outputs"]


def _dtype(plan: mmap.mmap, kind: bytes, names: tuple[str, ...], name: str) -> str:
    """KServe dtype of a program's input or output; empty: there is none of that name."""
    for listed in _NAME_LISTS[kind].finditer(plan):
        own = re.findall(rb'"([^"]*)"', listed[1])
        quoted = re.escape(name.encode()) + _SUFFIX
        wanted = next((item for item in own if re.fullmatch(quoted, item)), None)
        if wanted is None and len(own) == len(names):
            # What only gives an inner tensor a new shape stands under that one's name.
            inner = own[names.index(name)]
            wanted = inner if inner.startswith(_INNER) else None
        described = wanted and re.search(
            rb'name="' + re.escape(wanted) + rb'".{0,400}? type=(\w+) \}', plan, re.DOTALL
        )
        if described and described[1] in _DTYPES:
            return _DTYPES[described[1]]
    return ""


def _shape(plan: mmap.mmap, name: str) -> tuple[int, ...]:
    """A tensor's shape over all profiles; empty: there is no such tensor."""
    shapes = set()
    pattern = re.compile(re.escape(name.encode()) + _SUFFIX + _NUMBERS, re.DOTALL)
    for match in pattern.finditer(plan):
        _, end = _numbers(plan, match)
        again = re.compile(_BETWEEN + _NUMBERS, re.DOTALL).match(plan, end)
        if again is not None:
            # A free size is the negative number of a symbol.
            shapes.add(tuple(max(size, -1) for size in _numbers(plan, again)[0]))
    if len({len(shape) for shape in shapes}) != 1:
        return ()
    return tuple(sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes, strict=True))


def _numbers(plan: mmap.mmap, match: re.Match[bytes]) -> tuple[tuple[int, ...], int]:
    """The numbers of a list whose head was matched, and where they end."""
    (count,) = struct.unpack("<Q", match[1])
    if count > _MOST_DIMS:
        return (), match.end()
    end = match.end() + 8 * count
    return struct.unpack(f"<{count}q", plan[match.end() : end]), end
