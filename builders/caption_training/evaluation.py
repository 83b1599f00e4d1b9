"""How often captions of pictures that were not trained on are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer

from bls_models.captioner import Caption
from builders.caption_training.decoding import greedy_captions
from builders.caption_training.features import Features
from builders.caption_training.phrases import PATTERNS
from builders.caption_training.samples import Sample
from builders.efficientnet_captioner import CaptionerCheckpoint

BATCH = 64

# The share of foreign pictures that a threshold on the confidence should keep out.
KEPT_OUT = 0.9


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


def threshold(right: Sequence[float], foreign: Sequence[float]) -> dict[str, float]:
    """The confidence below which a caption should not be trusted.

    Args:
        right: confidences of right captions of known kinds of things.
        foreign: confidences of captions of other things.

    Returns:
        ``min_confidence``, which keeps out nine of ten foreign pictures, the shares of both that
        pass it, and ``auroc``: how often a right caption's is higher than a foreign one's.
    """
    own = torch.tensor(right, dtype=torch.float64)
    other = torch.tensor(foreign, dtype=torch.float64)
    bound = round(float(torch.quantile(other, KEPT_OUT)), 2)
    return {
        "min_confidence": bound,
        "right_captions_kept": _share((own >= bound).tolist()),
        "foreign_captions_kept": _share((other >= bound).tolist()),
        "auroc": round(float((own[:, None] > other[None]).double().mean()), 3),
    }


def _colour_of(text: str) -> str:
    """The colour that a caption begins with: two words where the first one is "sky"."""
    words = text.split()
    return " ".join(words[: 2 if words[:1] == ["sky"] else 1])


def _share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 3)
