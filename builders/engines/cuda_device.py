"""The GPU at hand, as the NVIDIA driver names it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from bls_models.errors import SetupError

# CUdevice_attribute of the driver API.
COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76

REMEDY = (
    "Run this on a machine with an NVIDIA GPU, or compile for RTX GPUs without one: "
    "make engines TARGET=rtx"
)


@dataclass(frozen=True)
class CudaDevice:
    """A GPU's name and compute capability (``8.9``)."""

    name: str
    compute_capability: str


def first_cuda_device() -> CudaDevice:
    """The GPU that CUDA programs use by default (CUDA_VISIBLE_DEVICES counts).

    Raises:
        SetupError: there is no driver or no GPU.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise SetupError(f"no NVIDIA driver (libcuda.so.1) on this machine. {REMEDY}") from None
    _check(driver.cuInit(0), "cuInit")
    device = ctypes.c_int()
    _check(driver.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    name = ctypes.create_string_buffer(256)
    _check(driver.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
    major, minor = (
        _attribute(driver, attribute, device)
        for attribute in (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR)
    )
    return CudaDevice(name.value.decode(), f"{major}.{minor}")


def _attribute(driver: ctypes.CDLL, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _check(
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device), "cuDeviceGetAttribute"
    )
    return value.value


def _check(status: int, call: str) -> None:
    if status:
        raise SetupError(f"the NVIDIA driver gives no GPU ({call} returned {status}). {REMEDY}")
