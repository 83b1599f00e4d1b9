"""The Python-backend model behind every engine on the CPU profile."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from bls_models.engines.cpu import CpuEngine
from bls_models.engines.precisions import graph_on_cpu
from bls_models.specs import ModelSpec
from bls_models.triton.bridge import error_response, response, tensors_of
from bls_models.triton.served_model import ServedModel

logger = logging.getLogger(__name__)


class EngineModel(ServedModel):
    """Runs the requests that Triton batched as one batch of the graph.

    Attributes:
        spec: its tensors.
        split_rows: see ``CpuEngine``.
        one_thread_below: a graph of fewer bytes runs on one thread unless the settings say
            otherwise; threads that share very short steps wait for each other most of the time.
    """

    spec: ModelSpec
    split_rows = False
    one_thread_below = 0

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the graph."""
        super().initialize(args)
        graph = graph_on_cpu(self.repository, self.spec.name, self.settings.cpu_precision)
        threads = self.settings.engine_threads
        if not threads and graph.is_file():
            threads = int(graph.stat().st_size < self.one_thread_below)
        self._engine = CpuEngine(graph, self.spec, threads, self.split_rows)
        logger.info("serving %s", graph.name)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Encode every request's rows in one inference."""
        inputs = [tensors_of(request) for request in requests]
        try:
            outputs = self._engine.infer(
                {
                    tensor.name: np.concatenate([item[tensor.name] for item in inputs])
                    if len(inputs) > 1
                    else inputs[0][tensor.name]
                    for tensor in self.spec.inputs
                }
            )
        except Exception as error:
            return [error_response(error) for _ in requests]
        if len(inputs) == 1:
            return [response(self.spec, outputs)]
        first = self.spec.inputs[0].name
        ends = np.cumsum([len(item[first]) for item in inputs])
        parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        return [
            response(self.spec, {name: blocks[number] for name, blocks in parts.items()})
            for number in range(len(requests))
        ]
