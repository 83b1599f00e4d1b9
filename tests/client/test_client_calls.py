"""The tensors a call sends."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bls_models.specs import PRODUCT_INGEST, PRODUCT_MATCH
from product_match_client import BadRequestError
from product_match_client.calls import Call, delete_call, get_call, match_call, upsert_call


def arrays(call: Call[Any]) -> dict[str, Any]:
    return {tensor.name: tensor.array for tensor in call.tensors}


def every_call() -> list[Call[Any]]:
    return [
        match_call(
            [b"a", b"b"],
            ["x"],
            image_weights=[1, -0.5],
            text_weights=[2],
            like=["p 1", "p2"],
            like_weights=[1, -0.25],
            crops=[(0, 0, 0.5, 0.5), None],
            top_k=3,
            offset=1,
            filter={"price": {"$lt": 50}},
            facets={"category": 10, "price": (10, 20.5)},
            sort="-price",
            min_score=0.25,
            caption="always",
            objects="auto",
            max_objects=4,
            request_id="r1",
        ),
        upsert_call({"product_id": "p", "name": "n"}, [b"a"], "missing"),
        delete_call("p"),
        get_call("p"),
    ]


@pytest.mark.parametrize("call", every_call(), ids=["match", "upsert", "delete", "get"])
def test_tensors_fit_the_specs(call: Call[Any]) -> None:
    for tensor in call.tensors:
        spec = call.spec.input(tensor.name)
        assert tensor.dtype == spec.dtype
        assert tensor.array.dtype == np.dtype(spec.numpy_dtype)
        assert tensor.array.shape[0] == 1
        assert len(tensor.array.shape) == 1 + len(spec.dims)
        for size, dim in zip(tensor.array.shape[1:], spec.config_dims, strict=True):
            assert dim in (-1, size)


@pytest.mark.parametrize("call", every_call(), ids=["match", "upsert", "delete", "get"])
def test_required_tensors_are_sent(call: Call[Any]) -> None:
    required = {spec.name for spec in call.spec.inputs if not spec.optional}
    assert required <= {tensor.name for tensor in call.tensors}


def test_match_sends_all_that_is_given_and_names_the_request() -> None:
    call = every_call()[0]
    sent = arrays(call)
    assert set(sent) == {spec.name for spec in PRODUCT_MATCH.inputs}
    assert sent["image"].tolist() == [[b"a", b"b"]]
    assert sent["image_weight"].tolist() == [[1.0, -0.5]]
    assert sent["like"].tolist() == [[b"p 1", b"p2"]]
    assert sent["like_weight"].tolist() == [[1.0, -0.25]]
    assert sent["crop"].tolist() == [[[0, 0, 0.5, 0.5], [0, 0, 1, 1]]]
    assert sent["top_k"].tolist() == [[3]]
    assert sent["objects"].tolist() == [[b"auto"]]
    assert sent["max_objects"].tolist() == [[4]]
    assert json.loads(sent["filter"][0, 0]) == {"price": {"$lt": 50}}
    assert json.loads(sent["facets"][0, 0]) == {"category": 10, "price": [10, 20.5]}
    assert sent["sort"].tolist() == [[b"-price"]]
    assert call.request_id == "r1"


def test_match_leaves_out_what_is_not_given() -> None:
    assert list(arrays(match_call(texts=["red shoe"]))) == ["text"]
    assert list(arrays(match_call([b"a"]))) == ["image"]
    assert list(arrays(match_call(like="p"))) == ["like"]


def test_zero_is_given() -> None:
    sent = arrays(match_call(texts="x", offset=0, min_score=0.0, filter={}, facets={}))
    assert set(sent) == {"text", "offset", "min_score", "filter", "facets"}


def test_a_single_image_or_text_is_one(tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"jpeg\0\0")
    for source in (b"jpeg\0\0", picture, str(picture), io.BytesIO(b"jpeg\0\0")):
        assert arrays(match_call(source))["image"].tolist() == [[b"jpeg\0\0"]]
    with picture.open("rb") as file:
        assert arrays(match_call([file]))["image"].tolist() == [[b"jpeg\0\0"]]
    assert arrays(match_call(texts="schöne Tasse"))["text"].tolist() == [["schöne Tasse".encode()]]
    assert arrays(match_call(like="Täßchen"))["like"].tolist() == [["Täßchen".encode()]]


def test_iterators_are_several() -> None:
    sent = arrays(match_call(iter([b"a", b"b"]), iter("xy"), like=iter("pq")))
    assert [sent[name].shape for name in ("image", "text", "like")] == [(1, 2)] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "at least one image, text or product"),
        ({"like": []}, "at least one image, text or product"),
        ({"like": 7}, "like: got int; expected text"),
        ({"like": {"p": 1.0}}, "like: got dict; expected text"),
        ({"like": ["p", None]}, r"like\[1\]: got NoneType; expected text"),
        ({"like": "p", "like_weights": 1.0}, "like_weights: got float; expected a list"),
        ({"like": "p", "like_weights": ["a"]}, "like_weight: got"),
        ({"like": "p", "facets": "category"}, "facets: got str; expected a mapping"),
        ({"like": "p", "facets": {"price": [float("inf")]}}, "facets: cannot be written as JSON"),
        ({"like": "p", "sort": 1}, r"sort\[0\]: got int; expected text"),
        ({"images": "no/such.jpg"}, r"image\[0\]: cannot read no/such.jpg: No such file"),
        ({"images": [b"a", 3]}, r"image\[1\]: got int; expected bytes"),
        ({"images": io.StringIO("a")}, "open it with 'rb'"),
        ({"texts": ["a", 3]}, r"text\[1\]: got int; expected text"),
        ({"texts": "\ud800"}, r"text\[0\]: is not valid Unicode"),
        ({"texts": "a", "top_k": 2.5}, r"top_k: got \[2.5\]; expected int32"),
        ({"texts": "a", "top_k": "many"}, "top_k: got"),
        ({"texts": "a", "top_k": 2**40}, "top_k: got"),
        ({"texts": "a", "min_score": "high"}, "min_score: got"),
        ({"images": b"a", "objects": True}, r"objects\[0\]: got bool; expected text"),
        ({"images": b"a", "max_objects": 2.5}, r"max_objects: got \[2.5\]; expected int32"),
        ({"texts": "a", "crops": [(0, 0, 1)]}, r"crop: got shape \[1, 3\]; .* \[n, 4\]"),
        ({"texts": "a", "filter": {"price": float("nan")}}, "filter: cannot be written as JSON"),
        ({"texts": "a", "filter": {"price": object()}}, "filter: cannot be written as JSON"),
        ({"texts": "a", "filter": "{}"}, "filter: got str; expected a mapping"),
        ({"texts": b"a"}, "texts: got bytes; expected text"),
        ({"texts": 7}, "texts: got int; expected text"),
        ({"texts": {"a": "b"}}, "texts: got dict; expected text"),
        ({"texts": "a", "text_weights": 1.0}, "text_weights: got float; expected a list"),
        ({"texts": "a", "text_weights": np.float32(1)}, "text_weights: got float32"),
        ({"texts": "a", "request_id": 7}, "request_id: got int; expected text"),
        ({"images": 7}, "images: got int; expected bytes"),
        ({"images": "a\0.jpg"}, r"image\[0\]: cannot read"),
        ({"images": b"a", "crops": 1}, "crops: got int; expected a list"),
    ],
)
def test_what_cannot_be_sent_is_a_bad_request(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        match_call(**arguments)


@pytest.mark.parametrize(
    ("product", "message"),
    [
        ("{}", "product: got str; expected a mapping"),
        ({"price": float("nan")}, "product: cannot be written as JSON"),
        ({"images": ["a.jpg"]}, "give the pictures as images="),
        ({"images": "a.jpg"}, "give the pictures as images="),
    ],
)
def test_a_product_that_cannot_be_sent_is_a_bad_request(product: Any, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        upsert_call(product)


def test_a_document_that_was_read_can_be_sent_back() -> None:
    stored = {"product_id": "p", "images": [{"sha256": "f00", "width": 1, "height": 1}]}
    assert json.loads(arrays(upsert_call(stored))["product"][0, 0]) == stored


def test_upsert_sends_the_product_and_its_pictures() -> None:
    product = {"product_id": "p", "name": "Täßchen", "attributes": {"n": 1}}
    call = upsert_call(product, [b"a", b"b"], "missing")
    sent = arrays(call)
    assert call.spec is PRODUCT_INGEST
    assert sent["operation"].tolist() == [[b"upsert"]]
    assert json.loads(sent["product"][0, 0]) == product
    assert "Täßchen".encode() in sent["product"][0, 0]
    assert sent["image"].tolist() == [[b"a", b"b"]]
    assert sent["caption"].tolist() == [[b"missing"]]


@pytest.mark.parametrize("images", [None, (), []])
def test_upsert_without_pictures_leaves_the_stored_ones(images: Any) -> None:
    assert "image" not in arrays(upsert_call({"product_id": "p"}, images))


@pytest.mark.parametrize(("build", "name"), [(delete_call, b"delete"), (get_call, b"get")])
def test_delete_and_get_send_the_id(build: Any, name: bytes) -> None:
    sent = arrays(build("p 1"))
    assert sent["operation"].tolist() == [[name]]
    assert json.loads(sent["product"][0, 0]) == {"product_id": "p 1"}
