"""Links of matches lead through the gateway to files that a page can show."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from gateway_support import Gateway, running_gateway
from PIL import Image
from serving_support import Serving, picture, serving

from bls_models.bundle import Bundle
from local_server.temporary_stack import wait_for_index

pytestmark = pytest.mark.server

SECRET = "picture-secret-" + "0123456789abcdef" * 2
URL = "https://gateway.example/pictures"
OWN = "https://shop.example/mug.jpg"


@dataclass(frozen=True)
class Shop:
    """A server that makes links, and the gateway that follows them."""

    server: Serving
    gateway: Gateway


@pytest.fixture(scope="module")
def shop(
    bundle: Bundle, database_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    state = tmp_path_factory.mktemp("links")
    settings = {"PRODUCT_MATCH_PICTURE_URL": URL, "PRODUCT_MATCH_PICTURE_SECRET": SECRET}
    with serving(state, database_uri, state.name, **settings) as server:
        with server.client() as client:
            for name, images, attributes in (
                ("pictured", [picture(1), picture(2)], {}),
                ("elsewhere", [picture(3)], {"image_url": OWN}),
                ("bare", [], {}),
            ):
                product = {"product_id": name, "name": f"{name} mug", "category": "mug"}
                client.upsert(product | {"attributes": attributes}, images)
        wait_for_index(server.triton.http_url, 3)
        ports = server.triton.ports
        folder = tmp_path_factory.mktemp("gateway-links")
        with running_gateway(folder, ports.http, ports.grpc, picture_secret=SECRET) as gateway:
            yield Shop(server, gateway)


def products(shop: Shop, protocol: str) -> dict[str, dict[str, Any]]:
    with shop.server.client(protocol) as client:
        found = client.match(texts="mug", min_score=-1).matches
    return {match.product_id: match.product for match in found}


def test_a_match_says_where_its_products_pictures_are(shop: Shop, protocol: str) -> None:
    found = products(shop, protocol)
    link = found["pictured"]["picture_url"]
    assert link.startswith(f"{URL}/{found['pictured']['images'][0]['sha256']}?size=640&expires=")
    assert found["elsewhere"]["picture_url"] == OWN
    assert "picture_url" not in found["bare"]
    answer = shop.gateway.ask(link.removeprefix("https://gateway.example"), key="")
    assert answer.status == 200
    # Its size is one that the gateway does not round.
    assert answer.headers["ETag"].endswith('-640-webp"')
    with Image.open(io.BytesIO(answer.body)) as image:
        stored = found["pictured"]["images"][0]
        assert image.size == (stored["width"], stored["height"])


def test_a_product_that_was_matched_can_be_sent_back(shop: Shop) -> None:
    product = products(shop, "http")["pictured"]
    with shop.server.client() as client:
        assert client.upsert(product).status == "unchanged"
        assert "picture_url" not in (client.get("pictured") or {})
