"""Small graphs with specs of their own, which TensorRT compiles in a fraction of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bls_models.bundle import Bundle, CaptionerBundle, DetectorBundle
from bls_models.specs import ModelSpec, TensorSpec
from builders.checkpoints.references import find_checkpoint
from builders.config import read_bundle_config
from builders.engines.building import BuiltEngine, engine_from_onnx
from builders.engines.profiles import AxisRange, OptimizationProfile
from builders.engines.tensorrt_api import Compiler


def demo_captioner() -> CaptionerBundle:
    """The sizes of mini's captioner, from its checkpoint."""
    config = read_bundle_config("mini").captioner
    assert config is not None
    settings = json.loads((find_checkpoint(config.checkpoint) / "config.json").read_text())
    language = settings["language"]
    return CaptionerBundle(
        fingerprint="fedcba9876543210",
        image_size=224,
        resize=settings["resize"],
        visual_tokens=settings["prompt_ids"].count(settings["image_token_id"]),
        hidden=language["hidden_size"],
        kv_planes=2 * language["num_hidden_layers"],
        kv_heads=language["num_key_value_heads"],
        head_dim=language["hidden_size"] // language["num_attention_heads"],
        vocabulary=language["vocab_size"],
        prompt_ids=settings["prompt_ids"],
        image_token_id=settings["image_token_id"],
        stop_ids=settings["stop_ids"],
        max_new_tokens=config.max_new_tokens,
        min_confidence=config.min_confidence,
    )


def demo_detector() -> DetectorBundle:
    """The sizes of mini's detector, from its checkpoint."""
    config = read_bundle_config("mini").object_detector
    assert config is not None
    settings = json.loads((find_checkpoint(config.checkpoint) / "config.json").read_text())
    return DetectorBundle(
        fingerprint="0011223344556677",
        image_size=config.image_size or settings["image_size"],
        resize=config.resize or settings["resize"],
        boxes=config.boxes,
        min_score=config.min_score,
    )


BUNDLE = Bundle(
    name="mini",
    fingerprint="0123456789abcdef",
    image_size=224,
    resize="pad",
    image_dim=1280,
    text_dim=384,
    max_tokens=128,
    shared_space=False,
    files={},
    precisions={"small_encoder": ["fp32"]},
    captioner=demo_captioner(),
    detector=demo_detector(),
)
PIXELS, LENGTH = 6, 4
SPEC = ModelSpec(
    name="small_encoder",
    max_batch_size=4,
    inputs=(TensorSpec("image", "UINT8", (PIXELS,)),),
    outputs=(TensorSpec("vector", "FP32", (LENGTH,)),),
)
PROFILES = (
    OptimizationProfile("all", {"batch": AxisRange(1, 2, 4)}, {"image": ("batch", PIXELS)}),
)


def write_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray],
) -> Path:
    """An ONNX file of opset 20."""
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs,
        outputs,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), str(path))
    return path


def small_graph(
    path: Path,
    seed: int = 0,
    batch: int | str = "batch",
    length: int = LENGTH,
    middle: str = "Relu",
) -> Path:
    """UINT8 (B, 6) -> float -> an operator without parameters -> MatMul -> FP32 (B, length)."""
    random = np.random.default_rng(seed)
    return write_graph(
        path,
        [
            helper.make_node("Cast", ["image"], ["float_image"], "to_float", to=TensorProto.FLOAT),
            helper.make_node(middle, ["float_image"], ["middle"], "the_middle"),
            helper.make_node("MatMul", ["middle", "weight"], ["vector"], "project"),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, PIXELS])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [batch, length])],
        {"weight": random.normal(size=(PIXELS, length)).astype(np.float32)},
    )


def small_engine(
    graph: Path,
    compiler: Compiler,
    path: Path,
    *,
    spec: ModelSpec = SPEC,
    profiles: tuple[OptimizationProfile, ...] = PROFILES,
    precision: str = "fp32",
    lines: list[str] | None = None,
) -> BuiltEngine:
    """The engine of a small graph."""
    return engine_from_onnx(
        graph,
        spec,
        profiles,
        compiler,
        path,
        bundle=BUNDLE,
        precision=precision,
        report=[].append if lines is None else lines.append,
    )


class SmallEngine:
    """What a runtime gives for the engine of a small graph: the part that reading uses."""

    num_io_tensors = 2
    num_optimization_profiles = 1

    def __init__(self, api: Any) -> None:
        self._api = api

    def get_tensor_name(self, index: int) -> str:
        return ("image", "vector")[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._api.TensorIOMode
        return modes.INPUT if name == "image" else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        types = self._api.DataType
        return types.UINT8 if name == "image" else types.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, PIXELS if name == "image" else LENGTH)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("image", 0)
        return [(1, PIXELS), (2, PIXELS), (4, PIXELS)]
