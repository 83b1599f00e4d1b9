"""Asking the server for the products in photos."""

from __future__ import annotations

import time
from collections.abc import Sequence

from evaluation.ranking import ServedRanker
from evaluation.scenes.figures import SceneOutcome
from evaluation.scenes.sets import Scene
from reporting.progress import Report, counted_lines


def scene_outcomes(
    ranker: ServedRanker, scenes: Sequence[Scene], report: Report
) -> list[SceneOutcome]:
    """What the server finds in each photo, and what it takes the products' own boxes for.

    Raises:
        SetupError: the server looks for no objects.
        ClientError: the server failed.
    """
    outcomes = []
    count = counted_lines(report, "photos")
    for number, scene in enumerate(scenes, start=1):
        start = time.perf_counter()
        objects = ranker.objects(scene.image)
        milliseconds = (time.perf_counter() - start) * 1e3
        own = tuple(ranker.first_in_box(scene.image, item.box) for item in scene.products)
        outcomes.append(SceneOutcome(scene, objects, own, milliseconds))
        count(number, len(scenes))
    return outcomes
