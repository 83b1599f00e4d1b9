"""The encoders' graphs of a bundle in any precision, from its FP32 graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bls_models.images import Preprocess
from bls_models.specs import IMAGE_ENCODER, TEXT_ENCODER
from builders.calibration import (
    Calibration,
    CalibrationData,
    calibration_from_catalogue,
    image_calibration,
    text_calibration,
)
from builders.config import BundleConfig
from builders.graphs import graph_from_fp32, graph_path, int8_recipe_of


class BundleGraphs:
    """Makes an encoder's graph in a precision, where it is not there yet.

    Args:
        folder: holds ``<bundle>/<model>.<precision>.onnx``, the FP32 ones at least.
        config: the bundle.
        preprocess: how its pictures become pixels.
        tokenizer_json: its tokenizer.
        report: called with a line before something is built.
        calibration_data: called where a precision needs it.
    """

    def __init__(
        self,
        folder: Path,
        config: BundleConfig,
        preprocess: Preprocess,
        tokenizer_json: str,
        report: Callable[[str], None],
        calibration_data: Callable[[], CalibrationData] = calibration_from_catalogue,
    ) -> None:
        self._folder = folder
        self._bundle = config.name
        self._report = report
        self._encoders: dict[str, tuple[str, Callable[[], Calibration]]] = {
            IMAGE_ENCODER.name: (
                config.image_encoder.family,
                lambda: image_calibration(calibration_data().pictures, preprocess),
            ),
            TEXT_ENCODER.name: (
                config.text_encoder.family,
                lambda: text_calibration(calibration_data().texts, tokenizer_json),
            ),
        }

    def path(self, model: str, precision: str) -> Path:
        """An encoder's graph, made now if it is not there.

        Raises:
            BundleError: the FP32 graph is missing, or it cannot be built in the precision.
        """
        family, calibration = self._encoders[model]
        source = graph_path(self._folder, self._bundle, model, "fp32")
        return graph_from_fp32(source, precision, int8_recipe_of(family), calibration, self._report)
