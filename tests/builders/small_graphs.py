"""A graph of the image encoder's form, small enough to be made in every test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from builders.graphs.calibration import Feed
from builders.graphs.onnx_runtime import literal_session

SIDE = 8
CHANNELS = 4
DIM = 5


def write_small_graph(path: Path) -> Path:
    """Pixels (B, 8, 8, 3) UINT8, normalised in the graph, to vectors (B, 5) FP32."""
    random = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], name="turn", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["centred"], name="subtract"),
        helper.make_node("Div", ["centred", "deviation"], ["pixels"], name="divide"),
        helper.make_node("Conv", ["pixels", "conv.weight", "conv.bias"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["features"], name="relu"),
        helper.make_node("ReduceMean", ["features", "axes"], ["pooled"], name="pool", keepdims=0),
        helper.make_node("MatMul", ["pooled", "head.weight"], ["image_embedding"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("image_embedding", TensorProto.FLOAT, ["batch", DIM])],
        [
            numpy_helper.from_array(np.array(127, np.float32), "mean"),
            numpy_helper.from_array(np.array(128, np.float32), "deviation"),
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            constant("conv.weight", CHANNELS, 3, 3, 3),
            constant("conv.bias", CHANNELS),
            constant("head.weight", CHANNELS, DIM),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def small_feeds(count: int = 4, seed: int = 1) -> list[Feed]:
    """Batches of two noise pictures."""
    random = np.random.default_rng(seed)
    return [
        {"image": random.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)} for _ in range(count)
    ]


def run_graph(path: Path, feed: Feed) -> npt.NDArray[np.float32]:
    """The graph's only output, with every rounding as the graph has it."""
    (output,) = literal_session(path).run(None, feed)
    return np.asarray(output)
