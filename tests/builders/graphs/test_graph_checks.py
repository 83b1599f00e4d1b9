"""Graphs that TensorRT would misread are refused, with the node at fault and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_graphs import small_feeds, write_small_graph

from bls_models.errors import BundleError
from builders.graphs.checks import check_graph_for_tensorrt
from builders.graphs.quantize import int8_onnx_from_onnx

GOOD_SCALE = np.array(0.5, np.float32)
INT8_ZERO = np.array(0, np.int8)


def write_pair(
    path: Path,
    scale: npt.NDArray[Any] | None = GOOD_SCALE,
    zero_point: npt.NDArray[Any] | None = INT8_ZERO,
) -> Path:
    """A graph of one QuantizeLinear and one DequantizeLinear; None for the scale: an input."""
    constants = []
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])]
    arguments = ["s"]
    if scale is None:
        inputs.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, []))
    else:
        constants.append(numpy_helper.from_array(scale, "s"))
    if zero_point is not None:
        constants.append(numpy_helper.from_array(zero_point, "z"))
        arguments.append("z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *arguments], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", *arguments], ["y"], name="dequantise"),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph(nodes, "pair", inputs, [output], constants)
    onnx.save(helper.make_model(graph), str(path))
    return path


def test_a_symmetric_int8_pair_passes(tmp_path: Path) -> None:
    check_graph_for_tensorrt(write_pair(tmp_path / "g.onnx"))


def test_a_graph_that_is_not_quantised_passes(tmp_path: Path) -> None:
    check_graph_for_tensorrt(write_small_graph(tmp_path / "g.onnx"))


@pytest.mark.parametrize(
    ("scale", "zero_point", "fault"),
    [
        (GOOD_SCALE, np.array(0, np.uint8), "zero point of uint8, expected int8"),
        (GOOD_SCALE, np.array(128, np.uint8), "the zero point 128, expected 0"),
        (GOOD_SCALE, np.array(-3, np.int8), "the zero point -3, expected 0"),
        (GOOD_SCALE, None, "no zero point, which means UINT8"),
        (np.array(-0.5, np.float32), INT8_ZERO, "the scale -0.5, expected positive"),
        (np.array(0, np.float32), INT8_ZERO, "the scale 0.0, expected positive"),
        (np.array(np.nan, np.float32), INT8_ZERO, "the scale nan, expected positive"),
        (np.array([1, -1], np.float32), np.zeros(2, np.int8), "the scale -1.0"),
        (None, INT8_ZERO, r"a scale \(s\) that is not a constant"),
    ],
)
def test_what_tensorrt_would_misread_is_refused_with_the_node_and_the_remedy(
    tmp_path: Path,
    scale: npt.NDArray[Any] | None,
    zero_point: npt.NDArray[Any] | None,
    fault: str,
) -> None:
    path = write_pair(tmp_path / "g.onnx", scale, zero_point)
    with pytest.raises(BundleError, match=rf"QuantizeLinear 'quantise' has .*{fault}.*Remedy: "):
        check_graph_for_tensorrt(path)


def test_a_node_within_a_branch_is_found(tmp_path: Path) -> None:
    inner = onnx.load(str(write_pair(tmp_path / "g.onnx", zero_point=np.array(0, np.uint8)))).graph
    del inner.input[:]
    branch = helper.make_node(
        "If", ["which"], ["out"], name="branch", then_branch=inner, else_branch=inner
    )
    graph = helper.make_graph(
        [branch],
        "outer",
        [
            helper.make_tensor_value_info("which", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2])],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "g.onnx"))
    with pytest.raises(BundleError, match="'quantise' has a zero point of uint8"):
        check_graph_for_tensorrt(tmp_path / "g.onnx")


def test_many_faults_are_counted_and_the_first_named(tmp_path: Path) -> None:
    source = write_small_graph(tmp_path / "fp32.onnx")
    int8_onnx_from_onnx(source, tmp_path / "int8.onnx", small_feeds())
    model = onnx.load(str(tmp_path / "int8.onnx"))
    for item in model.graph.initializer:
        if item.name.endswith("_scale"):
            item.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(item), item.name))
    onnx.save(model, str(tmp_path / "bad.onnx"))
    with pytest.raises(BundleError, match=r"bad\.onnx is not fit for TensorRT: .*; and \d+ more"):
        check_graph_for_tensorrt(tmp_path / "bad.onnx")


@pytest.mark.parametrize("content", [b"no graph", None])
def test_a_file_that_is_no_graph_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "g.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"g\.onnx cannot be read as an ONNX graph"):
        check_graph_for_tensorrt(path)
