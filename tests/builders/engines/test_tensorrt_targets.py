"""Which TensorRT a target means, and what is said where it is missing."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import builders.engines.cuda_device
import builders.engines.tensorrt_api
from bls_models.errors import SetupError
from builders.engines.cuda_device import CudaDevice, first_cuda_device
from builders.engines.tensorrt_api import (
    RTX_COMPUTE_CAPABILITIES,
    compiler_for_target,
    network_flags,
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    """A GPU, as far as the builder asks for one."""
    device = CudaDevice("NVIDIA L4", "8.9")
    monkeypatch.setattr(builders.engines.tensorrt_api, "first_cuda_device", lambda: device)
    return device


class Driver:
    """A stand-in for the driver library, with one GPU."""

    def __init__(self, devices: int) -> None:
        self._devices = devices

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0 if self._devices else 100

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA L4"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute]
        return 0


def test_rtx_compiles_for_common_gpus_without_one() -> None:
    compiler = compiler_for_target("rtx")
    assert compiler.compute_capabilities == RTX_COMPUTE_CAPABILITIES
    assert (compiler.package, compiler.gpu) == ("tensorrt_rtx", None)


def test_rtx_networks_are_strongly_typed() -> None:
    compiler = compiler_for_target("rtx")
    flag = compiler.api.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = compiler.api.Builder(compiler.api.Logger()).create_network(network_flags(compiler))
    assert network.get_flag(flag)


def test_an_unknown_target_and_an_unknown_compute_capability_are_refused() -> None:
    with pytest.raises(SetupError, match="unknown target 'cpu'; known: gpu, rtx"):
        compiler_for_target("cpu")
    with pytest.raises(SetupError, match=r"does not compile for .*'9\.0'; known: .*8\.6, 8\.9"):
        compiler_for_target("rtx", ["9.0"])


@pytest.mark.parametrize(
    ("target", "package", "remedy"),
    [("rtx", "tensorrt_rtx", r"\.\[rtx\]"), ("gpu", "tensorrt", r"\.\[tensorrt\]")],
)
@pytest.mark.usefixtures("gpu")
def test_a_missing_package_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, target: str, package: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SetupError, match=f"needs the Python package {package}.*{remedy}"):
        compiler_for_target(target)


def test_tensorrt_compiles_for_the_gpu_at_hand(
    monkeypatch: pytest.MonkeyPatch, gpu: CudaDevice
) -> None:
    api = SimpleNamespace(__version__="11.4.0.106", NetworkDefinitionCreationFlag=object())
    monkeypatch.setitem(sys.modules, "tensorrt", api)
    compiler = compiler_for_target("gpu")
    assert (compiler.gpu, compiler.compute_capabilities) == (gpu.name, (gpu.compute_capability,))
    # Its networks are strongly typed without a flag.
    assert network_flags(compiler) == 0


@pytest.mark.usefixtures("gpu")
def test_a_tensorrt_without_strong_typing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="8.6.1"))
    with pytest.raises(SetupError, match=r"TensorRT 8\.6\.1 is too old; TensorRT 10 or later"):
        compiler_for_target("gpu")


def test_a_machine_without_a_driver_is_told_what_it_can_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    with pytest.raises(SetupError, match=r"no NVIDIA driver .*make engines TARGET=rtx"):
        compiler_for_target("gpu")


def test_a_driver_without_a_gpu_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(devices=0))
    with pytest.raises(SetupError, match=r"the NVIDIA driver gives no GPU \(cuInit returned 100\)"):
        first_cuda_device()


def test_the_first_gpu_has_a_name_and_a_compute_capability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(devices=1))
    assert first_cuda_device() == CudaDevice("NVIDIA L4", "8.9")
