"""What a detector finds, and how much of it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bls_models.objects.boxes import overlaps, without_repeats
from builders.detection_training.features import Examples
from builders.detection_training.scenes import Boxes
from builders.detectors.efficientnet import DetectorHead

# A box is right from this overlap on.
RIGHT = 0.5
# Boxes that the bundle's graph gives for each picture.
BOXES = 64
# Boxes of a photo that recall may use.
MOST_BOXES = 10
BATCH = 64

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """What is found in one picture, best first.

    Attributes:
        boxes: (N, 4) float32, in shares of the square.
        scores: (N,) float32.
    """

    boxes: Boxes
    scores: Scores

    def above(self, score: float) -> Found:
        """What is found with a score of at least this."""
        kept = self.scores >= score
        return Found(self.boxes[kept], self.scores[kept])


def found_objects(
    head: DetectorHead, examples: Sequence[Examples], most_shared: float
) -> list[Found]:
    """What a head finds in each scene, each thing once.

    Args:
        head: in evaluation mode.
        examples: in parts.
        most_shared: see ``bls_models.objects.boxes.without_repeats``.
    """
    found = []
    for part in examples:
        for first in range(0, len(part), BATCH):
            maps = (
                torch.from_numpy(item[first : first + BATCH]).float()
                for item in (part.fine, part.coarse)
            )
            with torch.inference_mode():
                boxes, logits = head(tuple(maps))
            for box, score in zip(boxes.clamp(0, 1).numpy(), logits.sigmoid().numpy(), strict=True):
                order = np.argsort(-score, kind="stable")[:BOXES]
                kept = order[without_repeats(box[order], most_shared)]
                found.append(Found(box[kept], score[kept]))
    return found


def precision_and_recall(
    found: Sequence[Found], truth: Sequence[Boxes], score: float
) -> dict[str, float]:
    """Average precision, and precision and recall of what has at least a score.

    Also ``best_score``, from which on F1 is best, and ``best_f1``. A box is right if it overlaps
    by half or more with one that no better box of the picture has taken. Average precision is the
    area under the curve, precision made to fall with recall.
    """
    scores, right = [], []
    for item, boxes in zip(found, truth, strict=True):
        taken = matched(item.boxes, boxes)
        scores += item.scores.tolist()
        right += (taken >= 0).tolist()
    # One that is wrong and never counted, so that there is one.
    scores.append(0.0)
    right.append(False)
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right)[order])
    recall = hits / max(1, sum(map(len, truth)))
    precision = hits / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    average = float(np.sum(np.diff(recall, prepend=0) * falling))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best, sure = int(np.argmax(f1)), np.array(scores)[order]
    count = int((sure >= score).sum())
    return {
        "ap50": round(average, 4),
        "precision": round(float(precision[count - 1]) if count else 1.0, 4),
        "recall": round(float(recall[count - 1]) if count else 0.0, 4),
        "best_f1": round(float(f1[best]), 4),
        "best_score": round(float(sure[best]), 3),
    }


def recall_of_separate(
    found: Sequence[Found], truth: Sequence[Boxes], labels: Sequence[tuple[str, ...]]
) -> dict[str, float]:
    """The share of boxes that at most ten boxes a photo find.

    Returns:
        ``plain``: each box by one of its own. ``with_heaps``: also all boxes of a heap that one
        box finds as a whole. A heap is boxes of one label that hang together by overlapping; it
        is found by a box that overlaps by half or more with the box around it.
    """
    plain = heaps = count = 0
    for item, boxes, names in zip(found, truth, labels, strict=True):
        best = item.boxes[:MOST_BOXES]
        hit = np.zeros(len(boxes), bool)
        taken = matched(best, boxes)
        hit[taken[taken >= 0]] = True
        plain += int(hit.sum())
        for heap in heaps_of(boxes, names):
            around = np.concatenate([boxes[heap, :2].min(axis=0), boxes[heap, 2:].max(axis=0)])
            if len(best) and overlaps(best, around[None]).max() >= RIGHT:
                hit[heap] = True
        heaps += int(hit.sum())
        count += len(boxes)
    return {"plain": round(plain / count, 4), "with_heaps": round(heaps / count, 4)}


def matched(boxes: Boxes, truth: Boxes) -> npt.NDArray[np.int64]:
    """The true box of each box, best first, -1 where it is wrong; each true box at most once."""
    shared = overlaps(boxes, truth)
    taken = np.full(len(boxes), -1)
    for number in range(len(boxes) if len(truth) else 0):
        best = int(shared[number].argmax())
        if shared[number, best] >= RIGHT:
            taken[number] = best
            shared[:, best] = 0
    return taken


def heaps_of(boxes: Boxes, labels: Sequence[str]) -> list[list[int]]:
    """Two boxes or more of one label that hang together by overlapping."""
    left, heaps = set(range(len(boxes))), []
    touching = overlaps(boxes, boxes) > 0
    while left:
        heap, edge = [], [left.pop()]
        while edge:
            number = edge.pop()
            heap.append(number)
            near = [i for i in left if touching[number, i] and labels[i] == labels[number]]
            left.difference_update(near)
            edge += near
        if len(heap) > 1:
            heaps.append(sorted(heap))
    return heaps


def counts_of(found: Sequence[Found], score: float) -> dict[str, float]:
    """The shares of pictures in which nothing, one thing, or several are found."""
    counts = np.array([len(item.above(score).boxes) for item in found])
    return {
        "none": round(float(np.mean(counts == 0)), 4),
        "one": round(float(np.mean(counts == 1)), 4),
        "several": round(float(np.mean(counts > 1)), 4),
    }
