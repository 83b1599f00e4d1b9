"""Builds a bundle: graphs, tokenizers and manifest, into a model repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bls_models.bundle import MANIFEST_FILE, TOKENIZER_FILE, Bundle, file_sha256, graph_file
from bls_models.errors import BundleError
from bls_models.specs import (
    CAPTION_DECODER,
    CAPTION_VISION,
    ENGINE_SPECS,
    IMAGE_ENCODER,
    OBJECT_DETECTOR,
    TEXT_ENCODER,
    ModelSpec,
)
from builders.bundle.fingerprints import (
    caption_fingerprint_of,
    detector_fingerprint_of,
    fingerprint_of,
)
from builders.bundle.graphs import BundleGraphs, GraphInputs
from builders.config import BundleConfig, check_shared_space
from builders.graphs.calibration import (
    CalibrationData,
    Feed,
    calibration_from_catalogue,
    example_images,
)
from builders.graphs.precisions import (
    DECODER_RECIPE,
    graph_path,
    graphs_folder,
    precisions_to_serve,
    publish_graph,
    recipe_of,
)
from reporting.progress import Report

if TYPE_CHECKING:
    import torch

    from builders.bundle.captioner import CaptionerBuild

CHECK_TEXTS = [
    "red mug",
    "a tall blue water bottle with white stripes, for sport and for the office",
    "Bürostuhl, schwarz",
]


def is_built(config: BundleConfig, repository: Path) -> bool:
    """Whether the repository already holds this bundle, complete and undamaged."""
    if not (repository / MANIFEST_FILE).is_file():
        return False
    try:
        bundle = Bundle.read(repository)
        bundle.check_files(repository)
    except BundleError:
        return False
    return _built_parts(bundle) == _wanted_parts(config) and (
        bundle.name,
        bundle.shared_space,
        bundle.fingerprint,
        bundle.precisions,
        bundle.min_scores,
        bundle.languages,
    ) == (
        config.name,
        config.shared_space,
        fingerprint_of(config),
        precisions_of(config),
        config.min_scores,
        config.text_encoder.languages,
    )


def _built_parts(bundle: Bundle) -> list[tuple[str, float] | None]:
    """Fingerprint and least score of the captioner and the detector that are built."""
    captioner, detector = bundle.captioner, bundle.detector
    return [
        None if captioner is None else (captioner.fingerprint, captioner.min_confidence),
        None if detector is None else (detector.fingerprint, detector.min_score),
    ]


def _wanted_parts(config: BundleConfig) -> list[tuple[str, float] | None]:
    """Likewise, as they should be."""
    captioner, detector = config.captioner, config.object_detector
    return [
        None
        if captioner is None
        else (caption_fingerprint_of(captioner), captioner.min_confidence),
        None if detector is None else (detector_fingerprint_of(detector), detector.min_score),
    ]


def precisions_of(config: BundleConfig) -> dict[str, list[str]]:
    """The precisions of the graphs to serve, by model; see ``Bundle.precisions``."""
    image, text, captioner = config.image_encoder, config.text_encoder, config.captioner
    asked = {
        IMAGE_ENCODER.name: (image.precision, recipe_of(image.family)),
        TEXT_ENCODER.name: (text.precision, recipe_of(text.family)),
    }
    if captioner is not None:
        asked[CAPTION_VISION.name] = (captioner.vision_precision, recipe_of(captioner.family))
        asked[CAPTION_DECODER.name] = (captioner.decoder_precision, DECODER_RECIPE)
    if config.object_detector is not None:
        detector = config.object_detector
        asked[OBJECT_DETECTOR.name] = (detector.precision, recipe_of(detector.family))
    return {model: precisions_to_serve(*choice) for model, choice in asked.items()}


def build_bundle(
    config: BundleConfig,
    repository: Path,
    report: Report,
    calibration_data: Callable[[], CalibrationData] = calibration_from_catalogue,
) -> Bundle:
    """Build everything that a bundle describes.

    Args:
        config: the bundle.
        repository: the model repository to write into.
        report: called with a line on each step.
        calibration_data: called where a precision needs it.

    Raises:
        BundleError: a checkpoint is missing or wrong, a graph differs from its original, or it
            cannot be built in the precision that is asked for.
    """
    # torch takes seconds to import, and a start that finds everything built does without it.
    from builders.bundle.captioner import CaptionerBuild
    from builders.bundle.detector import DetectorBuild
    from builders.encoders.image import image_encoder_from_config
    from builders.encoders.text import text_encoder_from_config, tokenizer_from_config

    # Whatever is wrong with the checkpoints shows here, before anything is overwritten.
    check_shared_space(config)
    report(f"image_encoder: loading {config.image_encoder.checkpoint}")
    image_module = image_encoder_from_config(config.image_encoder)
    report(f"text_encoder: loading {config.text_encoder.checkpoint}")
    text_module = text_encoder_from_config(config.text_encoder)
    tokenizer_json = tokenizer_from_config(config.text_encoder)
    captioner = None
    if config.captioner is not None:
        report(f"captioner: loading {config.captioner.checkpoint}")
        captioner = CaptionerBuild(config.captioner)
    detector = None
    if config.object_detector is not None:
        report(f"object_detector: loading {config.object_detector.checkpoint}")
        detector = DetectorBuild(config.object_detector)

    folder = graphs_folder(repository)
    sources = {
        model: graph_path(folder, config.name, model, "fp32") for model in precisions_of(config)
    }
    image_source, text_source = sources[IMAGE_ENCODER.name], sources[TEXT_ENCODER.name]
    repository.mkdir(parents=True, exist_ok=True)
    # A half-built repository must not pass for a built one.
    (repository / MANIFEST_FILE).unlink(missing_ok=True)

    report(f"image_encoder: exporting {config.image_encoder.family}")
    pixels = example_images(image_module.pixels.image_size)
    batches: list[Feed] = [{"image": pixels}, {"image": pixels[:1]}]
    _export_encoder(image_module, IMAGE_ENCODER, image_source, batches, {0: "batch"}, report)

    report(f"text_encoder: exporting {config.text_encoder.family}")
    tokenizer = repository / TOKENIZER_FILE
    tokenizer.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.write_text(tokenizer_json, encoding="utf-8")
    texts = _example_texts(tokenizer_json)
    batches = [texts, {name: ids[:1, :5] for name, ids in texts.items()}]
    dims = {0: "batch", 1: "sequence"}
    _export_encoder(text_module, TEXT_ENCODER, text_source, batches, dims, report)

    if captioner is not None:
        captioner.export(sources, report)
    if detector is not None:
        detector.export(sources[OBJECT_DETECTOR.name], report)
    inputs = GraphInputs(
        image_module.pixels.preprocess,
        tokenizer_json,
        None if captioner is None else captioner.preprocess,
        None if detector is None else detector.preprocess,
    )
    graphs = BundleGraphs(folder, config, inputs, report, calibration_data)
    if detector is not None:
        # The first loses most.
        precision = precisions_of(config)[OBJECT_DETECTOR.name][0]
        detector.check_served(
            graphs.path(OBJECT_DETECTOR.name, precision), calibration_data, report
        )
    files = [tokenizer, *_publish(config, graphs, captioner, repository, report)]
    bundle = Bundle(
        name=config.name,
        fingerprint=fingerprint_of(config),
        image_size=image_module.pixels.image_size,
        resize=image_module.pixels.resize,
        image_dim=_output_length(image_source),
        text_dim=_output_length(text_source),
        max_tokens=config.text_encoder.max_tokens,
        shared_space=config.shared_space,
        files={str(path.relative_to(repository)): file_sha256(path) for path in files},
        precisions=precisions_of(config),
        captioner=None if captioner is None else captioner.manifest(),
        detector=None if detector is None else detector.manifest(),
        keep=image_module.pixels.keep,
        min_scores=config.min_scores,
        languages=config.text_encoder.languages,
    )
    bundle.write(repository)
    return bundle


def _export_encoder(
    module: torch.nn.Module,
    spec: ModelSpec,
    source: Path,
    batches: list[Feed],
    dims: Mapping[int, str],
    report: Report,
) -> None:
    """Write an encoder's FP32 graph, traced with the first batch, and compare it on all of them.

    All inputs have the same free dimensions.
    """
    from builders.graphs.export import check_onnx_against_torch, onnx_from_torch

    free = {tensor.name: dims for tensor in spec.inputs}
    onnx_from_torch(module, spec, batches[0], source, free)
    cosine = check_onnx_against_torch(source, module, spec, batches)
    report(f"{spec.name}: cosine to the original at least {cosine:.6f}")


def _publish(
    config: BundleConfig,
    graphs: BundleGraphs,
    captioner: CaptionerBuild | None,
    repository: Path,
    report: Report,
) -> list[Path]:
    """Put graphs and the captioner's files where they are served from; returns their paths."""
    from builders.bundle.captioner import remove_captioner
    from builders.bundle.detector import remove_detector

    precisions_by_model = precisions_of(config)
    served = {
        model: [graphs.path(model, precision) for precision in precisions]
        for model, precisions in precisions_by_model.items()
    }
    files = []
    if captioner is None:
        remove_captioner(repository)
    else:
        # The first of each loses most.
        captioner.check_served({model: paths[0] for model, paths in served.items()}, report)
        files += captioner.write_files(repository)
    if config.object_detector is None:
        remove_detector(repository)
    for model, precisions in precisions_by_model.items():
        for precision, graph in zip(precisions, served[model], strict=True):
            files.append(repository / graph_file(model, precision))
            publish_graph(graph, files[-1])
    for spec in ENGINE_SPECS:
        for path in set((repository / spec.name).glob("1/model*.onnx")) - set(files):
            path.unlink()
    return files


def _example_texts(tokenizer_json: str) -> Feed:
    """Texts of different lengths as padded ids and mask, INT64 (B, L)."""
    from tokenizers import Tokenizer

    encodings = Tokenizer.from_str(tokenizer_json).encode_batch(CHECK_TEXTS)
    return {
        "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
        "attention_mask": np.array([item.attention_mask for item in encodings], np.int64),
    }


def _output_length(path: Path) -> int:
    """Vector length of a graph with one output (B, D)."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return int(graph.output[0].type.tensor_type.shape.dim[1].dim_value)
