"""INT8 and FP16 graphs: explicit, symmetric, with the tensors of the FP32 graph, or not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from small_graphs import CHANNELS, DIM, run_graph, small_feeds, write_small_graph

from bls_models.errors import BundleError
from builders.graphs.calibration import Calibration, Feed
from builders.graphs.checks import check_graph_for_tensorrt
from builders.graphs.precisions import (
    PrecisionRecipe,
    graph_from_fp32,
    graph_path,
    publish_graph,
    recipe_of,
)
from builders.graphs.quantize import fp16_onnx_from_onnx, int8_onnx_from_onnx, nodes_of_layers


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = graph_path(tmp_path / "graphs", "small", "image_encoder", "fp32")
    path.parent.mkdir(parents=True)
    return write_small_graph(path)


@pytest.fixture
def int8(source: Path) -> Path:
    target = source.with_name("int8.onnx")
    int8_onnx_from_onnx(source, target, small_feeds())
    return target


@pytest.fixture
def fp16(source: Path) -> Path:
    target = source.with_name("fp16.onnx")
    fp16_onnx_from_onnx(source, target)
    return target


def graph_of(path: Path) -> onnx.GraphProto:
    return onnx.load(str(path)).graph


def tensors_of(path: Path) -> list[tuple[str, int, list[object]]]:
    graph = graph_of(path)
    return [
        (
            item.name,
            item.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim],
        )
        for item in (*graph.input, *graph.output)
    ]


def cosine(left: Path, right: Path) -> float:
    (feed,) = small_feeds(1, seed=9)
    one, other = run_graph(left, feed), run_graph(right, feed)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


# --- INT8 -------------------------------------------------------------------------------------


def test_int8_zero_points_are_int8_zeros_and_scales_are_positive(int8: Path) -> None:
    check_graph_for_tensorrt(int8)
    graph = graph_of(int8)
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        assert constants[node.input[2]].dtype == np.int8
        assert not constants[node.input[2]].any()
        assert (constants[node.input[1]] > 0).all()


def test_int8_weights_have_one_scale_for_each_output_channel(int8: Path) -> None:
    graph = graph_of(int8)
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            axis = next(item.i for item in node.attribute if item.name == "axis")
            weight = constants[node.input[0]]
            assert weight.dtype == np.int8
            assert len(constants[node.input[1]]) == weight.shape[axis]
            found[weight.ndim] = (axis, weight.shape[axis])
    assert found == {4: (0, CHANNELS), 2: (1, DIM)}


def test_int8_leaves_inputs_outputs_normalisation_and_biases_as_they_were(
    source: Path, int8: Path
) -> None:
    assert tensors_of(int8) == tensors_of(source)
    graph = graph_of(int8)
    readers = {name: node for node in graph.node for name in node.input}
    chain = [readers[name].op_type for name in ("image", "floats", "planes", "centred", "pixels")]
    assert chain == ["Cast", "Transpose", "Sub", "Div", "QuantizeLinear"]
    bias = next(item for item in graph.initializer if item.name == "conv.bias")
    assert bias.data_type == TensorProto.FLOAT


def test_int8_gives_nearly_the_same_vectors(source: Path, int8: Path) -> None:
    assert cosine(source, int8) > 0.999


def test_excluded_nodes_stay_in_float(source: Path) -> None:
    target = source.with_name("int8.onnx")
    int8_onnx_from_onnx(source, target, small_feeds(), exclude_nodes=["conv"])
    graph = graph_of(target)
    conv = next(node for node in graph.node if node.op_type == "Conv")
    assert list(conv.input) == ["pixels", "conv.weight", "conv.bias"]


def test_smoothing_changes_the_weights_and_not_the_result(source: Path) -> None:
    target = source.with_name("int8.onnx")
    int8_onnx_from_onnx(source, target, small_feeds(), smoothing=0.8)
    assert "pooled_smoothing" in [node.name for node in graph_of(target).node]
    assert tensors_of(target) == tensors_of(source)
    assert cosine(source, target) > 0.999


def test_the_same_calibration_gives_the_same_int8_graph(source: Path, int8: Path) -> None:
    again = source.with_name("again.onnx")
    int8_onnx_from_onnx(source, again, small_feeds())
    assert again.read_bytes() == int8.read_bytes()


def test_calibration_without_batches_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no calibration batches .*give pictures or texts"):
        int8_onnx_from_onnx(source, tmp_path / "int8.onnx", [])


def test_a_node_to_exclude_that_does_not_exist_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no .* node 'stem' to leave in float; it has 2"):
        int8_onnx_from_onnx(source, tmp_path / "x.onnx", small_feeds(), exclude_nodes=["stem"])


def test_a_graph_of_which_nothing_is_left_to_quantise_is_no_int8_graph(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "int8.onnx"
    with pytest.raises(BundleError, match="left to quantise; serve it as fp16 or fp32"):
        int8_onnx_from_onnx(source, target, small_feeds(), exclude_nodes=["conv", "head"])
    assert not target.exists()


def test_a_failure_leaves_the_old_graph_and_nothing_half_written(source: Path, int8: Path) -> None:
    def broken() -> Iterator[Feed]:
        yield from small_feeds(1)
        raise OSError("the disk is gone")

    before, files = int8.read_bytes(), sorted(source.parent.iterdir())
    with pytest.raises(OSError, match="the disk is gone"):
        int8_onnx_from_onnx(source, int8, broken())
    with pytest.raises(Exception, match="wrong"):
        int8_onnx_from_onnx(source, int8, [{"wrong": np.zeros(1)}])
    assert int8.read_bytes() == before
    assert sorted(source.parent.iterdir()) == files


def test_layers_are_found_by_the_names_of_their_weights(source: Path) -> None:
    assert nodes_of_layers(source, [r"conv\..*"]) == ["conv"]
    assert nodes_of_layers(source, []) == []
    with pytest.raises(BundleError, match=r"no layer named like 'stem.*' to leave in float"):
        nodes_of_layers(source, [r"conv\..*", "stem.*"])


def test_layers_are_found_by_the_modules_they_were_exported_from(source: Path) -> None:
    model = onnx.load(str(source))
    item = next(node for node in model.graph.node if node.name == "head").metadata_props.add()
    item.key = "pkg.torch.onnx.name_scopes"
    item.value = "['', 'encoder', 'encoder.dense', 'linear']"
    onnx.save(model, str(source))
    assert nodes_of_layers(source, [r"encoder\.dense"]) == ["head"]


# --- FP16 -------------------------------------------------------------------------------------


def test_fp16_keeps_inputs_and_outputs_and_halves_the_weights(source: Path, fp16: Path) -> None:
    assert tensors_of(fp16) == tensors_of(source)
    types = {item.name: item.data_type for item in graph_of(fp16).initializer if len(item.dims) > 1}
    assert set(types.values()) == {TensorProto.FLOAT16}
    assert cosine(source, fp16) > 0.99999


# --- graphs of a bundle -----------------------------------------------------------------------


def calibration(digest: str = "a") -> Calibration:
    return Calibration(digest, small_feeds)


RECIPE = PrecisionRecipe()


@pytest.mark.parametrize("precision", ["fp8", "INT8", ""])
def test_an_unknown_precision_is_refused_with_the_known_ones(source: Path, precision: str) -> None:
    with pytest.raises(BundleError, match=r"unknown precision .*; known: fp32, fp16, int8"):
        graph_from_fp32(source, precision, RECIPE, calibration, print)


def test_a_missing_fp32_graph_says_how_to_build_it(tmp_path: Path) -> None:
    path = graph_path(tmp_path, "b", "image_encoder", "fp32")
    with pytest.raises(BundleError, match="is missing; build it with `make models`"):
        graph_from_fp32(path, "int8", RECIPE, calibration, print)


def test_a_graph_is_built_again_only_when_what_it_is_made_from_changes(source: Path) -> None:
    lines: list[str] = []

    def build(digest: str = "a", recipe: PrecisionRecipe = RECIPE) -> Path:
        return graph_from_fp32(source, "int8", recipe, lambda: calibration(digest), lines.append)

    path = build()
    assert path == source.with_name("image_encoder.int8.onnx")
    build()
    assert len(lines) == 1
    build(digest="other pictures")
    build(digest="other pictures", recipe=PrecisionRecipe(float_layers=(r"conv\..*",)))
    assert len(lines) == 3
    model = onnx.load(str(source))
    model.doc_string = "another export"
    onnx.save(model, str(source))
    build(digest="other pictures", recipe=PrecisionRecipe(float_layers=(r"conv\..*",)))
    assert len(lines) == 4


def test_each_precision_has_its_own_file_beside_the_fp32_graph(source: Path) -> None:
    paths = [
        graph_from_fp32(source, name, RECIPE, calibration, lambda _: None)
        for name in ("fp32", "fp16", "int8")
    ]
    assert [path.name.split(".")[1] for path in paths] == ["fp32", "fp16", "int8"]
    assert {path.parent for path in paths} == {source.parent}
    assert paths[0] == source


def test_a_graph_is_published_whole_or_not_at_all(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "repository" / "model.onnx"
    publish_graph(source, target)
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(FileNotFoundError):
        publish_graph(tmp_path / "none.onnx", target)
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == source.read_bytes()


def test_a_family_without_a_recipe_is_quantised_throughout() -> None:
    assert recipe_of("bert_mean_pooling").float_layers == ()
    assert recipe_of("efficientnet_lite0").float_layers
