"""The curl-friendly form: flat JSON in, flat JSON out."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from PIL import Image
from serving_support import CALL_SECONDS, SampleProduct, Serving, bytes_tensor, encoded, send

pytestmark = pytest.mark.server

Catalogue = list[SampleProduct]


def post(server: Serving, model: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{server.triton.http_url}/v2/models/{model}/generate",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_feedback_is_plain_json(server: Serving) -> None:
    body = {"request_id": "r", "product_id": "mug", "event": "clicked"}
    status, answer = post(server, "product_feedback", body)
    assert (status, answer["status"]) == (200, "recorded")


def jpeg(product: SampleProduct) -> str:
    with Image.open(product.images[0]) as image:
        return base64.b64encode(encoded(image.convert("RGB"), "JPEG", quality=95)).decode()


def several(value: Any) -> list[Any]:
    """Triton writes a list of one element as the element."""
    return value if isinstance(value, list) else [value]


def test_a_jpeg_as_base64_finds_its_product(server: Serving, catalogue: Catalogue) -> None:
    status, answer = post(server, "product_match", {"image": jpeg(catalogue[0]), "top_k": 3})
    assert status == 200
    assert answer["product_id"][0] == catalogue[0].product_id
    assert len(answer["score"]) == 3
    assert json.loads(answer["product"][0])["name"] == catalogue[0].product["name"]
    assert json.loads(answer["details"])["degraded"] == []


def test_a_text_and_a_filter_are_plain_strings(server: Serving, catalogue: Catalogue) -> None:
    category = catalogue[-1].product["category"]
    body = {"text": "red mug", "filter": json.dumps({"category": category}), "top_k": 1}
    status, answer = post(server, "product_match", body)
    assert status == 200
    (product,) = several(answer["product"])
    assert json.loads(product)["category"] == category


def test_several_pictures_with_weights_are_lists(server: Serving, catalogue: Catalogue) -> None:
    body = {
        "image": [jpeg(catalogue[0]), jpeg(catalogue[-1])],
        "image_weight": [1.0, -1.0],
        "top_k": 100,
    }
    status, answer = post(server, "product_match", body)
    assert status == 200
    ranking = answer["product_id"]
    assert ranking.index(catalogue[0].product_id) < ranking.index(catalogue[-1].product_id)


def test_crops_are_one_flat_list(server: Serving, catalogue: Catalogue) -> None:
    left, right = catalogue[0], catalogue[-1]
    wide = Image.new("RGB", (640, 320))
    for at, product in ((0, left), (320, right)):
        with Image.open(product.images[0]) as image:
            wide.paste(image.convert("RGB").resize((320, 320)), (at, 0))
    picture = base64.b64encode(encoded(wide)).decode()
    for product, crop in ((left, [0, 0, 0.5, 1]), (right, [0.5, 0, 1, 1])):
        status, answer = post(server, "product_match", {"image": picture, "crop": crop})
        assert status == 200, answer
        assert answer["product_id"][0] == product.product_id
    body = {"image": [picture, picture], "crop": [0, 0, 0.5, 1, 0, 0, 0.5, 1]}
    status, answer = post(server, "product_match", body)
    assert status == 200, answer
    assert answer["product_id"][0] == left.product_id


def test_no_match_is_an_empty_answer(server: Serving, catalogue: Catalogue) -> None:
    body = {"text": "mug", "filter": '{"category": "none such"}'}
    status, answer = post(server, "product_match", body)
    assert status == 200, answer
    assert answer.get("product_id", []) == []
    assert json.loads(answer["details"])["degraded"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"image": "no picture"}, "image[0]"),
        ({"text": ""}, "text[0]: empty"),
        ({"top_k": 3}, "image, text, like: none was sent"),
        ({"text": "mug", "top_k": 0}, "top_k: 0"),
        ({"text": "mug", "crop": [0, 0, 1, 1]}, "crop"),
        ({"image": "x", "crop": [0, 0, 1]}, "crop"),
    ],
    ids=["no picture", "empty text", "nothing", "top_k", "crop without picture", "three numbers"],
)
def test_a_bad_request_gets_400_and_a_sentence(
    server: Serving, catalogue: Catalogue, body: dict[str, Any], words: str
) -> None:
    status, answer = post(server, "product_match", body)
    assert status == 400
    assert words in answer["error"]


def test_the_answer_is_that_of_the_binary_interface(server: Serving, catalogue: Catalogue) -> None:
    binary = send(server.triton.http_url, {"text": bytes_tensor("red mug")})
    _, flat = post(server, "product_match", {"text": "red mug"})
    assert flat["product_id"] == [item.decode() for item in binary["product_id"][0]]
    assert flat["score"] == pytest.approx(binary["score"][0].tolist(), abs=1e-5)


def test_products_can_be_ingested_and_read_too(server: Serving, catalogue: Catalogue) -> None:
    product = {"product_id": "by-curl", "name": "By curl", "category": "curl"}
    body = {"operation": "upsert", "product": json.dumps(product), "image": jpeg(catalogue[0])}
    try:
        status, answer = post(server, "product_ingest", body)
        assert (status, answer["status"], answer["revision"]) == (200, "created", 1)
        get = {"operation": "get", "product": '{"product_id": "by-curl"}'}
        status, answer = post(server, "product_ingest", get)
        assert json.loads(answer["details"])["product"]["name"] == "By curl"
    finally:
        delete = {"operation": "delete", "product": '{"product_id": "by-curl"}'}
        status, answer = post(server, "product_ingest", delete)
    assert (status, answer["status"]) == (200, "deleted")
