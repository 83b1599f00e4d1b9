"""Asking for GPU memory where there is none."""

from __future__ import annotations

import importlib.util

import pytest

from bls_models.errors import SetupError
from bls_models.gpu_arrays import cupy_for


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_cupy_the_error_names_the_setting_and_the_extra() -> None:
    with pytest.raises(SetupError, match=r"SOME_VARIABLE is set, .*extra `gpu`.*unset"):
        cupy_for("SOME_VARIABLE")
