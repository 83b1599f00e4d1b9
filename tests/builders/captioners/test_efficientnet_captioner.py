"""The committed demo captioner, and what is wrong with other folders in its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bls_models.errors import BundleError
from bls_models.images.preprocessing import Preprocess
from builders.caption_training.decoding import greedy_captions
from builders.caption_training.evaluation import judge
from builders.caption_training.samples import product_samples, split_by_product
from builders.captioners.efficientnet import (
    CHANNELS,
    COLOUR_GAIN,
    FAMILY,
    VISUAL_TOKENS,
    CaptionVision,
    efficientnet_captioner_from_checkpoint,
)
from builders.captioners.modules import CaptionerModules
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.config import CaptionerConfig
from builders.graphs.calibration import image_feeds

CHECKPOINT = Path(__file__).parents[3] / "builders" / "demo_captioner"
MOST_BYTES = 6_000_000

# Of the pictures of sample products that were not trained on (see the model card); at least this
# share of captions has the right noun.
LEAST_RIGHT = 0.9


def load(folder: Path = CHECKPOINT, **settings: Any) -> CaptionerModules:
    config = CaptionerConfig(family=FAMILY, checkpoint=str(folder), **settings)
    return efficientnet_captioner_from_checkpoint(config, folder)


@pytest.fixture(scope="module")
def captioner() -> CaptionerModules:
    return load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def test_the_weights_are_small_enough_to_be_committed() -> None:
    assert (CHECKPOINT / "model.safetensors").stat().st_size < MOST_BYTES


def test_vision_gives_as_many_tokens_as_the_prompt_has_places(captioner: CaptionerModules) -> None:
    image = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    with torch.inference_mode():
        tokens = captioner.vision(image)
    assert tokens.dtype == torch.float32
    assert tokens.shape == (2, VISUAL_TOKENS, captioner.language.config.hidden_size)
    assert captioner.prompt_ids.count(captioner.image_token_id) == VISUAL_TOKENS


def test_a_caption_costs_few_tokens(captioner: CaptionerModules) -> None:
    tokenizer = Tokenizer.from_str(captioner.tokenizer_json)
    for words in ("red striped mug", "sky blue water bottle", "navy long-sleeved top"):
        ids = tokenizer.encode(words).ids
        assert len(ids) == len(words.split())
        assert tokenizer.decode(ids) == words


def test_captions_of_products_that_were_not_trained_on_name_them(
    captioner: CaptionerModules,
) -> None:
    _, unseen = split_by_product(read_catalogue(SAMPLE_CATALOGUE))
    metrics = json.loads((CHECKPOINT / "metrics.json").read_text())
    trained_on = set(metrics["training"]["sample_products"])
    assert trained_on.isdisjoint(item.product["product_id"] for item in unseen)

    samples = product_samples(unseen)
    tokenizer = Tokenizer.from_str(captioner.tokenizer_json)
    pictures = [sample.picture for sample in samples]
    captions = []
    for feed in image_feeds(pictures, Preprocess(captioner.image_size, captioner.resize)):
        with torch.inference_mode():
            visual = captioner.vision(torch.from_numpy(feed["image"]))
        captions += greedy_captions(
            captioner.language,
            tokenizer,
            visual,
            captioner.prompt_ids,
            captioner.image_token_id,
            captioner.stop_ids,
        )
    right = [judge(*pair).noun for pair in zip(samples, captions, strict=True)]
    assert np.mean(right) >= LEAST_RIGHT
    assert all(0 < caption.confidence <= 1 for caption in captions)


def test_the_colour_histogram_knows_where_a_colour_is(captioner: CaptionerModules) -> None:
    assert isinstance(captioner.vision, CaptionVision)
    features = captioner.vision.features
    image = torch.full((1, 224, 224, 3), 255, dtype=torch.uint8)
    image[:, 128:, 128:] = torch.tensor([192, 26, 28], dtype=torch.uint8)  # the palette's red
    with torch.inference_mode():
        shares = features(image)[0, :, CHANNELS:] / COLOUR_GAIN
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(VISUAL_TOKENS))
    settings = json.loads((CHECKPOINT / "config.json").read_text())
    red = shares[:, settings["colours"].index("c01a1c")]
    assert red[8] > 0.95  # bottom right
    assert red[0] < 0.01  # top left
    assert red[9] == pytest.approx((96 / 224) ** 2, abs=0.01)  # the whole picture


def test_another_way_to_resize_is_taken_from_the_bundle(captioner: CaptionerModules) -> None:
    assert captioner.resize == "pad"
    assert load(resize="center_crop").resize == "center_crop"


@pytest.mark.parametrize("settings", [{"prompt": "What is this?"}, {"image_size": 256}])
def test_what_the_model_cannot_do_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="leave prompt and image_size out"):
        load(**settings)


def edit_settings(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit_settings(model_type="llama"), "'llama' checkpoint"),
        (edit_settings(prompt_ids=[0]), "0 places for visual tokens, expected 10"),
        (edit_settings(temperature=1), "temperature"),
        (edit_settings(colours=["ff0000"]), "projector.weight"),
        (edit_settings(trunk="no/such/file"), "no/such/file does not exist"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (cut_weights, "model.safetensors does not hold the weights"),
    ],
)
def test_a_damaged_folder_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(BundleError, match=message):
        load(folder)
