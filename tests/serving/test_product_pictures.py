"""Products' pictures through the running server, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving_support import CALL_SECONDS, SampleProduct, Serving, bytes_tensor, send, wait_for

from bls_models.specs import PRODUCT_PICTURE
from product_match_client import (
    AsyncProductMatchClient,
    BadRequestError,
    NotFoundError,
    ProductMatchClient,
)

pytestmark = pytest.mark.server

URL = "/v2/models/product_picture/"


def post(server: Serving, action: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """JSON to ``generate`` or ``infer``; returns status and JSON."""
    request = urllib.request.Request(
        server.triton.http_url + URL + action,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("kind", ["webp", "jpeg"])
def test_every_picture_of_a_product_can_be_had(
    client: ProductMatchClient, catalogue: list[SampleProduct], kind: str
) -> None:
    product = catalogue[0]
    for number, path in enumerate(product.images, start=1):
        found = client.picture(product.product_id, number, size=100, format=kind)
        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert found.content_type == f"image/{kind}"
        with Image.open(path) as stored, Image.open(io.BytesIO(found.data)) as shown:
            assert shown.format == kind.upper()
            assert shown.size == (found.width, found.height)
            assert max(shown.size) == 100
            wanted = np.asarray(stored.convert("RGB").resize(shown.size), float)
            assert np.abs(wanted - np.asarray(shown.convert("RGB"), float)).mean() < 12
        assert client.picture(sha256=found.sha256, size=100, format=kind) == found


def test_the_documents_of_matches_name_pictures_that_are_there(
    client: ProductMatchClient, catalogue: list[SampleProduct]
) -> None:
    for match in client.match(catalogue[0].queries[0]).matches:
        for number, image in enumerate(match.product["images"], start=1):
            found = client.picture(sha256=image["sha256"])
            assert (found.width, found.height) == (image["width"], image["height"])
            assert client.picture(match.product_id, number) == found


def test_what_is_not_stored_is_not_found(
    client: ProductMatchClient, catalogue: list[SampleProduct]
) -> None:
    product = catalogue[0]
    for ask in (
        lambda: client.picture("no-such-product"),
        lambda: client.picture(product.product_id, len(product.images) + 1),
        lambda: client.picture(sha256="0" * 64),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_what_cannot_be_asked_for_is_refused(client: ProductMatchClient) -> None:
    for message, values in (
        ("size: 5; expected 16 to 2048", {"product_id": "p", "size": 5}),
        ("format: 'png'", {"product_id": "p", "format": "png"}),
        ("both were sent", {"product_id": "p", "sha256": "0" * 64}),
        ("picture needs", {}),
    ):
        with pytest.raises(BadRequestError, match=message) as refusal:
            client.picture(**values)  # type: ignore[arg-type]
        assert not isinstance(refusal.value, NotFoundError)


def test_a_picture_of_a_deleted_product_is_gone_with_it(
    client: ProductMatchClient, catalogue: list[SampleProduct], protocol: str
) -> None:
    product_id = f"picture-{protocol}"
    image = Image.new("RGB", (50, 30), (200, 10, 10))
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1 if protocol == "http" else 2)
    client.upsert({"product_id": product_id, "name": "Red", "category": "c"}, [stream.getvalue()])
    found = client.picture(product_id)
    assert (found.width, found.height) == (50, 30)
    client.delete(product_id)
    with pytest.raises(NotFoundError):
        client.picture(product_id)


def test_coroutines_get_pictures_too(server: Serving, catalogue: list[SampleProduct]) -> None:
    async def ask() -> bytes:
        async with AsyncProductMatchClient(server.url("grpc")) as client:
            return (await client.picture(catalogue[0].product_id, 1, size=64)).data

    with server.client() as client:
        assert asyncio.run(ask()) == client.picture(catalogue[0].product_id, size=64).data


def test_json_has_pictures_as_base64(
    server: Serving, catalogue: list[SampleProduct], client: ProductMatchClient
) -> None:
    product_id = catalogue[0].product_id
    status, answer = post(server, "generate", {"product_id": product_id, "size": 80})
    wanted = client.picture(product_id, size=80)
    assert status == 200
    assert base64.b64decode(answer["picture"], validate=True) == wanted.data
    assert (answer["content_type"], answer["width"]) == ("image/webp", wanted.width)
    tensor = {"name": "product_id", "datatype": "BYTES", "shape": [1, 1], "data": [product_id]}
    size = {"name": "size", "datatype": "INT32", "shape": [1, 1], "data": [80]}
    status, answer = post(server, "infer", {"inputs": [tensor, size]})
    assert status == 200
    outputs = {item["name"]: item["data"][0] for item in answer["outputs"]}
    assert base64.b64decode(outputs["picture"], validate=True) == wanted.data


def test_errors_have_the_status_of_their_kind(server: Serving) -> None:
    def ask(name: str, value: str) -> tuple[int, dict[str, Any]]:
        tensor = {"name": name, "datatype": "BYTES", "shape": [1, 1], "data": [value]}
        return post(server, "infer", {"inputs": [tensor]})

    for name, value, wanted in (
        ("product_id", "none-such", 404),
        ("sha256", "0" * 64, 404),
        ("sha256", "xyz", 400),
        ("format", "webp", 400),
    ):
        status, answer = ask(name, value)
        assert status == wanted, answer
    status, answer = post(server, "generate", {"product_id": "mug", "sizes": 50})
    assert status == 400
    assert "Did you mean size?" in answer["error"]


def test_requests_and_hits_are_counted(server: Serving, catalogue: list[SampleProduct]) -> None:
    def counted(series: str) -> bool:
        with urllib.request.urlopen(server.triton.metrics_url) as answer:
            return series in answer.read().decode()

    for _ in range(8):
        sent = {"product_id": bytes_tensor(catalogue[0].product_id)}
        send(server.url("grpc"), sent, model=PRODUCT_PICTURE)
    for series in (
        'product_match_pictures_total{outcome="ok"}',
        'product_match_cache_hits_total{cache="pictures"}',
        'product_match_cache_misses_total{cache="pictures"}',
    ):
        wait_for(lambda series=series: counted(series), f"{series} is there")
