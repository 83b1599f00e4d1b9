"""EfficientNet's features can be weighted by their distance from the picture's centre."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bls_models.errors import BundleError
from builders.config import read_bundle_config
from builders.encoders.image import CentreWeightedMean, image_encoder_from_config


class Features:
    """A trunk whose feature map is what it is given."""

    def extract_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


def test_a_map_of_one_value_keeps_it() -> None:
    pooled = CentreWeightedMean(7, 2.5)(Features(), torch.full((2, 3, 7, 7), 0.25))
    torch.testing.assert_close(pooled, torch.full((2, 3), 0.25))


def test_the_centre_counts_most_and_all_directions_alike() -> None:
    pooling = CentreWeightedMean(7, 2.5)
    weights = pooling.weights
    assert weights.argmax() == 24
    torch.testing.assert_close(weights, weights.T)
    torch.testing.assert_close(weights, weights.flip(0))
    assert weights[3, 3] / weights[0, 3] == pytest.approx(2.0544, abs=1e-3)


def test_the_pooling_of_a_bundle_is_that_of_its_file() -> None:
    config = read_bundle_config("mini").image_encoder
    weighted = image_encoder_from_config(config)
    plain = image_encoder_from_config(replace(config, pooling_sigma=None))
    image = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8)
    with torch.no_grad():
        cosine = (weighted(image) * plain(image)).sum()
        features = weighted.trunk.extract_features(weighted.normalised(image))  # (1, D, 7, 7)
        by_hand = torch.nn.functional.normalize(
            (features * CentreWeightedMean(7, 2.5).weights).sum(dim=(2, 3)), dim=1
        )
        torch.testing.assert_close(weighted(image), by_hand)
    assert cosine < 0.9999
    assert weighted.pixels.keep == config.keep == 0.8


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_weight_without_width_is_refused(sigma: float) -> None:
    with pytest.raises(BundleError, match="pooling_sigma"):
        CentreWeightedMean(7, sigma)


def test_families_that_pool_by_themselves_take_no_weight() -> None:
    config = replace(read_bundle_config("mini").image_encoder, family="dinov2")
    with pytest.raises(BundleError, match="pooling_sigma is for efficientnet_lite0"):
        image_encoder_from_config(config)
