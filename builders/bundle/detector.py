"""The object detector's part of a bundle: graph and manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bls_models.bundle import DetectorBundle
from bls_models.images.preprocessing import Preprocess
from bls_models.specs import OBJECT_DETECTOR
from builders.bundle.fingerprints import detector_fingerprint_of
from builders.config import DetectorConfig
from builders.detectors.families import detector_from_config
from builders.detectors.graphs import check_served, export_detector
from builders.engines.metadata import metadata_path
from builders.graphs.calibration import (
    BATCH_SIZE,
    CalibrationData,
    example_images,
    image_feeds,
    spread,
)
from reporting.progress import Report


class DetectorBuild:
    """Builds the object detector of one bundle, in the order of the methods.

    Args:
        config: the bundle's ``[object_detector]``.

    Raises:
        BundleError: the checkpoint is missing or does not fit.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        self._module = detector_from_config(config)

    @property
    def preprocess(self) -> Preprocess:
        """How its pictures become pixels."""
        return self._module.pixels.preprocess

    def export(self, source: Path, report: Report) -> None:
        """Write the FP32 graph and compare it with the original.

        Raises:
            BundleError: it finds other things.
        """
        images = example_images(self._module.pixels.image_size)
        export_detector(self._module, images, source, report)

    def check_served(
        self, graph: Path, data: Callable[[], CalibrationData], report: Report
    ) -> None:
        """Compare the graph that is to be served with the original, on photos.

        Random pictures would do for an export, but a trained model finds nothing in them.

        Raises:
            BundleError: the graph's precision loses too much.
        """
        if graph.name == f"{OBJECT_DETECTOR.name}.fp32.onnx":
            return
        pictures = spread(data().pictures, BATCH_SIZE)
        (feed,) = image_feeds(pictures, self.preprocess)
        check_served(graph, self._module, feed["image"], report)

    def manifest(self) -> DetectorBundle:
        """What the serving code has to know."""
        pixels, config = self._module.pixels, self._config
        return DetectorBundle(
            fingerprint=detector_fingerprint_of(config),
            image_size=pixels.image_size,
            resize=pixels.resize,
            boxes=config.boxes,
            min_score=config.min_score,
        )


def remove_detector(repository: Path) -> None:
    """Remove the engine that the detector of an earlier bundle left."""
    plan = repository / OBJECT_DETECTOR.name / "1" / "model.plan"
    for path in (plan, metadata_path(plan)):
        path.unlink(missing_ok=True)
