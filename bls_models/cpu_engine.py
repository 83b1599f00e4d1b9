"""An ONNX graph on the CPU, in OpenVINO, with the tensors of a model spec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bls_models.errors import BundleError
from bls_models.settings import cpu_count
from bls_models.specs import ModelSpec


class CpuEngine:
    """One compiled graph; ``infer`` is for one thread at a time.

    Args:
        path: the ONNX graph.
        spec: its tensors.
        threads: inference threads; 0: one a CPU.

    Raises:
        BundleError: the graph is missing or its tensors are not those of the spec.
    """

    def __init__(self, path: Path, spec: ModelSpec, threads: int = 0) -> None:
        import openvino
        from openvino import properties

        if not path.is_file():
            raise BundleError(f"{path} is missing: build the models with `make models`")
        core = openvino.Core()
        model = core.read_model(path)
        found = {name for port in (*model.inputs, *model.outputs) for name in port.names}
        wanted = {tensor.name for tensor in (*spec.inputs, *spec.outputs)}
        if not wanted <= found:
            raise BundleError(
                f"{path}: tensors {sorted(wanted - found)} are missing; "
                f"it is not the graph of {spec.name}: build the models with `make models`"
            )
        self._spec = spec
        # Batches arrive one after another, so every thread works on the same one.
        compiled = core.compile_model(
            model,
            "CPU",
            {
                properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
                properties.inference_num_threads: threads or cpu_count(),
                properties.hint.inference_precision: openvino.Type.f32,
            },
        )
        self._request = compiled.create_infer_request()

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run one batch; returns copies of the outputs by name."""
        self._request.infer(dict(inputs), share_inputs=True)
        return {
            name: self._request.get_tensor(name).data.copy() for name in self._spec.output_names
        }
