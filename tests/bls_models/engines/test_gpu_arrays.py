"""Asking for GPU memory where there is none."""

from __future__ import annotations

import sys

import pytest

from bls_models.engines.gpu_arrays import cupy_for
from bls_models.errors import SetupError


def test_without_cupy_the_error_names_the_setting_and_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(SetupError, match=r"SOME_VARIABLE is set, .*extra `gpu`.*unset"):
        cupy_for("SOME_VARIABLE")
