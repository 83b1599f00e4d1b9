"""A bundle's graphs in every precision: ``build/graphs/<bundle>/<model>.<precision>.onnx``."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from bls_models.bundle import file_sha256
from bls_models.errors import BundleError
from bls_models.files import atomic_write
from builders.graphs.calibration import Calibration
from builders.graphs.quantize import (
    fp16_onnx_from_onnx,
    int8_onnx_from_onnx,
    int8_weights_onnx_from_onnx,
    nodes_of_layers,
)
from reporting.progress import Report

PRECISIONS = ("fp32", "fp16", "int8")

# Raise when the quantiser's code changes what it writes; graphs on disk are then built again.
QUANTIZER_REVISION = 1
INPUTS_KEY = "made_from"


@dataclass(frozen=True)
class PrecisionRecipe:
    """How the graphs of one architecture are made from its FP32 graph.

    Attributes:
        float_layers: layers that INT8 leaves in float (patterns of ``builders.graphs.quantize``).
        smoothing: strength of the smoothing of MatMuls in INT8, 0 to 1. The default suits
            transformers; a graph of convolutions has nothing to smooth.
        weights_only: INT8 is for the weights alone; activations stay in float.
        fp32_layers: layers that FP16 leaves in FP32.
    """

    float_layers: tuple[str, ...] = ()
    smoothing: float = 0.8
    weights_only: bool = False
    fp32_layers: tuple[str, ...] = ()


# The first layers of EfficientNet-Lite work on few channels of wide range, whose rounding errors
# all later layers inherit, and depthwise convolutions gain no time from INT8: docs/quality.md has
# what each choice brings and costs.
EFFICIENTNET_FLOAT_LAYERS = (
    r"(.*\.)?trunk\._conv_stem\..*",
    r"(.*\.)?trunk\._blocks\.[0-8]\..*",
    r".*_depthwise_conv.*",
)
# What chooses and places the boxes works on coordinates, of which INT8 knows steps of two pixels
# and more; most of the arithmetic is in what comes before.
DETR_FLOAT_LAYERS = (r"predict\..*(decoder|enc_\w+|class_embed|bbox_embed)\..*",)
RECIPES = {
    "efficientnet_lite0": PrecisionRecipe(float_layers=EFFICIENTNET_FLOAT_LAYERS),
    # Its projector reads a histogram beside features of quite another range.
    "efficientnet_llama": PrecisionRecipe(float_layers=(*EFFICIENTNET_FLOAT_LAYERS, "projector")),
    "efficientnet_detector": PrecisionRecipe(
        float_layers=(*EFFICIENTNET_FLOAT_LAYERS, r"head\.(box|score)\.\d\.out.*")
    ),
    "rt_detr_v2": PrecisionRecipe(float_layers=DETR_FLOAT_LAYERS),
    "d_fine": PrecisionRecipe(float_layers=DETR_FLOAT_LAYERS),
    "rf_detr": PrecisionRecipe(float_layers=DETR_FLOAT_LAYERS),
}
# A few channels of a language model's states are so large that their squares exceed FP16.
DECODER_RECIPE = PrecisionRecipe(weights_only=True, fp32_layers=(r".*norm",))


def recipe_of(family: str) -> PrecisionRecipe:
    """The recipe of a family of models; INT8 is for every layer of one without."""
    return RECIPES.get(family, PrecisionRecipe())


def precisions_to_serve(precision: str, recipe: PrecisionRecipe) -> list[str]:
    """The precisions of the graphs that the CPU profile chooses from (``Bundle.precisions``).

    INT8 activations need a CPU whose INT8 products are exact; elsewhere FP32 takes their place,
    which is right and, for transformers, no slower there (docs/quality.md).
    """
    return [precision] if precision != "int8" or recipe.weights_only else [precision, "fp32"]


def graphs_folder(repository: Path) -> Path:
    """Where the graphs lie that a model repository is built from: ``build/graphs`` beside it."""
    return repository.resolve().parent / "build" / "graphs"


def graph_path(folder: Path, bundle: str, model: str, precision: str) -> Path:
    """Where a graph lies.

    Raises:
        BundleError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise BundleError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    return folder / bundle / f"{model}.{precision}.onnx"


def graph_from_fp32(
    source: Path,
    precision: str,
    recipe: PrecisionRecipe,
    calibration: Callable[[], Calibration],
    report: Report,
) -> Path:
    """The graph of ``source`` in a precision, built unless it lies there, made from the same.

    Args:
        source: ``<model>.fp32.onnx``; the other precisions lie beside it.
        precision: one of ``PRECISIONS``.
        recipe: how the others are made.
        calibration: called for INT8 activations alone.
        report: called with a line before something is built.

    Raises:
        BundleError: unknown precision, no FP32 graph, or the graph cannot be built so. There is
            no weaker precision under the same name.
    """
    if not source.is_file():
        raise BundleError(f"{source} is missing; build it with `make models`")
    model, _, _ = source.name.partition(".")
    target = graph_path(source.parent.parent, source.parent.name, model, precision)
    if precision == "fp32":
        return source
    recipe_digest = hashlib.sha256(repr(recipe).encode()).hexdigest()
    inputs = f"{QUANTIZER_REVISION} {precision} {file_sha256(source)} {recipe_digest}"
    if precision == "fp16":
        if not _is_made_from(target, inputs):
            report(f"{model}: converting to FP16")
            fp32_nodes = nodes_of_layers(source, recipe.fp32_layers, op_types=None)
            metadata = {INPUTS_KEY: inputs}
            fp16_onnx_from_onnx(source, target, fp32_nodes=fp32_nodes, metadata=metadata)
        return target
    if recipe.weights_only:
        if not _is_made_from(target, inputs):
            report(f"{model}: quantising weights to INT8")
            int8_weights_onnx_from_onnx(source, target, metadata={INPUTS_KEY: inputs})
        return target
    data = calibration()
    inputs = f"{inputs} {data.digest}"
    if not _is_made_from(target, inputs):
        report(f"{model}: calibrating and quantising to INT8")
        int8_onnx_from_onnx(
            source,
            target,
            data.feeds(),
            exclude_nodes=nodes_of_layers(source, recipe.float_layers),
            smoothing=recipe.smoothing,
            metadata={INPUTS_KEY: inputs},
        )
    return target


def publish_graph(graph: Path, target: Path) -> None:
    """Copy a graph to where it is served from, at once or not at all."""
    with graph.open("rb") as source, atomic_write(target) as stream:
        shutil.copyfileobj(source, stream)


def _is_made_from(path: Path, inputs: str) -> bool:
    """Whether a graph lies there that says it was made from the same inputs."""
    if not path.is_file():
        return False
    model = onnx.load(str(path), load_external_data=False)
    return any(item.key == INPUTS_KEY and item.value == inputs for item in model.metadata_props)
