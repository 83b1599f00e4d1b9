"""Refuses quantised graphs that TensorRT would reject or, worse, silently misread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from bls_models.errors import BundleError

QDQ_TYPES = ("QuantizeLinear", "DequantizeLinear")
REMEDY = "quantise it with builders.graphs.quantize.int8_onnx_from_onnx"


def check_graph_for_tensorrt(path: Path) -> None:
    """Check every QuantizeLinear and DequantizeLinear node, subgraphs included.

    TensorRT knows symmetric INT8 alone: it reads a UINT8 zero point as INT8, which gives wrong
    vectors without a message, and refuses scales that are not positive constants only while it
    compiles, without naming the tool that wrote them.

    Args:
        path: an ONNX graph, quantised or not.

    Raises:
        BundleError: the file is no ONNX graph, or a node has a zero point that is not an INT8
            zero, or a scale that is not a positive constant. All such nodes are counted, the
            first ones named.
    """
    try:
        model = onnx.load(str(path), load_external_data=True)
    except Exception as error:  # protobuf's errors share no base but Exception
        raise BundleError(f"{path} cannot be read as an ONNX graph: {error}") from error
    faults = _faults_of_graph(model.graph, {})
    if faults:
        shown = "; ".join(faults[:3])
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise BundleError(f"{path} is not fit for TensorRT: {shown}{more}. Remedy: {REMEDY}.")


def _faults_of_graph(graph: onnx.GraphProto, outer: dict[str, npt.NDArray[Any]]) -> list[str]:
    """What is wrong with a graph's Q/DQ nodes; ``outer``: the enclosing graph's constants."""
    constants = outer | {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    faults = []
    for node in graph.node:
        if node.op_type in QDQ_TYPES:
            faults += [f"{node.op_type} {node.name!r} {what}" for what in _faults(node, constants)]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                faults += _faults_of_graph(inner, constants)
    return faults


def _faults(node: onnx.NodeProto, constants: dict[str, npt.NDArray[Any]]) -> list[str]:
    """What is wrong with one node."""
    faults = []
    scale = constants.get(node.input[1])
    if scale is None:
        faults.append(f"has a scale ({node.input[1]}) that is not a constant")
    else:
        # Written so that NaN, which fails every comparison, is refused.
        positive = np.isfinite(scale) & (scale > 0)
        if not positive.all():
            worst = scale[~positive].ravel()[0]
            faults.append(f"has the scale {worst}, expected positive numbers")
    has_zero_point = len(node.input) > 2 and node.input[2] != ""
    if not has_zero_point:
        # QuantizeLinear without a zero point writes UINT8; DequantizeLinear follows its input,
        # whose type stands in the constant where it is a weight.
        output_type = next((item.i for item in node.attribute if item.name == "output_dtype"), 0)
        if node.op_type == "QuantizeLinear" and output_type != onnx.TensorProto.INT8:
            faults.append("has no zero point, which means UINT8; expected INT8")
        weight = constants.get(node.input[0])
        if node.op_type == "DequantizeLinear" and weight is not None and weight.dtype != np.int8:
            faults.append(f"has {weight.dtype} values; expected int8")
        return faults
    zero_point = constants.get(node.input[2])
    if zero_point is None:
        faults.append(f"has a zero point ({node.input[2]}) that is not a constant")
        return faults
    if zero_point.dtype != np.int8:
        faults.append(f"has a zero point of {zero_point.dtype}, expected int8")
    if np.any(zero_point.astype(np.int64) != 0):
        worst = int(zero_point[zero_point.astype(np.int64) != 0].ravel()[0])
        faults.append(f"has the zero point {worst}, expected 0")
    return faults
