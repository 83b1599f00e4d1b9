"""Optimisation profiles: ranges in order, shapes that agree, batches of the spec."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_support import BUNDLE

from bls_models.errors import BundleError, CaptionerError
from bls_models.specs import (
    CAPTION_DECODER,
    ENGINE_SPECS,
    IMAGE_ENCODER,
    OBJECT_DETECTOR,
    PRODUCT_INDEX,
    TEXT_ENCODER,
)
from builders.engines.profiles import AxisRange, OptimizationProfile, ShapeRange, profiles_for


def test_every_engine_has_profiles_up_to_the_largest_batch_of_its_spec() -> None:
    for spec in ENGINE_SPECS:
        for profile in profiles_for(spec, BUNDLE):
            shapes = profile.shapes()
            assert list(shapes) == [tensor.name for tensor in spec.inputs]
            for shape in shapes.values():
                assert (shape.minimum[0], shape.maximum[0]) == (1, spec.max_batch_size)


def test_the_image_encoder_has_the_pixels_of_its_bundle() -> None:
    (profile,) = profiles_for(IMAGE_ENCODER, BUNDLE)
    assert profile.shapes() == {
        "image": ShapeRange((1, 224, 224, 3), (8, 224, 224, 3), (64, 224, 224, 3))
    }


def test_the_detector_has_pixels_of_its_own_size() -> None:
    (profile,) = profiles_for(OBJECT_DETECTOR, BUNDLE)
    assert profile.shapes() == {
        "image": ShapeRange((1, 256, 256, 3), (8, 256, 256, 3), (32, 256, 256, 3))
    }


def test_both_inputs_of_the_text_encoder_have_the_same_shapes_up_to_the_bundles_tokens() -> None:
    (profile,) = profiles_for(TEXT_ENCODER, BUNDLE)
    shapes = profile.shapes()
    assert shapes["input_ids"] == shapes["attention_mask"]
    assert shapes["input_ids"] == ShapeRange((1, 1), (8, 32), (64, 128))


def test_the_decoder_has_a_profile_for_the_prompt_and_one_for_a_step() -> None:
    captioner = replace(BUNDLE.require_captioner(), prompt_ids=[0] * 70, max_new_tokens=20)
    bundle = replace(BUNDLE, captioner=captioner)
    prefill, decode = (item.shapes() for item in profiles_for(CAPTION_DECODER, bundle))
    hidden = captioner.hidden
    assert prefill["inputs_embeds"] == ShapeRange(
        (1, 70, hidden), (8, 70, hidden), (16, 70, hidden)
    )
    assert prefill["attention_mask"] == ShapeRange((1, 71), (8, 71), (16, 71))
    assert [shape[3] for shape in sizes(prefill["past_kv"])] == [1, 1, 1]
    assert decode["position_ids"] == ShapeRange((1, 1), (8, 1), (16, 1))
    assert decode["attention_mask"] == ShapeRange((1, 71), (8, 81), (16, 91))
    assert [shape[3] for shape in sizes(decode["past_kv"])] == [70, 80, 90]


def sizes(shape: ShapeRange) -> list[tuple[int, ...]]:
    return [shape.minimum, shape.optimum, shape.maximum]


def test_a_bundle_without_a_captioner_has_no_profiles_of_one() -> None:
    with pytest.raises(CaptionerError, match="has no captioner"):
        profiles_for(CAPTION_DECODER, replace(BUNDLE, captioner=None))


def test_a_bundle_without_a_detector_has_no_profiles_of_one() -> None:
    with pytest.raises(BundleError, match="'mini' has no detector"):
        profiles_for(OBJECT_DETECTOR, replace(BUNDLE, detector=None))


def test_a_sum_of_axes_adds_their_ranges() -> None:
    profile = OptimizationProfile(
        "decode",
        {"batch": AxisRange(1, 4, 8), "past": AxisRange(0, 96, 127), "new": AxisRange(1, 1, 1)},
        {"past_kv": ("batch", "past", 64), "attention_mask": ("batch", "past+new")},
    )
    assert profile.shapes() == {
        "past_kv": ShapeRange((1, 0, 64), (4, 96, 64), (8, 127, 64)),
        "attention_mask": ShapeRange((1, 1), (4, 97), (8, 128)),
    }


def test_an_axis_without_a_range_is_named() -> None:
    profile = OptimizationProfile("p", {"batch": AxisRange(1, 1, 1)}, {"x": ("batch", "height")})
    with pytest.raises(BundleError, match="'p' has no range for axis 'height'; it has batch"):
        profile.shapes()


@pytest.mark.parametrize("sizes", [(2, 1, 4), (1, 5, 4), (-1, 1, 4)])
def test_a_range_out_of_order_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(BundleError, match="not in the order minimum, optimum, maximum"):
        AxisRange(*sizes)


def test_a_model_without_profiles_is_refused() -> None:
    with pytest.raises(BundleError, match="no optimisation profiles for product_index"):
        profiles_for(PRODUCT_INDEX, BUNDLE)
