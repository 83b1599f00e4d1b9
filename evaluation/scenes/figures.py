"""From the objects that were found in photos to figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np

from bls_models.objects.boxes import overlaps
from bls_models.report.feedback import share_interval
from evaluation.figures import Interval
from evaluation.scenes.sets import Box, Scene, SceneProduct
from product_match_client import MatchedObject

# A product is found by a box that shares so much with its own: intersection over union.
LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class SceneOutcome:
    """A photo with what was found in it.

    Attributes:
        scene: the photo.
        objects: what the server found, each with its matches.
        in_true_boxes: the first match of each product's own box, in the order of the scene's
            products; None: it had none.
        milliseconds: from asking for the objects to the answer.
    """

    scene: Scene
    objects: tuple[MatchedObject, ...]
    in_true_boxes: tuple[str | None, ...]
    milliseconds: float

    @cached_property
    def found(self) -> tuple[MatchedObject | None, ...]:
        """The object of each product, None where it was missed; no object is taken twice.

        The pairs that overlap most are taken first.
        """
        pairs = sorted(
            (
                (-overlap(product.box, item.box), number, at)
                for number, product in enumerate(self.scene.products)
                for at, item in enumerate(self.objects)
            ),
        )
        taken: dict[int, int] = {}
        for shared, number, at in pairs:
            if -shared >= LEAST_OVERLAP and number not in taken and at not in taken.values():
                taken[number] = at
        return tuple(
            self.objects[taken[number]] if number in taken else None
            for number in range(len(self.scene.products))
        )

    @property
    def further(self) -> list[MatchedObject]:
        """Objects that are no product's."""
        return [item for item in self.objects if item not in self.found]

    def is_on_product(self, item: MatchedObject) -> bool:
        """Whether a box shows a product, be it one that another box shows better."""
        boxes = [product.box for product in self.scene.products]
        return any(overlap(box, item.box) >= LEAST_OVERLAP for box in boxes)


@dataclass(frozen=True)
class SceneFigures:
    """Shares of the products shown, 0 to 1, with Wilson's intervals.

    Attributes:
        scenes: photos.
        shown: products in all of them.
        found: share with an object of its own; see ``LEAST_OVERLAP``.
        right: share that is found and whose object has a right first match.
        right_of_found: the same as a share of those found.
        right_in_true_boxes: share whose own box has a right first match: what a perfect detector
            would give.
        boxes: objects in all photos.
        boxes_on_nothing: those that are on no product.
        boxes_twice: those on a product that another box shows better.
    """

    scenes: int
    shown: int
    found: float
    found_interval: Interval
    right: float
    right_interval: Interval
    right_of_found: float
    right_of_found_interval: Interval
    right_in_true_boxes: float
    right_in_true_boxes_interval: Interval
    boxes: int
    boxes_on_nothing: int
    boxes_twice: int
    milliseconds_median: float


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    return float(overlaps(np.array([a], np.float32), np.array([b], np.float32))[0, 0])


def first_match(item: MatchedObject | None) -> str | None:
    """The product_id of an object's first match, if it has one."""
    return item.matches[0].product_id if item is not None and item.matches else None


def figures_from_scenes(outcomes: Sequence[SceneOutcome]) -> SceneFigures:
    """The figures of at least one photo."""
    objects = [item for outcome in outcomes for item in outcome.found]
    products = _products(outcomes)
    found = sum(item is not None for item in objects)
    right = sum(
        first_match(item) in product.product_ids
        for product, item in zip(products, objects, strict=True)
    )
    in_boxes = [name for outcome in outcomes for name in outcome.in_true_boxes]
    right_in_boxes = sum(
        name in product.product_ids for product, name in zip(products, in_boxes, strict=True)
    )
    further = [(outcome, item) for outcome in outcomes for item in outcome.further]
    twice = sum(outcome.is_on_product(item) for outcome, item in further)
    count = len(products)
    return SceneFigures(
        scenes=len(outcomes),
        shown=count,
        found=_share(found, count),
        found_interval=share_interval(found, count),
        right=_share(right, count),
        right_interval=share_interval(right, count),
        right_of_found=_share(right, found),
        right_of_found_interval=share_interval(right, found),
        right_in_true_boxes=_share(right_in_boxes, count),
        right_in_true_boxes_interval=share_interval(right_in_boxes, count),
        boxes=sum(len(outcome.objects) for outcome in outcomes),
        boxes_on_nothing=len(further) - twice,
        boxes_twice=twice,
        milliseconds_median=median(outcome.milliseconds for outcome in outcomes),
    )


def figures_by_count(outcomes: Sequence[SceneOutcome]) -> dict[int, SceneFigures]:
    """The figures of photos with so many products, the fewest first."""
    parts: dict[int, list[SceneOutcome]] = {}
    for outcome in outcomes:
        parts.setdefault(len(outcome.scene.products), []).append(outcome)
    return {count: figures_from_scenes(parts[count]) for count in sorted(parts)}


def scene_confusions(outcomes: Sequence[SceneOutcome]) -> list[tuple[str, str, int]]:
    """Product in the photo, the first match of its object, and how often; most often first."""
    counts = Counter(
        (product.name, found)
        for outcome in outcomes
        for product, item in zip(outcome.scene.products, outcome.found, strict=True)
        if (found := first_match(item)) is not None and found not in product.product_ids
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(wanted, found, count) for (wanted, found), count in ordered]


def _products(outcomes: Sequence[SceneOutcome]) -> list[SceneProduct]:
    return [product for outcome in outcomes for product in outcome.scene.products]


def _share(part: int, count: int) -> float:
    return part / count if count else 0.0
