from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from serving_support import picture

from bls_models.errors import SetupError
from loadtest.photos import FIRST_SERIAL
from loadtest.traffic.budget import faults
from loadtest.traffic.mix import (
    DEFAULT_MIX,
    DEFAULT_MIX_TEXT,
    RequestMaker,
    parse_mix,
)
from loadtest.traffic.shapes import users_at

PRODUCTS = [
    {"product_id": "m1", "name": "Red mug", "category": "mug"},
    {"product_id": "b1", "name": "Blue bowl", "category": "bowl"},
]
PHOTOS = [picture(1) + FIRST_SERIAL, picture(2) + FIRST_SERIAL]


def maker(mix: dict[str, int], seed: int = 0) -> RequestMaker:
    return RequestMaker(PHOTOS, PRODUCTS, mix, seed)


def tensors(kind: str) -> dict[str, Any]:
    """The inputs of a request of that kind, by name, without their batch dimension."""
    found, call = maker({kind: 1}).make()
    assert found == kind
    return {tensor.name: list(tensor.array[0]) for tensor in call.tensors}


def test_a_mix_is_read_and_the_default_says_what_it_is() -> None:
    assert parse_mix("image=3, text=1") == {"image": 3, "text": 1}
    assert parse_mix(DEFAULT_MIX_TEXT) == DEFAULT_MIX


@pytest.mark.parametrize("text", ["", "image", "image=x", "photo=1", "image=1,image=2", "text=-1"])
def test_a_mix_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match=r"kinds are image, text"):
        parse_mix(text)


def test_a_mix_without_any_request_is_refused() -> None:
    with pytest.raises(SetupError, match="no request in it"):
        parse_mix("image=0,text=0")


def test_requests_come_as_often_as_the_mix_says_and_the_same_for_a_seed() -> None:
    requests = maker({"image": 3, "text": 1})
    kinds = Counter(requests.make()[0] for _ in range(4000))
    assert kinds["image"] / 4000 == pytest.approx(0.75, abs=0.03)
    again, other = maker(DEFAULT_MIX, seed=1), maker(DEFAULT_MIX, seed=1)
    assert [again.make()[0] for _ in range(50)] == [other.make()[0] for _ in range(50)]


def test_each_kind_sends_what_its_name_says() -> None:
    sent = {kind: tensors(kind) for kind in DEFAULT_MIX}
    assert set(sent["image"]) == set(sent["captions"]) == {"image", "caption"}
    assert set(sent["text"]) == {"text"}
    assert set(sent["both"]) == {"image", "text", "caption"}
    assert set(sent["filtered"]) == {"image", "filter", "caption"}
    assert sent["image"]["caption"] == sent["both"]["caption"] == [b"never"]
    assert sent["captions"]["caption"] == [b"always"]
    assert set(sent["objects"]) == {"image", "caption", "objects"}
    assert sent["objects"]["objects"] == [b"auto"]
    assert set(sent["like"]) == {"like"}
    assert sent["like"]["like"][0] in {b"m1", b"b1"}
    assert set(sent["facets"]) == {"image", "caption", "facets"}
    assert sent["text"]["text"][0] in {b"Red mug", b"Blue bowl"}
    assert sent["filtered"]["filter"][0] in {b'{"category": "mug"}', b'{"category": "bowl"}'}


def test_a_photo_comes_again_now_and_then_and_is_another_otherwise() -> None:
    requests = maker({"image": 1})
    sent = [requests.make()[1].tensors[0].array.ravel()[0] for _ in range(1000)]
    assert sum(photo in PHOTOS for photo in sent) / 1000 == pytest.approx(0.1, abs=0.04)
    others = [photo for photo in sent if photo not in PHOTOS]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(("photos", "products"), [([], PRODUCTS), (PHOTOS, [])])
def test_requests_need_photos_and_products(photos: list[bytes], products: list[Any]) -> None:
    with pytest.raises(SetupError, match="at least one of each"):
        RequestMaker(photos, products, DEFAULT_MIX, 0)


# --- users over time --------------------------------------------------------------------------


def users(shape: str) -> list[int]:
    return [users_at(shape, seconds, 10, 90.0) for seconds in (0, 29, 31, 45, 59, 61, 90, 95)]


def test_shapes() -> None:
    assert users("steady") == [10] * 8
    assert users("ramp") == [1, 3, 3, 5, 7, 7, 10, 10]
    assert users("spike") == [2, 2, 10, 10, 10, 2, 2, 2]


def test_there_is_always_a_user() -> None:
    assert users_at("spike", 0, 1, 10) == users_at("ramp", 0, 3, 10) == 1


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(SetupError, match="steady, ramp, spike"):
        users_at("wave", 0, 1, 10)


# --- the verdict ------------------------------------------------------------------------------

LATENCIES = [float(value) for value in range(1, 101)]  # p99 is 99.01


def test_a_test_without_errors_and_within_its_budget_has_no_faults() -> None:
    assert faults(LATENCIES, 0, 100.0) == []
    assert faults(LATENCIES, 0, None) == []


def test_one_error_is_a_fault() -> None:
    assert faults(LATENCIES, 1, None) == ["1 of 100 requests failed"]


def test_a_p99_over_the_budget_is_a_fault() -> None:
    assert faults(LATENCIES, 0, 99.0) == ["p99 is 99.0 ms, more than the budget of 99 ms"]
    assert len(faults(LATENCIES, 3, 50.0)) == 2


def test_a_test_that_sent_nothing_proves_nothing() -> None:
    assert faults([], 0, None) == ["no request was answered"]
