"""Moves the range of activations into weights, channel by channel, before a graph is quantised.

In transformers a few channels of an activation are tens of times larger than the others, which
with one INT8 scale a tensor leaves these with a handful of levels. Dividing each channel of the
activation by a factor and multiplying its row of the weights by the same changes no result, and
the weights have a scale for each output channel to take it up (SmoothQuant, Xiao et al. 2023).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bls_models.vectors import FloatArray
from builders.graphs.calibration import Feed

# A channel that the feeds barely excite is treated as this share of the largest: a factor from
# next to nothing would clip it as soon as another input does excite it.
MIN_SHARE = 1e-3


def smooth_matmuls(
    model: onnx.ModelProto, feeds: Iterable[Feed], strength: float, exclude: Iterable[str] = ()
) -> None:
    """Rewrite every MatMul with constant weights, in place; the graph computes the same.

    Each channel's factor is ``activation ** strength / weight ** (1 - strength)`` of the largest
    absolute values of both. MatMuls that read the same activation share one division.

    Args:
        model: an FP32 graph; the weights (K, N) of its MatMuls become (K, N) of the same size.
        feeds: batches by input name.
        strength: 0 (the weights are made even) to 1 (the activations are).
        exclude: names of nodes to leave as they are.
    """
    graph = model.graph
    weights = {item.name: item for item in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    skipped = set(exclude)
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights and node.name not in skipped:
            readers[node.input[0]].append(node)
    if not readers:
        return
    largest = _largest_by_channel(model, list(readers), feeds)
    division = {}
    for activation, nodes in readers.items():
        matrices = [numpy_helper.to_array(weights[node.input[1]]) for node in nodes]  # (K, N)
        of_weights = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)  # (K,)
        factors = _at_least_a_share(largest[activation]) ** strength
        factors = (factors / _at_least_a_share(of_weights) ** (1 - strength)).astype(np.float32)
        inverse, smoothed = f"{activation}_inverse_factors", f"{activation}_smoothed"
        graph.initializer.append(numpy_helper.from_array(1 / factors, inverse))
        division[nodes[0].name] = helper.make_node(
            "Mul", [activation, inverse], [smoothed], name=f"{activation}_smoothing"
        )
        for node, matrix in zip(nodes, matrices, strict=True):
            # A name of its own: another node may read the same weights unchanged.
            weight = f"{node.name}_smoothed_weight"
            scaled = (matrix * factors[:, None]).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(scaled, weight))
            node.input[0], node.input[1] = smoothed, weight
    nodes = []
    for node in graph.node:
        if node.name in division:
            nodes.append(division[node.name])
        nodes.append(node)
    set_nodes(graph, nodes)


def set_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give a graph other nodes; of its weights it keeps those that these read."""
    read = {name for node in nodes for name in node.input}
    kept = [item for item in graph.initializer if item.name in read]
    # protobuf copies on extend, so the lists are complete before the fields are cleared.
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _largest_by_channel(
    model: onnx.ModelProto, activations: list[str], feeds: Iterable[Feed]
) -> Mapping[str, FloatArray]:
    """Largest absolute value (K,) of each activation's last dimension over all feeds."""
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in activations:
        watched.graph.output.append(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    largest: dict[str, FloatArray] = {}
    for feed in feeds:
        for name, values in zip(activations, session.run(activations, feed), strict=True):
            peak = np.abs(values.reshape(-1, values.shape[-1])).max(axis=0)  # (K,)
            largest[name] = np.maximum(largest.get(name, peak), peak)
    return largest


def _at_least_a_share(values: FloatArray) -> FloatArray:
    """Raise values to a share of the largest; all ones where there is nothing but zeros."""
    top = values.max()
    return np.maximum(values, MIN_SHARE * top) if top > 0 else np.ones_like(values)
