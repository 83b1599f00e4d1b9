"""What runs an encoder: the torch original, or one of its graphs on some backend."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from bls_models.engines.cpu import CpuEngine
from bls_models.engines.precisions import int8_support
from bls_models.specs import ModelSpec
from bls_models.vectors import Arrays, FloatArray
from builders.graphs.calibration import Feed
from builders.graphs.onnx_runtime import literal_session

if TYPE_CHECKING:
    import torch

# Inferences of one turn: long enough for the clock, short enough that a slow minute of the
# machine meets every runner.
TURN_SECONDS = 0.15

# Shows what a graph computes, not how fast; it is not timed.
LITERAL_BACKEND = "onnxruntime"


class Runner(Protocol):
    """One way to run an encoder.

    Attributes:
        precision: ``torch`` (the original), or a graph's precision.
        backend: the library that computes.
        size: bytes of the weights or of the graph file.
    """

    precision: str
    backend: str
    size: int

    def encode(self, feed: Feed) -> FloatArray:
        """Vectors (B, D), FP32, L2-normalised, of one batch."""
        ...


class TorchRunner:
    """The module that the graphs were made from."""

    precision = "torch"
    backend = "torch"

    def __init__(self, module: torch.nn.Module, spec: ModelSpec) -> None:
        self._module = module
        self._spec = spec
        tensors = [*module.parameters(), *module.buffers()]
        self.size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def encode(self, feed: Feed) -> FloatArray:
        """Vectors (B, D) of one batch."""
        import torch

        with torch.inference_mode():
            vectors: FloatArray = self._module(
                *(torch.from_numpy(feed[tensor.name]) for tensor in self._spec.inputs)
            ).numpy()
        return vectors


class CpuRunner:
    """A graph in OpenVINO, through the engine that the CPU profile serves with."""

    backend = "openvino"

    def __init__(self, path: Path, spec: ModelSpec, precision: str) -> None:
        self.precision = precision
        self.size = path.stat().st_size
        self._engine = CpuEngine(path, spec)
        (self._output,) = spec.output_names

    def encode(self, feed: Feed) -> FloatArray:
        """Vectors (B, D) of one batch."""
        vectors: FloatArray = self._engine.infer(feed)[self._output]
        return vectors


class LiteralRunner:
    """A graph in onnxruntime, operator by operator, so that INT8 is the same on any CPU.

    Rounded values are multiplied in FP32, where nothing overflows: what TensorRT computes, too.
    """

    backend = LITERAL_BACKEND

    def __init__(self, path: Path, spec: ModelSpec, precision: str) -> None:
        self.precision = precision
        self.size = path.stat().st_size
        self.spec = spec
        self._session = literal_session(path)

    def infer(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch; returns the outputs by name."""
        names = self.spec.output_names
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def encode(self, feed: Feed) -> FloatArray:
        """Vectors (B, D) of one batch."""
        (vectors,) = self.infer(feed).values()
        return vectors


def graph_runner(path: Path, spec: ModelSpec, precision: str) -> CpuRunner | LiteralRunner:
    """What shows how good a graph is: OpenVINO, but for INT8 where it would overflow."""
    kind = LiteralRunner if precision == "int8" and not int8_support().exact else CpuRunner
    return kind(path, spec, precision)


@dataclass(frozen=True)
class Latency:
    """How long a runner takes.

    Attributes:
        ms_per_item: milliseconds, the median over the turns.
        ratio: time relative to the reference runner's turn next to it, the median.
    """

    ms_per_item: float
    ratio: float


def alternating_latencies(
    runners: Sequence[Runner], feed: Feed, rounds: int, reference: int
) -> list[Latency]:
    """Time runners in turn on the same batch.

    Args:
        runners: all are warmed up first.
        feed: one batch.
        rounds: turns of each.
        reference: number of the runner to which times are relative.
    """
    items = len(next(iter(feed.values())))
    repeats = []
    for runner in runners:
        runner.encode(feed)
        repeats.append(max(1, int(TURN_SECONDS / _seconds(runner, feed, 1))))
    times = [
        [
            _seconds(runner, feed, count) / items
            for runner, count in zip(runners, repeats, strict=True)
        ]
        for _ in range(rounds)
    ]
    return [
        Latency(
            1e3 * statistics.median(turn[number] for turn in times),
            statistics.median(turn[number] / turn[reference] for turn in times),
        )
        for number in range(len(runners))
    ]


def _seconds(runner: Runner, feed: Feed, count: int) -> float:
    """Seconds of one inference, the mean of ``count``."""
    start = time.perf_counter()
    for _ in range(count):
        runner.encode(feed)
    return (time.perf_counter() - start) / count
