"""Features, training and judging, on few pictures."""

from __future__ import annotations

import colorsys
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bls_models.captions.captioner import Caption
from builders.caption_training.__main__ import main
from builders.caption_training.evaluation import (
    accuracies,
    captions_of_features,
    judge,
    threshold,
)
from builders.caption_training.features import Copies, FeatureCache, altered_copy
from builders.caption_training.phrases import SPOKEN
from builders.caption_training.recolour import recoloured, targets
from builders.caption_training.samples import Sample, product_samples
from builders.caption_training.tokenizer import tokenizer_from_captions
from builders.caption_training.training import TrainingSettings, new_head, settings_for, train
from builders.captioners.efficientnet import (
    CaptionerCheckpoint,
    CaptionerHead,
    read_captioner_checkpoint,
)
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from seed.render.palette import HEX

FEW = TrainingSettings(steps=40, batch_size=8)


def few_samples() -> list[Sample]:
    products = [item for item in read_catalogue(SAMPLE_CATALOGUE) if "red" in item.product["name"]]
    return product_samples(products)[:16]


TOKENIZER = tokenizer_from_captions(sample.caption for sample in few_samples())
SETTINGS = settings_for(TOKENIZER)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    # Batches are so small that threads would only wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ignore(*_: object) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(SETTINGS, tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def copies(cache: FeatureCache) -> list[Copies]:
    return cache.copies(few_samples(), 1, ignore)


def trained(copies: list[Copies], settings: TrainingSettings) -> tuple[CaptionerHead, list[float]]:
    head = new_head(SETTINGS, settings.seed)
    losses: list[float] = []
    weights = [1.0] * len(copies)

    def report(_: int, loss: float) -> None:
        losses.append(loss)

    train(head, copies, weights, TOKENIZER, SETTINGS, settings, report)
    return head, losses


def test_training_lowers_the_loss_and_a_seed_repeats_it(
    copies: list[Copies], tmp_path: Path
) -> None:
    head, losses = trained(copies, FEW)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    again, same = trained(copies, FEW)
    assert same == losses
    for name, value in head.weights().items():
        assert value.equal(again.weights()[name])
    _, other = trained(copies, TrainingSettings(steps=2, batch_size=8, seed=1))
    assert other != losses[:2]

    CaptionerCheckpoint(SETTINGS, head, TOKENIZER.to_str()).write(tmp_path)
    features = np.stack([item.features[0] for item in copies])
    captions = captions_of_features(read_captioner_checkpoint(tmp_path), features)
    right = [judge(*pair).noun for pair in zip(few_samples(), captions, strict=True)]
    assert np.mean(right) > 0.9


def test_features_are_read_from_disk_the_second_time(
    cache: FeatureCache, copies: list[Copies], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_model", None)
    again = cache.copies(few_samples(), 1, ignore)
    for item, before, sample in zip(again, copies, few_samples(), strict=True):
        np.testing.assert_array_equal(item.features, before.features)
        assert item.captions == before.captions
        assert item.captions[0] == sample.caption
        assert item.features.shape == (2, 10, SETTINGS.features)
        assert not np.array_equal(item.features[0], item.features[1])


def test_an_altered_copy_says_what_colour_it_has() -> None:
    image = Image.new("RGB", (100, 50), "#" + HEX["red"])
    sample = Sample(Path("x.webp"), "mug", ("red",), palette=True)
    colours = set()
    for seed in range(60):
        copy, colour = altered_copy(image, sample, random.Random(seed))
        assert 69 <= copy.width <= 100
        assert 34 <= copy.height <= 50
        assert colour is not None
        colours.add(colour)
        hue = copy.resize((1, 1)).convert("HSV").getpixel((0, 0))[0] / 255
        assert abs((hue - hue_of(colour) + 0.5) % 1 - 0.5) < 0.03
    assert {"red", "green", "blue", "purple"} <= colours


def test_a_photo_whose_exact_colour_is_not_known_keeps_it() -> None:
    image = Image.new("RGB", (100, 50), "red")
    sample = Sample(Path("x.jpg"), "dress", ("red",))
    colours = {altered_copy(image, sample, random.Random(seed))[1] for seed in range(20)}
    assert colours == {"red"}


@pytest.mark.parametrize(
    ("source", "target"), [("teal", "red"), ("walnut", "navy"), ("red", "blue")]
)
def test_a_recoloured_picture_has_the_other_colour_of_the_palette(source: str, target: str) -> None:
    image = Image.new("RGB", (4, 4), "#" + HEX[source])
    assert target in targets(source)
    found = recoloured(image, source, target).getpixel((0, 0))
    assert np.allclose(found, list(bytes.fromhex(HEX[target])), atol=6)


def test_white_and_black_stay_what_they_are() -> None:
    for grey in ("white", "black"):
        image = Image.new("RGB", (1, 1), grey)
        assert recoloured(image, "blue", "red").tobytes() == image.tobytes()
    assert targets("white") == ["white"]
    assert targets("rainbow") == []


def hue_of(colour: str) -> float:
    name = next(name for name in HEX if SPOKEN.get(name, name) == colour)
    return colorsys.rgb_to_hsv(*(byte / 255 for byte in bytes.fromhex(HEX[name])))[0]


def caption(text: str) -> Caption:
    return Caption(text, 0.9, ())


@pytest.mark.parametrize(
    ("text", "noun", "colour", "pattern"),
    [
        ("blue striped shirt", True, True, True),
        ("sky blue striped shirt", True, True, True),
        ("sky striped shirt", True, False, True),
        ("red striped t-shirt", False, False, True),
        ("blue shirt", True, True, False),
        ("blue striped", False, True, True),
        ("", False, False, False),
    ],
)
def test_captions_are_judged_word_by_word(
    text: str, noun: bool, colour: bool, pattern: bool
) -> None:
    sample = Sample(Path("x.jpg"), "shirt", ("blue", "sky blue"), "striped", palette=True)
    judged = judge(sample, caption(text))
    assert (judged.noun, judged.colour, judged.pattern) == (noun, colour, pattern)


def test_what_is_not_known_of_a_picture_does_not_count() -> None:
    product = Sample(Path("x.jpg"), "mug", ("red",), palette=True)
    photo = Sample(Path("x.jpg"), "mug", ())
    judged = [judge(product, caption("red mug")), judge(photo, caption("blue dotted bowl"))]
    assert accuracies(judged) == {
        "pictures": 2,
        "noun": 0.5,
        "colour": 1.0,
        "colour_pictures": 1,
        "pattern": 1.0,
        "pattern_pictures": 1,
    }
    assert accuracies(judged[1:]) == {"pictures": 1, "noun": 0.0}


def test_the_threshold_parts_right_captions_from_foreign_ones() -> None:
    found = threshold([0.95, 0.85, 0.99, 0.72], [0.3, 0.5, 0.73, 0.74])
    assert found["min_confidence"] == 0.75
    assert {"min_confidence": 0.75, "right": 0.75, "foreign": 0.0} in found["kept"]
    assert {"min_confidence": 0.65, "right": 1.0, "foreign": 0.5} in found["kept"]
    assert found["auroc"] == pytest.approx(14 / 16, abs=0.001)


def test_nothing_is_measured_that_was_not_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--evaluate", "--held-out", "x", "--clothing", "y", "--out", str(tmp_path)]
    assert main(flags) == 1
    assert "train first" in capsys.readouterr().err


def test_a_missing_data_set_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({}))
    assert main(["--held-out", "x", "--clothing", str(tmp_path)]) == 1
    assert "holds no .jpg photos" in capsys.readouterr().err
