"""INT8 and FP16 graphs from FP32 graphs, in the form that TensorRT and OpenVINO both read.

INT8 enters as explicit QuantizeLinear/DequantizeLinear pairs, FP16 as the graph's own types: the
two forms that TensorRT 11 still takes and TensorRT 10 takes with strong typing. The tensors that
go in and out keep their names, types and shapes, so a served graph can be exchanged for another.
"""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from bls_models.errors import BundleError
from builders.graphs.calibration import Feed
from builders.graphs.checks import check_graph_for_tensorrt
from builders.graphs.smoothing import set_nodes, smooth_matmuls

# The operators with most of the arithmetic. All others stay in float: they are cheap, and pixel
# normalisation, residual sums, softmax and pooling lose most by eight bits.
QUANTIZED_OPS = ("Conv", "Gemm", "MatMul")

FP16, FP32 = TensorProto.FLOAT16, TensorProto.FLOAT

# Symmetric: -128 would have no counterpart.
INT8_MAX = 127

# Where the torch exporter notes the modules that a node comes from.
MODULE_PATHS_KEY = "pkg.torch.onnx.name_scopes"

INT8_OPTIONS: Mapping[str, Any] = {
    "ActivationSymmetric": True,
    "CalibTensorRangeSymmetric": True,
    "WeightSymmetric": True,
    # TensorRT fuses a pair only with the one operator that reads it.
    "DedicatedQDQPair": True,
    # TensorRT adds biases in float.
    "QuantizeBias": False,
    # Products of two activations (attention) stay in float.
    "MatMulConstBOnly": True,
    # What an operator gives is rounded where the next one reads it, after its activation
    # function: before a ReLU6, half of the signed range and all above 6 would be wasted.
    "OpTypesToExcludeOutputQuantization": list(QUANTIZED_OPS),
}


class _FeedReader:
    """Batches in the form that the quantiser reads: one a call, then None."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next batch, None after the last."""
        return next(self._feeds, None)


def int8_onnx_from_onnx(
    source: Path,
    target: Path,
    feeds: Iterable[Feed],
    *,
    exclude_nodes: Collection[str] = (),
    smoothing: float | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a graph with symmetric INT8 activations and per-channel INT8 weights.

    The range of each activation is the largest absolute value that the feeds cause.

    Args:
        source: an FP32 ONNX graph.
        target: file to write; it appears only when all has succeeded.
        feeds: calibration batches by input name; all are held in memory.
        exclude_nodes: names of Conv, Gemm and MatMul nodes that stay in float.
        smoothing: strength with which MatMuls are smoothed first, 0 to 1 (see
            ``builders.graphs.smoothing``); None: not at all.
        metadata: written into the graph's ``metadata_props``.

    Raises:
        BundleError: an excluded node does not exist, there are no feeds, nothing in the graph
            can be quantised, or the result is not what TensorRT reads.
    """
    # It takes a second to import.
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load(str(source))
    _check_excluded(model, exclude_nodes, source)
    batches = list(feeds)
    if not batches:
        raise BundleError(f"no calibration batches for {source}; give pictures or texts")
    original = onnx.ModelProto()
    original.CopyFrom(model)
    with _work_folder(target) as work, _quiet_quantizer():
        if smoothing is not None:
            smooth_matmuls(model, batches, smoothing, exclude_nodes)
        quantize_static(
            model,
            work / "int8.onnx",
            _FeedReader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPS),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(exclude_nodes),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=dict(INT8_OPTIONS),
        )
        quantised = onnx.load(str(work / "int8.onnx"))
        if not any(node.op_type == "QuantizeLinear" for node in quantised.graph.node):
            raise BundleError(
                f"{source} has no {', '.join(QUANTIZED_OPS)} node with constant weights left to "
                "quantise; serve it as fp16 or fp32"
            )
        _finish(quantised, original, work, target, metadata)


def _check_excluded(model: onnx.ModelProto, excluded: Collection[str], source: Path) -> None:
    names = {node.name for node in model.graph.node if node.op_type in QUANTIZED_OPS}
    unknown = sorted(set(excluded) - names)
    if unknown:
        raise BundleError(
            f"{source} has no {' or '.join(QUANTIZED_OPS)} node {unknown[0]!r} to leave in float; "
            f"it has {len(names)}, such as {sorted(names)[:3]}"
        )


def int8_weights_onnx_from_onnx(
    source: Path, target: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a graph with per-channel INT8 weights that computes in FP32.

    A decoder's step reads every weight for a single position, so reading is what takes its time,
    and INT8 weights are a quarter to read. Its activations, whose few very large channels INT8
    cannot hold, stay as they are; nothing needs calibration.

    Args:
        source: an FP32 ONNX graph.
        target: file to write; it appears only when all has succeeded.
        metadata: written into the graph's ``metadata_props``.

    Raises:
        BundleError: no Gemm or MatMul of the graph has constant weights.
    """
    model = onnx.load(str(source))
    original = onnx.ModelProto()
    original.CopyFrom(model)
    weights = {item.name: item for item in model.graph.initializer if len(item.dims) == 2}
    nodes: list[onnx.NodeProto] = []
    quantised: dict[tuple[str, int], str] = {}
    for node in model.graph.node:
        if node.op_type in ("Gemm", "MatMul") and node.input[1] in weights:
            name = node.input[1]
            transposed = any(item.name == "transB" and item.i for item in node.attribute)
            axis = 0 if transposed else 1  # of the output channels
            if (name, axis) not in quantised:
                quantised[name, axis] = f"{name}.dequantised_{axis}"
                nodes.append(_dequantised(model.graph, weights[name], axis, quantised[name, axis]))
            node.input[1] = quantised[name, axis]
        nodes.append(node)
    if not quantised:
        raise BundleError(
            f"{source} has no Gemm or MatMul with constant weights to quantise; serve it as fp16 "
            "or fp32"
        )
    set_nodes(model.graph, nodes)
    with _work_folder(target) as work:
        _finish(model, original, work, target, metadata)


def _dequantised(
    graph: onnx.GraphProto, weight: TensorProto, axis: int, output: str
) -> onnx.NodeProto:
    """A weight (K, N) or (N, K) in INT8 with a scale for each index of ``axis``, and its node."""
    values = numpy_helper.to_array(weight)
    largest = np.abs(values).max(axis=1 - axis, keepdims=True)
    scale = np.where(largest > 0, largest / INT8_MAX, 1).astype(np.float32)
    graph.initializer.append(
        numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{output}.int8")
    )
    graph.initializer.append(numpy_helper.from_array(scale.ravel(), f"{output}.scale"))
    return onnx.helper.make_node(
        "DequantizeLinear",
        [f"{output}.int8", f"{output}.scale"],
        [output],
        name=f"{output}.dequantise",
        axis=axis,
    )


def fp16_onnx_from_onnx(
    source: Path,
    target: Path,
    *,
    fp32_nodes: Collection[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a graph that computes in FP16, with the inputs and outputs of the FP32 graph.

    Args:
        source: an FP32 ONNX graph.
        target: file to write; it appears only when all has succeeded.
        fp32_nodes: names of nodes that go on computing in FP32.
        metadata: written into the graph's ``metadata_props``.

    Raises:
        BundleError: the result has other inputs or outputs, or a weight is still FP32.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(str(source))
    original = onnx.ModelProto()
    original.CopyFrom(model)
    with _work_folder(target) as work:
        with _quiet_quantizer():
            half = convert_float_to_float16(
                model, keep_io_types=True, node_block_list=list(fp32_nodes) or None
            )
            _join_fp32_nodes(half.graph)
            # It also appends nodes behind those that read them.
            OnnxModel(half).topological_sort()
        weights = [item for item in half.graph.initializer if len(item.dims) > 1]
        full = [item.name for item in weights if item.data_type == TensorProto.FLOAT]
        if full:
            raise BundleError(f"{source} cannot be made FP16: the weight {full[0]!r} stays FP32")
        _finish(half, original, work, target, metadata)


def _join_fp32_nodes(graph: onnx.GraphProto) -> None:
    """Let what one FP32 node gives another stay FP32 on the way.

    The converter casts each input and output of such a node by itself: a square would be rounded
    to FP16, or overflow, before its mean is taken. It also repeats the cast of what two of them
    read, under one name, which no runtime takes.
    """
    rounded = {node.output[0]: node.input[0] for node in graph.node if _casts_to(node, FP16)}
    nodes: dict[str, onnx.NodeProto] = {}
    exact: dict[str, str] = {}
    for node in graph.node:
        if _casts_to(node, FP32) and node.input[0] in rounded:
            exact[node.output[0]] = rounded[node.input[0]]
        else:
            nodes.setdefault(node.output[0], node)
    for node in nodes.values():
        for number, name in enumerate(node.input):
            node.input[number] = exact.get(name, name)
    read = {name for node in nodes.values() for name in node.input}
    read.update(item.name for item in graph.output)
    kept = [node for name, node in nodes.items() if name in read or not _casts_to(node, FP16)]
    # protobuf copies on extend, so the list is complete before the field is cleared.
    del graph.node[:]
    graph.node.extend(kept)


def _casts_to(node: onnx.NodeProto, data_type: int) -> bool:
    return node.op_type == "Cast" and any(
        item.name == "to" and item.i == data_type for item in node.attribute
    )


def nodes_of_layers(
    path: Path, patterns: Collection[str], op_types: Collection[str] | None = QUANTIZED_OPS
) -> list[str]:
    """Names of the nodes that belong to certain layers.

    A node answers to the name of its weights and to the path of the torch module that it was
    exported from. Both stay the same from export to export; the nodes' own names are numbered.

    Args:
        path: an ONNX graph.
        patterns: regular expressions that match the whole of such a name.
        op_types: operators of the nodes; None: any.

    Raises:
        BundleError: a pattern matches nothing.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    names = {
        node.name: _layer_names(node)
        for node in graph.node
        if op_types is None or node.op_type in op_types
    }
    matched: set[str] = set()
    for pattern in patterns:
        found = {
            node
            for node, layers in names.items()
            if any(re.fullmatch(pattern, layer) for layer in layers)
        }
        if not found:
            raise BundleError(
                f"{path} has no layer named like {pattern!r} to leave in float; it has "
                f"{sorted(layer for layers in names.values() for layer in layers)[:5]} and others"
            )
        matched |= found
    return [node for node in names if node in matched]


def _layer_names(node: onnx.NodeProto) -> list[str]:
    """The name of a node's weights and the path of its torch module, where it has such."""
    names = [node.input[1]] if node.op_type in QUANTIZED_OPS else []
    for item in node.metadata_props:
        if item.key == MODULE_PATHS_KEY:
            # From the outermost module to the operator within the innermost.
            names += ast.literal_eval(item.value)[-2:-1]
    return names


def _finish(
    model: onnx.ModelProto,
    source: onnx.ModelProto,
    work: Path,
    target: Path,
    metadata: Mapping[str, str] | None,
) -> None:
    """Check a finished graph against the one it was made from, and put it in its place."""
    for kind in ("input", "output"):
        before, after = (
            [(item.name, item.type.tensor_type.elem_type) for item in getattr(graph, kind)]
            for graph in (source.graph, model.graph)
        )
        if before != after:
            raise BundleError(f"{target.name} would change the {kind}s {before} to {after}")
    onnx.helper.set_model_props(model, dict(metadata or {}))
    finished = work / target.name
    onnx.save(model, str(finished))
    check_graph_for_tensorrt(finished)
    finished.replace(target)


@contextlib.contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that is always removed, so that nothing half-written stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".quantize.", dir=target.parent) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Keep the quantiser's advice, meant for exporters without constant folding, to itself."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
