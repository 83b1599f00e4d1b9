"""The detector's graph from its torch module, and the check that both find the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bls_models.errors import BundleError
from bls_models.objects.boxes import overlaps
from bls_models.specs import OBJECT_DETECTOR
from bls_models.vectors import FloatArray, Pixels
from builders.detectors.modules import DetectorModule
from builders.graphs.export import onnx_from_torch
from builders.graphs.onnx_runtime import literal_session
from reporting.progress import Report


@dataclass(frozen=True)
class BoxLikeness:
    """How near the boxes of two detectors are, over all boxes of the first by their scores.

    Attributes:
        overlap: mean of each box's overlap (intersection over union) with the nearest one of the
            other.
        difference: mean of the difference of their scores.
    """

    overlap: float
    difference: float

    def __str__(self) -> str:
        """For a line of progress."""
        return f"overlap {self.overlap:.4f}, scores {self.difference:.4f} apart"


# What boxes are made larger by on each side before they are compared, in shares of the picture:
# one without any area, as beside the picture, would overlap with nothing, and what differs by less
# than a pixel is the same.
MARGIN = 1 / 256

# FP32 on both sides. Not nearer: where two boxes are equally good, one of them may be left out.
EXPORTED = BoxLikeness(overlap=0.98, difference=0.01)
# Far more than INT8 and FP16 do to a model that can be rounded so, far less than one that
# overflows or that is wired wrongly.
SERVED = BoxLikeness(overlap=0.75, difference=0.15)


def export_detector(module: DetectorModule, images: Pixels, path: Path, report: Report) -> None:
    """Write the FP32 graph and compare it with its module.

    Args:
        module: the detector.
        images: pictures (B, S, S, 3) UINT8 to trace and check with, two at least.
        path: where the graph goes.
        report: called with a line on each step.

    Raises:
        BundleError: the graph finds other things than the module.
    """
    report(f"{OBJECT_DETECTOR.name}: exporting")
    onnx_from_torch(module, OBJECT_DETECTOR, {"image": images}, path, {"image": {0: "batch"}})
    for batch in (images, images[:1]):
        found = likeness_to_original(path, module, batch)
        if not _near(found, EXPORTED):
            raise BundleError(
                f"{path}: {found} from the torch original, expected {EXPORTED} at most; the "
                "export is wrong, do not serve it"
            )
    report(f"{OBJECT_DETECTOR.name}: {found} from the original")


def check_served(path: Path, module: DetectorModule, images: Pixels, report: Report) -> None:
    """Check that a graph in the precision that is served still finds what the original finds.

    Args:
        path: ``object_detector.<precision>.onnx``.
        module: the original.
        images: photos (B, S, S, 3) UINT8.
        report: called with a line.

    Raises:
        BundleError: it does not.
    """
    model, precision, _ = path.name.split(".")
    found = likeness_to_original(path, module, images)
    if not _near(found, SERVED):
        raise BundleError(
            f"{path}: {found} from the original, expected {SERVED} at most: {model} cannot be "
            f"served as {precision}; choose another precision in the bundle's [object_detector]"
        )
    report(f"{model}: {precision}: {found} from the original")


def likeness_to_original(path: Path, module: DetectorModule, images: Pixels) -> BoxLikeness:
    """How near a graph, as it stands, is to its module.

    Raises:
        BundleError: the graph gives numbers that are not finite.
    """
    with torch.inference_mode():
        box, score = (output.numpy() for output in module(torch.from_numpy(images)))
    found, found_score = literal_session(path).run(OBJECT_DETECTOR.output_names, {"image": images})
    if not (np.isfinite(found).all() and np.isfinite(found_score).all()):
        raise BundleError(
            f"{path} gives numbers that are not finite; choose a precision with a larger range in "
            "the bundle's [object_detector]"
        )
    return likeness(box, score, found, found_score)


def likeness(
    box: FloatArray, score: FloatArray, other_box: FloatArray, other_score: FloatArray
) -> BoxLikeness:
    """How near other boxes are to those of an original.

    The order does not matter: what is nearly as good as its neighbour may change places with it.

    Args:
        box: (B, N, 4), of the original.
        score: (B, N), likewise.
        other_box: (B, M, 4).
        other_score: (B, M).
    """
    grown = np.array([-MARGIN, -MARGIN, MARGIN, MARGIN], np.float32)
    shared = np.stack(
        [overlaps(*pair) for pair in zip(box + grown, other_box + grown, strict=True)]
    )  # (B, N, M)
    nearest = shared.argmax(axis=2)  # (B, N)
    best = np.take_along_axis(shared, nearest[:, :, None], axis=2)[:, :, 0]
    apart = np.abs(np.take_along_axis(other_score, nearest, axis=1) - score)
    return BoxLikeness(
        float(np.average(best, weights=score)), float(np.average(apart, weights=score))
    )


def _near(found: BoxLikeness, limit: BoxLikeness) -> bool:
    return found.overlap >= limit.overlap and found.difference <= limit.difference
