"""Maps, training and judging, on few pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.detection_training.__main__ import main
from builders.detection_training.evaluation import (
    Found,
    counts_of,
    found_objects,
    heaps_of,
    matched,
    precision_and_recall,
    recall_of_separate,
)
from builders.detection_training.features import Examples, FeatureCache
from builders.detection_training.scenes import Boxes, Scene
from builders.detection_training.training import (
    SETTINGS,
    TrainingSettings,
    assigned,
    new_head,
    pairwise_overlap,
    train,
)
from builders.detectors.efficientnet import DetectorHead

SMALL = replace(SETTINGS, width=32, depth=1)
FEW = TrainingSettings(steps=60, batch_size=8, average=0.8)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    # Batches are so small that threads would only wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ignore(*_: object) -> None:
    """Progress that nobody looks at."""


def rectangles(number: int) -> Scene:
    """One or two dark rectangles on a light ground, of another place for each number."""
    rng = np.random.default_rng(number)
    picture = np.full((256, 256, 3), 220, np.uint8)
    boxes = []
    for left in (10, 138)[: 1 + number % 2]:
        x, y = left + rng.integers(0, 30), rng.integers(20, 120)
        width, height = rng.integers(60, 80), rng.integers(60, 120)
        picture[y : y + height, x : x + width] = rng.integers(0, 120, 3)
        boxes.append((x, y, x + width, y + height))
    return Scene(picture, np.array(boxes, np.float32) / 256)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(SMALL, tmp_path_factory.mktemp("maps"))


@pytest.fixture(scope="module")
def examples(cache: FeatureCache) -> list[Examples]:
    return cache.examples("rectangles", 16, rectangles, ignore)


def test_maps_are_computed_once(cache: FeatureCache, examples: list[Examples]) -> None:
    def fail(number: int) -> Scene:
        raise AssertionError(f"scene {number} is drawn again")

    (part,) = cache.examples("rectangles", 16, fail, ignore)
    assert part.fine.shape == (16, 112, 16, 16)
    assert part.coarse.shape == (16, 320, 8, 8)
    assert np.array_equal(part.fine, examples[0].fine)
    for boxes, number in zip(part.boxes, range(16), strict=True):
        assert np.array_equal(boxes, rectangles(number).boxes)


def trained(examples: list[Examples]) -> tuple[DetectorHead, list[float]]:
    head, losses = new_head(SMALL, 0), []
    train(head, [examples], [1.0], FEW, lambda _, loss: losses.append(loss))
    return head, losses


def test_training_finds_what_it_was_shown_and_a_seed_repeats_it(examples: list[Examples]) -> None:
    head, losses = trained(examples)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    found = found_objects(head, examples, most_shared=0.5)
    assert precision_and_recall(found, examples[0].boxes, 0.1)["ap50"] > 0.9
    _, same = trained(examples)
    assert same == losses


# --- which cell gives which box ---------------------------------------------------------------


def grid(side: int) -> torch.Tensor:
    line = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def test_only_cells_inside_a_box_give_it_and_the_most_fitting_surest() -> None:
    centres = grid(4)
    wanted = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    there = torch.tensor([[True, True, False]])
    boxes = wanted[:, :1].expand(1, 16, 4).clone()
    boxes[0, 10:] = torch.tensor([0.5, 0.5, 1.0, 0.9])
    scores = torch.full((1, 16), 0.2)
    scores[0, 5] = 0.8
    index, sure = assigned(boxes, scores, wanted, there, centres)
    assert set(sure[0].nonzero()[:, 0].tolist()) == {0, 1, 4, 5, 10, 11, 14, 15}
    assert index[0, [0, 1, 4, 5]].tolist() == [0, 0, 0, 0]
    assert index[0, [10, 11, 14, 15]].tolist() == [1, 1, 1, 1]
    assert sure[0, 5] == pytest.approx(1.0)
    assert sure[0, 0] == pytest.approx(0.5)  # the root of a fourth of the score
    assert sure[0, 10] == pytest.approx(0.8)  # what it overlaps


def test_a_box_between_the_centres_is_given_by_the_nearest_cell() -> None:
    wanted = torch.tensor([[[0.30, 0.30, 0.35, 0.35]]])
    boxes = wanted.expand(1, 16, 4)
    _, sure = assigned(boxes, torch.full((1, 16), 0.2), wanted, torch.tensor([[True]]), grid(4))
    assert sure[0].nonzero()[:, 0].tolist() == [5]


def test_overlap_is_intersection_over_union() -> None:
    first = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    second = torch.tensor([[[0.5, 0.0, 1.5, 1.0], [2.0, 2.0, 3.0, 3.0]]])
    assert pairwise_overlap(first, second)[0, 0].tolist() == pytest.approx([1 / 3, 0.0])


# --- judging ----------------------------------------------------------------------------------


def boxes_of(*boxes: tuple[float, float, float, float]) -> Boxes:
    return np.array(boxes, np.float32).reshape(-1, 4)


LEFT, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.6, 0.6, 1.0, 1.0)
NOWHERE = (0.0, 0.8, 0.1, 1.0)


def found(*items: tuple[tuple[float, float, float, float], float]) -> Found:
    return Found(boxes_of(*(box for box, _ in items)), np.array([s for _, s in items], np.float32))


def test_each_true_box_is_found_once() -> None:
    assert matched(boxes_of(LEFT, LEFT, NOWHERE), boxes_of(RIGHT, LEFT)).tolist() == [1, -1, -1]
    assert matched(boxes_of(LEFT), boxes_of()).tolist() == [-1]
    assert matched(boxes_of(), boxes_of(LEFT)).tolist() == []


def test_precision_and_recall_by_hand() -> None:
    items = [found((LEFT, 0.9), (NOWHERE, 0.6)), found((RIGHT, 0.3))]
    truth = [boxes_of(LEFT, RIGHT), boxes_of(RIGHT)]
    values = precision_and_recall(items, truth, 0.5)
    # Two of three are found: the first without an error, the second after one.
    assert values["ap50"] == pytest.approx(1 / 3 + 2 / 9, abs=1e-4)
    assert values["precision"] == 0.5
    assert values["recall"] == pytest.approx(1 / 3, abs=1e-4)
    assert values["best_score"] == pytest.approx(0.3)
    nothing = precision_and_recall([found()], [boxes_of(LEFT)], 0.5)
    assert (nothing["ap50"], nothing["recall"]) == (0.0, 0.0)


def test_a_heap_counts_where_one_box_covers_it() -> None:
    bananas = boxes_of((0.0, 0.0, 0.3, 0.5), (0.25, 0.0, 0.5, 0.5), RIGHT)
    labels = ("banana", "banana", "apple")
    assert heaps_of(bananas, labels) == [[0, 1]]
    assert heaps_of(bananas, ("banana", "apple", "apple")) == []
    around = found(((0.0, 0.0, 0.5, 0.5), 0.9))
    values = recall_of_separate([around], [bananas], [labels])
    assert values == {"plain": pytest.approx(1 / 3, abs=1e-4), "with_heaps": 0.6667}


def test_recall_uses_ten_boxes_at_most() -> None:
    many = found(*((NOWHERE, 0.9),) * 10, (LEFT, 0.5))
    assert recall_of_separate([many], [boxes_of(LEFT)], [("mug",)])["plain"] == 0.0


def test_pictures_are_counted_by_how_much_is_found() -> None:
    items = [found(), found((LEFT, 0.9)), found((LEFT, 0.9), (RIGHT, 0.5)), found((LEFT, 0.3))]
    assert counts_of(items, 0.4) == {"none": 0.5, "one": 0.25, "several": 0.25}


def test_what_cannot_be_measured_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--clothing", str(tmp_path), "--grocery", str(tmp_path), "--out", str(tmp_path)]
    assert main(["--evaluate", "--held-out", str(tmp_path), *where]) == 1
    assert "holds no metrics.json; train first" in capsys.readouterr().err
    (tmp_path / "metrics.json").write_text(json.dumps({}))
    assert main(["--evaluate", "--held-out", str(tmp_path), *where]) == 1
    assert "has no config.json" in capsys.readouterr().err
