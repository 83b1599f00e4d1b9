"""ONNX graphs in onnxruntime, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def literal_session(path: Path) -> Any:
    """A graph, run operator by operator as it stands.

    Fused INT8 kernels overflow on CPUs without VNNI, and what is checked with a graph must not
    depend on the CPU at hand.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
