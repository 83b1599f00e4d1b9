"""Pixels as the checkpoint's settings have them, unless the bundle file says otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import (
    PIXEL_SETTINGS,
)

from bls_models.errors import BundleError
from builders.checkpoints.pixel_settings import PixelSettings, pixel_settings
from builders.config import (
    ImageEncoderConfig,
)
from builders.encoders.image import image_encoder_from_config


def image(family: str, folder: Path, **sizes: Any) -> Any:
    return image_encoder_from_config(ImageEncoderConfig(family, str(folder), **sizes))


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    content = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(content))


def test_dinov2_takes_any_multiple_of_its_patches(dinov2: Path) -> None:
    for size in (28, 224, 518):
        encoder = image("dinov2", dinov2, image_size=size, resize="pad")
        found = encoder.pixels
        assert (found.image_size, found.model_size, found.resize) == (size, size, "pad")
        with torch.inference_mode():
            assert encoder(torch.zeros(2, size, size, 3, dtype=torch.uint8)).shape == (2, 32)
    with pytest.raises(BundleError, match=r"256 is no multiple .* 14 .*image_size = 252 or 266"):
        image("dinov2", dinov2, image_size=256)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_other_families_keep_the_size_of_their_position_embeddings(
    request: pytest.FixtureRequest, family: str
) -> None:
    folder: Path = request.getfixturevalue(family)
    with pytest.raises(BundleError, match=r"image_size 256, but .* for 224 .*only dinov2"):
        image(f"{family}_vision", folder, image_size=256)
    assert image(f"{family}_vision", folder, image_size=224).pixels.image_size == 224


@pytest.mark.parametrize(("size", "resize"), [(0, None), (-224, None), (None, "crop")])
def test_sizes_that_the_server_does_not_know_are_refused(
    clip: Path, size: int | None, resize: str | None
) -> None:
    with pytest.raises(BundleError, match=r"preprocess (size|resize) "):
        image("clip_vision", clip, image_size=size, resize=resize)


@pytest.mark.parametrize(
    ("settings", "sizes", "expected"),
    [
        (PIXEL_SETTINGS["dinov2"], {}, (256, 224, "center_crop")),
        (PIXEL_SETTINGS["dinov2"], {"image_size": 224}, (224, 224, "center_crop")),
        (PIXEL_SETTINGS["dinov2"], {"resize": "pad"}, (224, 224, "pad")),
        (PIXEL_SETTINGS["siglip"], {}, (224, 224, "stretch")),
        (PIXEL_SETTINGS["siglip"], {"resize": "pad"}, (224, 224, "pad")),
        (PIXEL_SETTINGS["clip"], {}, (224, 224, "center_crop")),
        (PIXEL_SETTINGS["siglip"] | {"size": 384}, {}, (384, 384, "stretch")),
        (PIXEL_SETTINGS["siglip"] | {"do_center_crop": None}, {}, (224, 224, "stretch")),
    ],
)
def test_sizes_are_the_checkpoints_unless_the_bundle_gives_them(
    tmp_path: Path,
    settings: dict[str, Any],
    sizes: dict[str, Any],
    expected: tuple[int, int, str],
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    found = pixel_settings(ImageEncoderConfig("clip_vision", "", **sizes), tmp_path)
    assert (found.image_size, found.model_size, found.resize) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"do_normalize": False}, (1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        ({"do_rescale": False}, (1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
        ({"rescale_factor": 0.5}, (0.5, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
    ],
)
def test_steps_that_a_checkpoint_leaves_out_are_left_out(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    settings = PIXEL_SETTINGS["siglip"] | changes
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    found = pixel_settings(ImageEncoderConfig("siglip_vision", ""), tmp_path)
    assert found == PixelSettings(224, 224, "stretch", *expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"do_resize": False}, "do_resize is false"),
        ({"size": {"height": 224, "width": 448}}, "gives no square"),
        ({"size": {"longest_edge": 512}}, "gives no square"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": False}, "gives no square"),
        ({"crop_size": {"height": 1, "width": 2}}, "is no square"),
        ({"crop_size": 512}, "crop_size 512 exceeds size 224"),
        ({"image_mean": None}, "image_mean is None, expected three numbers"),
        ({"image_std": [0.5]}, "image_std is .*, expected three numbers"),
    ],
)
def test_settings_that_give_no_fixed_square_are_refused(
    clip: Path, changes: dict[str, Any], words: str
) -> None:
    change_json(clip / "preprocessor_config.json", **changes)
    with pytest.raises(BundleError, match=rf"preprocessor_config\.json: .*{words}"):
        image("clip_vision", clip)
