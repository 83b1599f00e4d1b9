"""The two TensorRT libraries behind one interface: TensorRT 10 and 11, and TensorRT for RTX.

Their Python APIs are nearly the same. ``tensorrt`` compiles for the GPU at hand and needs it;
``tensorrt_rtx`` compiles for compute capabilities that are named, on any machine.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from bls_models.errors import SetupError
from builders.engines.cuda_device import first_cuda_device

TARGETS = ("gpu", "rtx")
# Ampere, Ada Lovelace and Blackwell GeForce and workstation GPUs.
RTX_COMPUTE_CAPABILITIES = ("8.6", "8.9", "12.0")
LEAST_MAJOR_VERSION = 10

_PACKAGES = {"gpu": "tensorrt", "rtx": "tensorrt_rtx"}
_REMEDIES = {
    "gpu": "Install it with pip install -e '.[tensorrt]'.",
    "rtx": "Install it: pip install -e '.[rtx]'.",
}
# The others have the same name there.
_KSERVE_DTYPES = {"FLOAT": "FP32", "HALF": "FP16"}


@dataclass(frozen=True)
class Compiler:
    """An imported TensorRT and what it compiles for.

    Attributes:
        api: the Python module.
        target: ``gpu`` or ``rtx``.
        package: the module's name.
        version: its version.
        compute_capabilities: of the GPUs that its engines run on (``8.9``).
        gpu: the name of the GPU at hand; None where the target needs none.
    """

    api: Any
    target: str
    package: str
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None


def compiler_for_target(
    target: str, compute_capabilities: Sequence[str] = RTX_COMPUTE_CAPABILITIES
) -> Compiler:
    """Import the library of a target.

    Args:
        target: ``gpu`` or ``rtx``.
        compute_capabilities: which GPUs to compile for, with ``rtx`` only.

    Raises:
        SetupError: unknown target or compute capability, the library is missing or too old, or
            ``gpu`` on a machine without a GPU.
    """
    if target not in TARGETS:
        raise SetupError(f"unknown target {target!r}; known: {', '.join(TARGETS)}")
    # Before the import, whose own message on a machine without a driver explains less.
    device = first_cuda_device() if target == "gpu" else None
    package = _PACKAGES[target]
    try:
        api = importlib.import_module(package)
    except ImportError as error:
        raise SetupError(
            f"target {target!r} needs the Python package {package}: {error}. {_REMEDIES[target]}"
        ) from error
    version = str(api.__version__)
    if device is not None:
        if int(version.partition(".")[0]) < LEAST_MAJOR_VERSION:
            raise SetupError(
                f"TensorRT {version} is too old; "
                f"TensorRT {LEAST_MAJOR_VERSION} or later is needed. {_REMEDIES[target]}"
            )
        return Compiler(api, target, package, version, (device.compute_capability,), device.name)
    for capability in compute_capabilities:
        _member_of_capability(api, capability)
    return Compiler(api, target, package, version, tuple(compute_capabilities), None)


def _member_of_capability(api: ModuleType, capability: str) -> Any:
    members = api.ComputeCapability.__members__
    name = f"SM{capability.replace('.', '')}"
    if name not in members:
        known = ", ".join(f"{key[2:-1]}.{key[-1]}" for key in members if key.startswith("SM"))
        raise SetupError(
            f"TensorRT for RTX {api.__version__} does not compile for compute capability "
            f"{capability!r}; known: {known}"
        )
    return members[name]


def set_compute_capabilities(compiler: Compiler, config: Any) -> None:
    """Tell a builder config which GPUs to compile for; TensorRT proper takes the one at hand."""
    if compiler.gpu is not None:
        return
    config.num_compute_capabilities = len(compiler.compute_capabilities)
    for index, capability in enumerate(compiler.compute_capabilities):
        config.set_compute_capability(_member_of_capability(compiler.api, capability), index)


def network_flags(compiler: Compiler) -> int:
    """Creation flags of a strongly typed network: types are the graph's, nobody else's."""
    flags = compiler.api.NetworkDefinitionCreationFlag
    # Where the flag is gone, every network is strongly typed.
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def kserve_dtype(dtype: Any) -> str:
    """The KServe name of TensorRT's dtype."""
    name = str(dtype.name)
    return _KSERVE_DTYPES.get(name, name)


@functools.cache
def error_log(api: ModuleType) -> Any:
    """The library's logger: quiet, with the errors as a list of strings in ``errors``.

    There is one a library, because the library keeps the first that it gets.
    """

    class ErrorLog(api.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            serious = (api.ILogger.Severity.ERROR, api.ILogger.Severity.INTERNAL_ERROR)
            # Without a driver every error drags one of these along; it explains nothing.
            if severity in serious and "catchCudaError" not in message:
                self.errors.append(message)

    return ErrorLog()
