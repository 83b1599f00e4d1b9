"""In which precision each engine computes where it is served, and why.

INT8 graphs are right where INT8 products are exact. CPUs without VNNI or AMX add pairs of products
in 16 bits, which overflow, so there a model is served by its next graph. Whether they are exact is
asked of OpenVINO itself, by computing some: none of its properties says it, and what a CPU has is
not always what the library uses.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bls_models.bundle import BUILD_HINT, Bundle, graph_file
from bls_models.errors import BundleError
from bls_models.settings import AUTO, CPU_PRECISION, GPU, INT8, Settings

# Enough channels for the vectorised kernels, and values whose sums of two exceed 16 bits.
_PROBE_CHANNELS = 64
_LARGEST = 127


@dataclass(frozen=True)
class Int8Support:
    """How this CPU multiplies INT8, as OpenVINO uses it.

    Attributes:
        kernel: OpenVINO's name of the kernel, such as ``brgconv_avx512_1x1_I8``.
        exact: whether no product overflows.
    """

    kernel: str
    exact: bool

    def __str__(self) -> str:
        return f"INT8 products are {'exact' if self.exact else 'not exact'} here, {self.kernel}"


@functools.cache
def int8_support() -> Int8Support:
    """Compute some INT8 products in OpenVINO and look at how and whether it was right."""
    import openvino
    from openvino import opset13 as ops
    from openvino import properties

    pixels = np.full((1, _PROBE_CHANNELS, 1, 1), _LARGEST, np.float32)
    weights = np.full((_PROBE_CHANNELS, _PROBE_CHANNELS, 1, 1), _LARGEST, np.int8)
    least, most = np.float32(-_LARGEST - 1), np.float32(_LARGEST)
    parameter = ops.parameter(pixels.shape, np.float32)
    quantised = ops.fake_quantize(parameter, least, most, least, most, 256)
    dequantised = ops.multiply(ops.convert(ops.constant(weights), "f32"), np.float32(1))
    product = ops.convolution(quantised, dequantised, [1, 1], [0, 0], [0, 0], [1, 1])
    compiled = openvino.Core().compile_model(
        openvino.Model([product], [parameter]),
        "CPU",
        {
            properties.inference_num_threads: 1,
            properties.hint.inference_precision: openvino.Type.f32,
        },
    )
    (found,) = compiled(pixels).values()
    (kernel,) = {
        item.get_rt_info()["primitiveType"].astype(str)
        for item in compiled.get_runtime_model().get_ops()
        if item.get_rt_info()["layerType"].astype(str) == "Convolution"
    }
    return Int8Support(kernel, bool((found == _PROBE_CHANNELS * _LARGEST**2).all()))


def precision_on_cpu(precisions: Sequence[str], setting: str = AUTO) -> str:
    """The precision in which the CPU profile serves a model.

    Args:
        precisions: of the graphs that the bundle has of it: the one for CPUs whose INT8 products
            are exact, then the one for the others, if that is another.
        setting: ``auto``, or ``int8`` or ``fp32`` to decide as if the CPU's were or were not exact.
    """
    if len(precisions) == 1 or setting == INT8:
        return precisions[0]
    return precisions[0] if setting == AUTO and int8_support().exact else precisions[-1]


def graph_on_cpu(repository: Path, model: str, setting: str | None = None) -> Path:
    """The graph with which the CPU profile serves a model.

    Args:
        repository: a built model repository.
        model: the engine's name.
        setting: see ``precision_on_cpu``; None: the environment's.

    Raises:
        BundleError: no bundle is built, or it has no such model.
    """
    precisions = Bundle.read(repository).precisions.get(model)
    if not precisions:
        raise BundleError(f"the bundle in {repository} has no graph of {model}. {BUILD_HINT}")
    if setting is None:
        setting = Settings.from_environment().cpu_precision
    return repository / graph_file(model, precision_on_cpu(precisions, setting))


def served_precisions(bundle: Bundle, repository: Path, settings: Settings) -> dict[str, str]:
    """The precision of each engine of a server with these settings, by model.

    Raises:
        BundleError: GPU profile, and an engine's metadata is missing or damaged.
    """
    if settings.profile == GPU:
        return {model: _engine_precision(repository, model) for model in bundle.precisions}
    return {
        model: precision_on_cpu(precisions, settings.cpu_precision)
        for model, precisions in bundle.precisions.items()
    }


def described_precisions(bundle: Bundle, repository: Path, settings: Settings) -> str:
    """A line for people: the precision of each engine, and what decided it."""
    found = served_precisions(bundle, repository, settings)
    line = ", ".join(f"{model} {precision}" for model, precision in found.items())
    if settings.profile == GPU:
        return line
    if settings.cpu_precision != AUTO:
        return f"{line} ({CPU_PRECISION}={settings.cpu_precision})"
    return f"{line} ({int8_support()})"


def _engine_precision(repository: Path, model: str) -> str:
    path = repository / model / "1" / "model.plan.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["recipe"]["precision"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{path} does not say the precision of the engine beside it: {error!r}; build the "
            "engines with `make engines`"
        ) from error
