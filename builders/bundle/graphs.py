"""The graphs of a bundle in any precision, from its FP32 graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import BundleError
from bls_models.images.preprocessing import Preprocess
from bls_models.specs import (
    CAPTION_DECODER,
    CAPTION_VISION,
    IMAGE_ENCODER,
    OBJECT_DETECTOR,
    TEXT_ENCODER,
)
from builders.config import BundleConfig
from builders.graphs.calibration import (
    Calibration,
    CalibrationData,
    calibration_from_catalogue,
    image_calibration,
    text_calibration,
)
from builders.graphs.precisions import (
    DECODER_RECIPE,
    PrecisionRecipe,
    graph_from_fp32,
    graph_path,
    recipe_of,
)
from reporting.progress import Report


@dataclass(frozen=True)
class GraphInputs:
    """What turns pictures and texts into the inputs of a bundle's graphs.

    Attributes:
        pictures: how the image encoder's pictures become pixels.
        tokenizer_json: the text encoder's tokenizer.
        caption_pictures: how the captioner's pictures become pixels; None: there is none.
        detector_pictures: likewise of the object detector.
    """

    pictures: Preprocess
    tokenizer_json: str
    caption_pictures: Preprocess | None = None
    detector_pictures: Preprocess | None = None


class BundleGraphs:
    """Makes a model's graph in a precision, where it is not there yet.

    Args:
        folder: holds ``<bundle>/<model>.<precision>.onnx``, the FP32 ones at least.
        config: the bundle.
        inputs: of its graphs, for calibration.
        report: called with a line before something is built.
        calibration_data: called where a precision needs it.
    """

    def __init__(
        self,
        folder: Path,
        config: BundleConfig,
        inputs: GraphInputs,
        report: Report,
        calibration_data: Callable[[], CalibrationData] = calibration_from_catalogue,
    ) -> None:
        self._folder = folder
        self._bundle = config.name
        self._report = report

        def pictures(preprocess: Preprocess) -> Callable[[], Calibration]:
            return lambda: image_calibration(calibration_data().pictures, preprocess)

        self._models: dict[str, tuple[PrecisionRecipe, Callable[[], Calibration]]] = {
            IMAGE_ENCODER.name: (
                recipe_of(config.image_encoder.family),
                pictures(inputs.pictures),
            ),
            TEXT_ENCODER.name: (
                recipe_of(config.text_encoder.family),
                lambda: text_calibration(calibration_data().texts, inputs.tokenizer_json),
            ),
        }
        if config.captioner is not None and inputs.caption_pictures is not None:
            self._models[CAPTION_VISION.name] = (
                recipe_of(config.captioner.family),
                pictures(inputs.caption_pictures),
            )
            self._models[CAPTION_DECODER.name] = (DECODER_RECIPE, _no_calibration)
        if config.object_detector is not None and inputs.detector_pictures is not None:
            self._models[OBJECT_DETECTOR.name] = (
                recipe_of(config.object_detector.family),
                pictures(inputs.detector_pictures),
            )

    def path(self, model: str, precision: str) -> Path:
        """A model's graph, made now if it is not there.

        Raises:
            BundleError: the FP32 graph is missing, or it cannot be built in the precision.
        """
        recipe, calibration = self._models[model]
        source = graph_path(self._folder, self._bundle, model, "fp32")
        return graph_from_fp32(source, precision, recipe, calibration, self._report)


def _no_calibration() -> Calibration:
    raise BundleError("a decoder's activations are not quantised, so there is nothing to calibrate")
