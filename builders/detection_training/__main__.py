"""Train the demo detector, or measure it: ``python -m builders.detection_training``."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bls_models.objects.detector import MOST_SHARED
from builders.detection_training.alterations import altered_copy
from builders.detection_training.evaluation import (
    counts_of,
    found_objects,
    precision_and_recall,
    recall_of_separate,
)
from builders.detection_training.features import Examples, FeatureCache
from builders.detection_training.scenes import NO_BOXES, Boxes, Scene, SceneFile, read_scenes
from builders.detection_training.sources import (
    composer_of_pictures,
    garments_of_photos,
    photos_of,
)
from builders.detection_training.training import SETTINGS, TrainingSettings, new_head, train
from builders.detectors.efficientnet import DetectorCheckpoint, read_detector_checkpoint
from builders.graphs.calibration import pictures_of_folder
from builders.training_command import train_and_measure
from reporting.progress import Report, counted_lines

# How often each source is drawn: composites, rendered scenes, photos of one garment.
WEIGHTS = (0.55, 0.3, 0.15)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and measure, or only measure; returns the exit status."""
    return train_and_measure(_parser().parse_args(argv), _train, _evaluate)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m builders.detection_training", description=__doc__
    )
    add = parser.add_argument
    add("--scenes", type=Path, nargs="*", default=[], help="folders of `python -m seed.render "
        "--scenes` to train on")  # fmt: skip
    add("--held-out", type=Path, nargs="+", required=True, help="such folders to measure on")
    add("--clothing", type=Path, required=True, help="folder of the clothing data set")
    add("--grocery", type=Path, required=True, help="folder of the grocery data set")
    add("--places", type=Path, help="folder of panoramas of real places, to paste things on")
    add("--photos", type=Path, help="folder of real photos with a scenes.jsonl, to measure on")
    add("--min-score", type=float, default=0.5, help="of objects that are counted")
    add("--out", type=Path, default=Path("builders/demo_detector"))
    add("--cache", type=Path, default=Path("build/detection_features"))
    add("--evaluate", action="store_true", help="measure what --out holds")
    add("--seed", type=int, default=TrainingSettings.seed)
    add("--steps", type=int, default=TrainingSettings.steps)
    add("--composites", type=int, default=8192, help="pictures made of cut-out things")
    add("--copies", type=int, default=8, help="of each rendered scene, all but one altered")
    add("--threads", type=int, default=2, help="of torch")
    return parser


def _train(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    """Train and write the checkpoint; returns what it was trained on."""
    training = TrainingSettings(steps=arguments.steps, seed=arguments.seed)
    cache = FeatureCache(SETTINGS, arguments.cache)
    garments = garments_of_photos(photos_of(arguments.clothing, "train"))
    report(f"{len(garments)} garments are told from their ground")
    composer = composer_of_pictures(
        arguments.grocery, garments, photos_of(arguments.clothing, "train"), arguments.places
    )
    folders = (arguments.grocery, arguments.clothing, arguments.places)
    composites = cache.examples(
        f"composites {training.seed} {folders}",
        arguments.composites,
        lambda number: composer.draw(np.random.default_rng([training.seed, number])),
        counted_lines(report, "composites"),
    )
    files = [item for folder in arguments.scenes for item in read_scenes(folder)]
    scenes = _copies(cache, files, arguments.copies, training.seed, report)
    singles = _copies(
        cache,
        [item.scene for item in garments],
        arguments.copies // 2,
        training.seed,
        report,
    )
    head = new_head(SETTINGS, training.seed)
    lines = counted_lines(report, "steps")
    sources = [composites, scenes, singles]
    train(
        head,
        [parts for parts in sources if parts],
        [weight for weight, parts in zip(WEIGHTS, sources, strict=True) if parts],
        training,
        lambda step, loss: lines(step, training.steps, f", loss {loss:.3f}"),
    )
    DetectorCheckpoint(SETTINGS, head).write(arguments.out)
    return {
        **asdict(training),
        "composites": arguments.composites,
        "rendered_scenes": len(files),
        "rendered_products": len({label for item in files for label in item.labels}),
        "garments": len(garments),
        "copies": arguments.copies,
    }


def _evaluate(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    """Measure the checkpoint on what it was not trained on."""
    checkpoint = read_detector_checkpoint(arguments.out)
    cache = FeatureCache(checkpoint.settings, arguments.cache)
    head, score = checkpoint.head, arguments.min_score
    files = [item for folder in arguments.held_out for item in read_scenes(folder)]
    examples = _copies(cache, files, 1, 0, report)
    found = found_objects(head, examples, MOST_SHARED)
    metrics: dict[str, Any] = {
        "held_out": {"scenes": len(files), **precision_and_recall(found, _truth(examples), score)}
    }
    metrics["single"] = {
        name: counts_of(found_objects(head, _of_photos(cache, photos, report), MOST_SHARED), score)
        for name, photos in {
            "clothing_test": photos_of(arguments.clothing, "test"),
            "grocery_val": pictures_of_folder(arguments.grocery / "val", 296),
        }.items()
    }
    if arguments.photos is not None:
        files = read_scenes(arguments.photos)
        examples = _copies(cache, files, 1, 0, report)
        found = found_objects(head, examples, MOST_SHARED)
        labels = [item.labels for item in files]
        metrics["photos"] = {
            "photos": len(files),
            **precision_and_recall(found, _truth(examples), score),
            "ten_boxes": recall_of_separate(found, _truth(examples), labels),
            "min_score": recall_of_separate(
                [item.above(score) for item in found], _truth(examples), labels
            ),
        }
    for name, values in metrics.items():
        report(f"{name}: {values}")
    return {"min_score": score, "most_shared": MOST_SHARED, **metrics}


def _copies(
    cache: FeatureCache, files: Sequence[SceneFile], copies: int, seed: int, report: Report
) -> list[Examples]:
    """Scenes, each as it is and altered."""

    def draw(number: int) -> Scene:
        scene = files[number // copies].read()
        if number % copies == 0:
            return scene
        return altered_copy(scene, np.random.default_rng([seed, number]))

    names = hashlib.sha256()
    for item in files:
        names.update(item.path.read_bytes() + item.boxes.tobytes())
    count = len(files) * copies
    lines = counted_lines(report, "pictures read")
    return cache.examples(f"{names.hexdigest()} {copies} {seed}", count, draw, lines)


def _of_photos(cache: FeatureCache, photos: Sequence[Path], report: Report) -> list[Examples]:
    """Photos without boxes."""
    return _copies(cache, [SceneFile(path, NO_BOXES, ()) for path in photos], 1, 0, report)


def _truth(examples: Sequence[Examples]) -> list[Boxes]:
    return [boxes for part in examples for boxes in part.boxes]


if __name__ == "__main__":
    sys.exit(main())
