"""A built bundle's graphs in further precisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bls_models.bundle import Bundle
from bls_models.images import Preprocess
from bls_models.specs import IMAGE_ENCODER, TEXT_ENCODER
from builders.bundle import TOKENIZER
from builders.calibration import (
    CalibrationData,
    calibration_from_catalogue,
    image_calibration,
    text_calibration,
)
from builders.config import BundleConfig
from builders.graphs import graph_from_fp32, graph_path, graphs_folder, int8_recipe_of


def build_graphs(
    config: BundleConfig,
    repository: Path,
    precisions: Sequence[str],
    report: Callable[[str], None],
    calibration_data: Callable[[], CalibrationData] = calibration_from_catalogue,
) -> None:
    """Make every encoder's graph in each precision, where it is not there yet.

    Args:
        config: the bundle, which the repository must hold.
        repository: the model repository; the graphs lie in ``build/graphs`` beside it.
        precisions: of ``builders.graphs.PRECISIONS``.
        report: called with a line before something is built.
        calibration_data: called where a precision needs it.

    Raises:
        BundleError: the FP32 graphs are missing, or one cannot be built in a precision.
    """
    bundle = Bundle.read(repository)
    preprocess = Preprocess(bundle.image_size, bundle.resize)
    tokenizer_json = (repository / TOKENIZER).read_text(encoding="utf-8")
    for spec, family, calibration in (
        (
            IMAGE_ENCODER,
            config.image_encoder.family,
            lambda: image_calibration(calibration_data().pictures, preprocess),
        ),
        (
            TEXT_ENCODER,
            config.text_encoder.family,
            lambda: text_calibration(calibration_data().texts, tokenizer_json),
        ),
    ):
        source = graph_path(graphs_folder(repository), bundle.name, spec.name, "fp32")
        for precision in precisions:
            graph_from_fp32(source, precision, int8_recipe_of(family), calibration, report)
