"""Train the demo captioner, or measure it: ``python -m builders.caption_training``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builders.caption_training.evaluation import (
    Judgement,
    accuracies,
    captions_of_features,
    judge,
    threshold,
)
from builders.caption_training.features import FeatureCache
from builders.caption_training.phrases import SPOKEN
from builders.caption_training.samples import (
    Sample,
    clothing_samples,
    product_samples,
    split_by_product,
)
from builders.caption_training.tokenizer import tokenizer_from_captions
from builders.caption_training.training import TrainingSettings, new_head, settings_for, train
from builders.captioners.efficientnet import CaptionerCheckpoint, read_captioner_checkpoint
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.graphs.calibration import pictures_of_folder
from builders.training_command import train_and_measure
from reporting.progress import Report, counted_lines
from seed.render.palette import HEX

FOREIGN_PICTURES = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Train and measure, or only measure; returns the exit status."""
    return train_and_measure(_parser().parse_args(argv), _train, _evaluate)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m builders.caption_training", description=__doc__
    )
    add = parser.add_argument
    add("--renders", type=Path, nargs="*", default=[], help="catalogues of `python -m seed.render "
        "--variants` to train on, beside the sample one")  # fmt: skip
    add("--held-out", type=Path, nargs="+", required=True, help="such catalogues to measure on")
    add("--clothing", type=Path, required=True, help="folder of the clothing data set")
    add("--foreign", type=Path, help="folder of photos of other things, to find a threshold for "
        "the confidence")  # fmt: skip
    add("--out", type=Path, default=Path("builders/demo_captioner"))
    add("--cache", type=Path, default=Path("build/caption_features"))
    add("--evaluate", action="store_true", help="measure what --out holds")
    add("--seed", type=int, default=TrainingSettings.seed)
    add("--steps", type=int, default=TrainingSettings.steps)
    add("--copies", type=int, default=5, help="altered copies of each picture")
    add("--threads", type=int, default=2, help="of torch")
    return parser


def _train(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    """Train and write the checkpoint; returns what it was trained on."""
    seen, _ = split_by_product(read_catalogue(SAMPLE_CATALOGUE))
    variants = [item for folder in arguments.renders for item in read_catalogue(folder)]
    # The sample catalogue's queries are what search is measured with.
    renders = [*product_samples(seen, queries=False), *product_samples(variants)]
    photos = [item for item in clothing_samples(arguments.clothing, "train") if item.colours]
    samples = [*renders, *photos]
    # Recoloured copies have colours of the palette that no product may have.
    words = [SPOKEN.get(name, name) for name in HEX]
    tokenizer = tokenizer_from_captions([*words, *(sample.caption for sample in samples)])
    settings = settings_for(tokenizer)
    training = TrainingSettings(steps=arguments.steps, seed=arguments.seed)
    cache = FeatureCache(settings, arguments.cache, arguments.seed)
    copies = cache.copies(samples, arguments.copies, counted_lines(report, "pictures read"))
    head = new_head(settings, training.seed)
    lines = counted_lines(report, "steps")
    train(
        head,
        copies,
        [*_balanced(renders), *_balanced(photos)],
        tokenizer,
        settings,
        training,
        lambda step, loss: lines(step, training.steps, f", loss {loss:.3f}"),
    )
    CaptionerCheckpoint(settings, head, tokenizer.to_str(pretty=True)).write(arguments.out)
    return {
        **asdict(training),
        "copies": arguments.copies,
        "sample_products": sorted(str(item.product["product_id"]) for item in seen),
        "rendered_variants": len(variants),
        "pictures_of_products": len(renders),
        "clothing_photos": len(photos),
    }


def _evaluate(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    """Measure the checkpoint on what it was not trained on."""
    checkpoint = read_captioner_checkpoint(arguments.out)
    cache = FeatureCache(checkpoint.settings, arguments.cache)
    _, unseen = split_by_product(read_catalogue(SAMPLE_CATALOGUE))
    variants = [item for folder in arguments.held_out for item in read_catalogue(folder)]
    sets = {
        "unseen_variants": product_samples(variants),
        "unseen_sample_products": product_samples(unseen),
        "clothing_test": clothing_samples(arguments.clothing, "test"),
    }
    judgements = {
        name: _judged(checkpoint, cache, samples, report) for name, samples in sets.items()
    }
    metrics: dict[str, Any] = {
        "held_out": {name: accuracies(items) for name, items in judgements.items()}
    }
    for name, values in metrics["held_out"].items():
        report(f"{name}: {values}")
    if arguments.foreign is not None:
        pictures = pictures_of_folder(arguments.foreign, FOREIGN_PICTURES)
        strange = [Sample(picture, "", ()) for picture in pictures]
        foreign = _judged(checkpoint, cache, strange, report)
        right = [item for items in judgements.values() for item in items if item.noun]
        metrics["confidence"] = threshold(
            [item.caption.confidence for item in right],
            [item.caption.confidence for item in foreign],
        )
        report(f"confidence: {metrics['confidence']}")
    return metrics


def _judged(
    checkpoint: CaptionerCheckpoint,
    cache: FeatureCache,
    samples: Sequence[Sample],
    report: Report,
) -> list[Judgement]:
    features = cache.features(samples, counted_lines(report, "pictures read"))
    captions = captions_of_features(checkpoint, features)
    return [judge(*pair) for pair in zip(samples, captions, strict=True)]


def _balanced(samples: Sequence[Sample]) -> list[float]:
    """Weights that draw every noun equally often; their sum is 1."""
    counts = Counter(sample.noun for sample in samples)
    return [1 / (counts[sample.noun] * len(counts)) for sample in samples]


if __name__ == "__main__":
    sys.exit(main())
