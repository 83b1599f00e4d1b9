"""The library of arrays that lie in GPU memory."""

from __future__ import annotations

import importlib
from typing import Any

from bls_models.errors import SetupError


def cupy_for(setting: str) -> Any:
    """The module ``cupy``, with a GPU that it can use.

    Args:
        setting: the environment variable that asks for it.

    Raises:
        SetupError: CuPy is not installed, or sees no GPU.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise SetupError(
            f"{setting} is set, but CuPy cannot be imported ({error}); install the extra `gpu` "
            "(or `ngc` in NVIDIA's Triton image), or unset the variable"
        ) from error
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise SetupError(
            f"{setting} is set, but CuPy sees no GPU ({error}); run on a machine with one, or "
            "unset the variable"
        ) from error
    return cupy
