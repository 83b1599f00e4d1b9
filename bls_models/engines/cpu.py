"""An ONNX graph on the CPU, in OpenVINO, with the tensors of a model spec."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bls_models.cpus import cpu_count
from bls_models.engines.precisions import graph_on_cpu, int8_support
from bls_models.errors import BundleError
from bls_models.specs import ModelSpec
from bls_models.vectors import Arrays


class CpuEngine:
    """One compiled graph.

    Args:
        path: the ONNX graph.
        spec: its tensors.
        threads: inference threads; 0: one a CPU.
        split_rows: run a batch as single rows, as many at once as there are threads, instead of
            as one batch on all threads. Convolutions gain nothing from a batch, and threads
            that work on one picture wait for each other.

    Attributes:
        streams: rows that it runs at once; 1 unless it splits batches.

    Raises:
        BundleError: the graph is missing or its tensors are not those of the spec.
    """

    def __init__(
        self, path: Path, spec: ModelSpec, threads: int = 0, split_rows: bool = False
    ) -> None:
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
        self.spec = spec
        threads = threads or cpu_count()
        options: dict[Any, Any] = {
            properties.inference_num_threads: threads,
            properties.hint.inference_precision: openvino.Type.f32,
        }
        if not int8_support().exact:
            # Else OpenVINO may round what meets INT8 weights to INT8 as it goes.
            options[properties.hint.dynamic_quantization_group_size] = 0

        def compiled(streams: int) -> openvino.CompiledModel:
            return core.compile_model(model, "CPU", options | {properties.num_streams: streams})

        # One batch at a time on all threads: also the fastest way for a single row.
        self._request = compiled(1).create_infer_request()
        self.streams = threads if split_rows else 1
        self._rows: openvino.CompiledModel | None = None
        if self.streams > 1:
            self._rows = compiled(threads)
        # Its threads begin with the first batch that is split here.
        self._pool = ThreadPoolExecutor(self.streams)
        self._of_thread = threading.local()

    def infer(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch, for one thread at a time; returns copies of the outputs by name."""
        rows = len(inputs[self.spec.inputs[0].name])
        if self._rows is None or rows == 1:
            return self._ran(self._request, inputs)
        parts = [{name: array[at : at + 1] for name, array in inputs.items()} for at in range(rows)]
        outputs = list(self._pool.map(self.infer_row, parts))
        return {
            name: np.concatenate([output[name] for output in outputs])
            for name in self.spec.output_names
        }

    def infer_row(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one row of an engine that splits batches, beside others; from any thread."""
        assert self._rows is not None, "it does not split batches"
        requests = self._of_thread.__dict__
        if "request" not in requests:
            requests["request"] = self._rows.create_infer_request()
        return self._ran(requests["request"], inputs)

    def _ran(self, request: Any, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        request.infer(dict(inputs), share_inputs=True)
        # Copies, because the request's own tensors are overwritten by the next inference.
        return {name: request.get_tensor(name).data.copy() for name in self.spec.output_names}


class Engine(Protocol):
    """Runs the graph of a spec."""

    spec: ModelSpec

    def infer(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch; returns the outputs by name."""
        ...


class CpuEngines:
    """Engines of this process as a ``bls_models.engines.encoders.Caller``.

    Args:
        engines: one a model.
    """

    def __init__(self, engines: Iterable[Engine]) -> None:
        self._engines = {engine.spec.name: engine for engine in engines}

    @classmethod
    def from_repository(
        cls, repository: Path, specs: Iterable[ModelSpec], threads: int = 0
    ) -> CpuEngines:
        """The graphs that a model repository serves on this CPU; see ``CpuEngine``."""
        return cls(CpuEngine(graph_on_cpu(repository, spec.name), spec, threads) for spec in specs)

    def __call__(self, model: ModelSpec, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch; returns the outputs by name."""
        return self._engines[model.name].infer(inputs)
