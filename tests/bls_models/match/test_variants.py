"""Which variant a request gets, and what the setting may say."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from bls_models.errors import SetupError
from bls_models.match.variants import Variant, Variants
from bls_models.settings import Settings


def variants(settings: dict[str, Any], **others: Any) -> Variants:
    return Variants.from_settings(Settings(variants=json.dumps(settings), **others))


def test_without_the_setting_all_requests_get_the_settings_own_weights() -> None:
    default = Variants.from_settings(Settings(caption_weight=0.25, cross_modal_weight=0.75))
    expected = Variant("default", word_weight=0.7, caption_weight=0.25, cross_modal_weight=0.75)
    assert {default.of(str(number)) for number in range(100)} == {expected}


def test_requests_are_shared_out_as_the_setting_says() -> None:
    found = variants({"a": {"share": 0.1}, "b": {"share": 0.3}})
    counts = Counter(found.of(f"request-{number}").name for number in range(20_000))
    assert counts["a"] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert counts["b"] / 20_000 == pytest.approx(0.3, abs=0.015)
    assert set(counts) == {"a", "b", "default"}


def test_a_request_id_always_gets_the_same_variant() -> None:
    settings = {"a": {"share": 0.5}}
    for number in range(100):
        assert variants(settings).of(str(number)) == variants(settings).of(str(number))


def test_a_variant_differs_from_the_default_only_in_what_it_names() -> None:
    found = variants({"all": {"share": 1, "text_weight": 2}}, caption_weight=0.5)
    assert found.of("any") == Variant(
        "all", text_weight=2.0, word_weight=0.7, caption_weight=0.5, cross_modal_weight=0.5
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "a JSON list; expected a JSON object"),
        ('{"default": {"share": 1}}', "the name 'default'"),
        ('{"two words": {"share": 1}}', "the name 'two words'"),
        ('{"a": 0.5}', "a: 0.5; expected an object"),
        ('{"a": {}}', "a: share is missing; expected a number from 0 to 1"),
        ('{"a": {"share": true}}', "a: share is True"),
        ('{"a": {"share": 1.5}}', "a: share is 1.5"),
        ('{"a": {"share": 0.5, "weight": 1}}', "a: weight; expected only share"),
        (
            '{"a": {"share": 0.5, "text_weight": 0}}',
            "text_weight is 0; expected a number from 0.01",
        ),
        (
            '{"a": {"share": 1, "view_power": 64}}',
            "view_power is 64; expected a number from 1 to 32",
        ),
        ('{"a": {"share": 1, "min_score": -2}}', "min_score is -2; expected a number from -1 to 1"),
        (
            '{"a": {"share": 0.6}, "b": {"share": 0.5}}',
            "shares of 1.1 together; expected at most 1",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(SetupError, match="PRODUCT_MATCH_VARIANTS cannot be used") as refused:
        Variants.from_settings(Settings(variants=text))
    assert message in str(refused.value)
