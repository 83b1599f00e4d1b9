"""How often captions of pictures that were not trained on are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from bls_models.captions.captioner import Caption
from builders.caption_training.decoding import greedy_captions
from builders.caption_training.features import Features
from builders.caption_training.phrases import PATTERNS
from builders.caption_training.samples import Sample
from builders.captioners.efficientnet import CaptionerCheckpoint

BATCH = 64

# Thresholds of the confidence that are compared.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class Judgement:
    """One caption against what it should say.

    Attributes:
        sample: the picture.
        caption: what the model wrote.
        noun: whether the noun is right.
        colour: whether the colour is; None: it is not known.
        pattern: whether the pattern is; None: it is known of rendered products alone.
    """

    sample: Sample
    caption: Caption
    noun: bool
    colour: bool | None
    pattern: bool | None


def captions_of_features(checkpoint: CaptionerCheckpoint, features: Features) -> list[Caption]:
    """Captions of pictures from their features (N, 10, F)."""
    settings, head = checkpoint.settings, checkpoint.head
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json)
    captions: list[Caption] = []
    for start in range(0, len(features), BATCH):
        with torch.inference_mode():
            visual = head.projector(torch.from_numpy(features[start : start + BATCH]).float())
        captions += greedy_captions(
            head.language,
            tokenizer,
            visual,
            settings.prompt_ids,
            settings.image_token_id,
            settings.stop_ids,
        )
    return captions


def judge(sample: Sample, caption: Caption) -> Judgement:
    """Compare words: the caption begins with the colour and ends with the noun."""
    text = caption.text
    noun = text == sample.noun or text.endswith(f" {sample.noun}")
    colour = pattern = None
    if sample.colours:
        colour = _colour_of(text) in {_colour_of(f"{name} x") for name in sample.colours}
    if sample.palette:
        words = text.removesuffix(sample.noun).split()
        said = next((word for word in words if word in PATTERNS.values()), "")
        pattern = said == sample.pattern
    return Judgement(sample, caption, noun, colour, pattern)


def accuracies(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Shares of right captions, rounded to three places, and how many they are of."""
    found: dict[str, Any] = {
        "pictures": len(judgements),
        "noun": _share([item.noun for item in judgements]),
    }
    for word in ("colour", "pattern"):
        values = [value for item in judgements if (value := getattr(item, word)) is not None]
        if values:
            found |= {word: _share(values), f"{word}_pictures": len(values)}
    return found


def threshold(right: Sequence[float], foreign: Sequence[float]) -> dict[str, Any]:
    """The confidence below which a caption should not be trusted.

    Args:
        right: confidences of captions with the right noun.
        foreign: confidences of captions of other kinds of things.

    Returns:
        ``min_confidence``, where the shares of right and of foreign captions that pass differ
        most; ``kept``, these shares at each threshold; ``auroc``, how often a right caption's
        confidence is higher than a foreign one's.
    """
    own = np.asarray(right)
    other = np.asarray(foreign)
    kept = [
        {
            "min_confidence": bound,
            "right": _share((own >= bound).tolist()),
            "foreign": _share((other >= bound).tolist()),
        }
        for bound in THRESHOLDS
    ]
    best = max(kept, key=lambda row: row["right"] - row["foreign"])
    return {
        "min_confidence": best["min_confidence"],
        "auroc": round(float((own[:, None] > other[None]).mean()), 3),
        "kept": kept,
    }


def _colour_of(text: str) -> str:
    """The colour that a caption begins with: two words where the first one is "sky"."""
    words = text.split()
    return " ".join(words[: 2 if words[:1] == ["sky"] else 1])


def _share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 3)
