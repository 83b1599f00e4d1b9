"""The Python-backend model behind every engine on the CPU profile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bls_models.engines.cpu import CpuEngine
from bls_models.engines.precisions import graph_on_cpu
from bls_models.specs import ModelSpec
from bls_models.stage import Stage
from bls_models.triton.bridge import LateReply, error_response, response, tensors_of
from bls_models.triton.served_model import ServedModel
from bls_models.vectors import Arrays
from bls_models.watchdog import watched

logger = logging.getLogger(__name__)


class EngineModel(ServedModel):
    """Runs the requests that Triton batched as one batch of the graph, or row by row.

    Where it splits batches, rows of all requests follow each other without a pause, and a request
    is answered when its own are done.

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
        self._rows: Stage[tuple[_Batch, int]] | None = None
        if self._engine.streams > 1:
            # One more, so that a stream has its next row while an answer is made.
            self._rows = Stage("rows", self._run_rows, self._engine.streams + 1)
            self.closing.callback(self._rows.close)
        self._lock = threading.Lock()
        self._rows_under_way = 0
        logger.info("serving %s", graph.name)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Encode every request's rows."""
        inputs = [tensors_of(request) for request in requests]
        first = self.spec.inputs[0].name
        counts = [len(item[first]) for item in inputs]
        # A row that comes alone gets all threads.
        alone = sum(counts) == 1 and not self._rows_under_way
        if self._rows is None or alone or not all(counts):
            return self._answered(inputs, counts)
        with self._lock:
            self._rows_under_way += sum(counts)
        for request, item, count in zip(requests, inputs, counts, strict=True):
            batch = _Batch(request, item, count)
            for row in range(count):
                self._rows.put((batch, row))
        return [None] * len(requests)

    def _answered(self, inputs: Sequence[Arrays], counts: Sequence[int]) -> list[Any]:
        """The answers to all requests, by one inference."""
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
            return [error_response(error) for _ in inputs]
        if len(inputs) == 1:
            return [response(self.spec, outputs)]
        ends = np.cumsum(counts)
        parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        return [
            response(self.spec, {name: blocks[number] for name, blocks in parts.items()})
            for number in range(len(inputs))
        ]

    def _run_rows(self, rows: list[tuple[_Batch, int]]) -> None:
        for batch, row in rows:
            with watched():
                try:
                    batch.outputs[row] = self._engine.infer_row(batch.row(row))
                except Exception as error:
                    batch.error = error
            with self._lock:
                self._rows_under_way -= 1
                batch.left -= 1
                last = not batch.left
            if last:
                self._reply(batch)

    def _reply(self, batch: _Batch) -> None:
        try:
            if batch.error is not None:
                batch.reply(error_response(batch.error))
            else:
                batch.reply(response(self.spec, batch.joined()))
        except Exception:
            logger.exception("an answer was not sent")


class _Batch:
    """The rows of one request that run one by one."""

    def __init__(self, request: Any, inputs: Arrays, count: int) -> None:
        # The inputs lie in its memory.
        self._request = request
        self._inputs = inputs
        self.reply = LateReply(request)
        self.left = count
        self.outputs: list[Arrays] = [{}] * count
        self.error: Exception | None = None

    def row(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """The inputs of one row, with a batch dimension of 1."""
        return {name: array[number : number + 1] for name, array in self._inputs.items()}

    def joined(self) -> dict[str, npt.NDArray[Any]]:
        """The outputs of all rows."""
        if len(self.outputs) == 1:
            return dict(self.outputs[0])
        return {
            name: np.concatenate([output[name] for output in self.outputs])
            for name in self.outputs[0]
        }
