"""Pictures as a page shows them: by key or signed link, from the real nginx and the real Triton."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from gateway_support import (
    ANSWER_SECONDS,
    JSON,
    MATCH,
    SHOP_KEY,
    Gateway,
    Recorder,
    running_gateway,
    running_recorder,
)
from PIL import Image
from serving_support import SampleProduct, Serving, bytes_tensor, encoded, send, wait_for

from bls_models.picture_links import signature
from bls_models.specs import PRODUCT_PICTURE
from local_server.processes import LOOPBACK

pytestmark = pytest.mark.server

SECRET = "picture-secret-" + "0123456789abcdef" * 2
YEAR = 31_536_000
UNKNOWN = "0" * 64


@pytest.fixture(scope="module")
def pictures(server: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that knows who signs links."""
    ports = server.triton.ports
    folder = tmp_path_factory.mktemp("pictures")
    with running_gateway(folder, ports.http, ports.grpc, picture_secret=SECRET) as running:
        yield running


@pytest.fixture(scope="module")
def sha256(server: Serving, catalogue: list[SampleProduct]) -> str:
    """Of a stored picture."""
    document = server.database["products"].find_one({"_id": catalogue[0].product_id})
    assert document is not None
    found: str = document["images"][0]["sha256"]
    return found


def signed(sha256: str, seconds: int = 100, secret: str = SECRET) -> str:
    expires = int(time.time()) + seconds
    return f"/pictures/{sha256}?expires={expires}&signature={signature(secret, sha256, expires)}"


@pytest.mark.parametrize(
    ("query", "kind", "longest"),
    [
        ("", "webp", None),
        ("?size=128", "webp", 128),
        ("?size=100", "webp", 128),
        ("?format=jpeg&size=64&other=1", "jpeg", 64),
        ("?size=2048", "webp", None),
    ],
)
def test_a_picture_comes_as_a_file(
    pictures: Gateway, sha256: str, query: str, kind: str, longest: int | None
) -> None:
    answer = pictures.ask(f"/pictures/{sha256}{query}")
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == f"image/{kind}"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert answer.headers["Cache-Control"] == f"private, max-age={YEAR}, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["ETag"].startswith(f'"{sha256}-')
    assert "Inference-Header-Content-Length" not in answer.headers
    with Image.open(io.BytesIO(answer.body)) as image:
        image.load()
        assert image.format == kind.upper()
        assert longest is None or max(image.size) == longest


def test_a_large_picture_arrives_whole(pictures: Gateway, server: Serving) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (900, 1200, 3), np.uint8)
    data = encoded(Image.fromarray(noise))
    product = {"product_id": "large-picture", "name": "Noise", "category": "noise"}
    with server.client() as client:
        client.upsert(product, [data])
        try:
            sha256 = hashlib.sha256(data).hexdigest()
            asked = {
                "sha256": bytes_tensor(sha256),
                "format": bytes_tensor("jpeg"),
                "encoding": bytes_tensor("raw"),
            }
            answer = pictures.ask(f"/pictures/{sha256}?format=jpeg")
            wanted = send(server.url("grpc"), asked, model=PRODUCT_PICTURE)["picture"][0, 0]
            assert len(wanted) > 400_000
            assert answer.body == wanted
        finally:
            client.delete("large-picture")


def test_whoever_has_it_is_not_sent_it_again(pictures: Gateway, sha256: str) -> None:
    path = f"/pictures/{sha256}?size=50"
    tag = pictures.ask(path).headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        answer = pictures.ask(path, headers={"If-None-Match": known})
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["ETag"] == tag
        assert "immutable" in answer.headers["Cache-Control"]
    # Of this size are all from 16 on.
    assert pictures.ask(f"/pictures/{sha256}?size=16").headers["ETag"] == tag
    for other in ("?size=65", "", "?size=50&format=jpeg"):
        headers = {"If-None-Match": tag}
        assert pictures.ask(f"/pictures/{sha256}{other}", headers=headers).status == 200


def test_a_signed_link_needs_no_key(pictures: Gateway, sha256: str) -> None:
    for size in ("", "&size=40"):
        answer = pictures.ask(signed(sha256) + size, key="")
        assert answer.status == 200
        public, age, immutable = answer.headers["Cache-Control"].split(", ")
        assert (public, immutable) == ("public", "immutable")
        assert 0 < int(age.removeprefix("max-age=")) <= 100


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda link: link.partition("?")[0], 401),
        (lambda link: link.partition("&signature")[0], 401),
        (lambda link: link.replace("expires=", "expires=1"), 403),
        (lambda link: link.replace("?expires=", "?expires=-"), 403),
        (lambda link: link.replace("?expires", "?e"), 403),
        (lambda link: link[:-1], 403),
        (lambda link: link + "0", 403),
        (lambda link: link[:-64] + link[-64:].upper(), 403),
        (lambda link: link[:-64] + "0" * 64, 403),
        (lambda link: link.replace("/pictures/", "/pictures/" + "0" * 64 + "?x="), 403),
        (lambda link: link.replace("signature=", "signature=&s="), 401),
    ],
)
def test_a_link_that_was_changed_shows_nothing(
    pictures: Gateway, sha256: str, change: object, status: int
) -> None:
    assert callable(change)
    answer = pictures.ask(change(signed(sha256)), key="")
    assert answer.status == status
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    assert "link" in answer.json()["error"]


def test_a_link_ends_and_others_sign_in_vain(pictures: Gateway, sha256: str) -> None:
    for link in (signed(sha256, -1), signed(sha256, secret=SECRET + "x")):
        answer = pictures.ask(link, key="")
        assert answer.status == 403
        assert "expired" in answer.json()["error"]
        # Nor does one that fits a key's rights need a signature.
        assert pictures.ask(link).status == 200


def test_without_a_secret_no_link_is_good(gateway: Gateway, sha256: str) -> None:
    assert gateway.ask(signed(sha256, secret=""), key="").status == 403
    assert gateway.ask(signed(sha256), key="").status == 403
    assert gateway.ask(f"/pictures/{sha256}").status == 200


@pytest.mark.parametrize(
    "query",
    ["?size=15", "?size=2049", "?size=1e3", "?size=-50", "?size=99999", "?format=png",
     "?format=__proto__", '?format="'],
)  # fmt: skip
def test_what_a_picture_cannot_be_is_refused_in_words(
    pictures: Gateway, sha256: str, query: str
) -> None:
    answer = pictures.ask(f"/pictures/{sha256}{query}")
    assert answer.status == 400
    assert "16 to 2048" in answer.json()["error"]


@pytest.mark.parametrize("path", ["", "x", UNKNOWN[1:], UNKNOWN + "0", UNKNOWN + "/", "A" * 64])
def test_what_is_no_picture_is_not_there(pictures: Gateway, path: str) -> None:
    answer = pictures.ask(f"/pictures/{path}")
    assert answer.status == 404
    assert "/pictures/<sha256>" in answer.json()["error"]


def test_a_picture_that_is_not_stored_is_not_there(pictures: Gateway) -> None:
    for path in (f"/pictures/{UNKNOWN}?size=50", signed(UNKNOWN)):
        answer = pictures.ask(path)
        assert answer.status == 404
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert UNKNOWN in answer.json()["error"]


def test_head_says_what_get_would(pictures: Gateway, sha256: str) -> None:
    path = f"/pictures/{sha256}?size=50"
    got = pictures.ask(path)
    with closing(http.client.HTTPConnection(LOOPBACK, pictures.http_port)) as connection:
        connection.request("HEAD", signed(sha256) + "&size=50")
        head = connection.getresponse()
        assert (head.status, head.read()) == (200, b"")
        for name in ("Content-Type", "Content-Length", "ETag"):
            assert head.headers[name] == got.headers[name]
    for method in ("POST", "PUT", "DELETE"):
        answer = pictures.ask(path, method=method)
        assert answer.status == 405
        assert "GET for pictures" in answer.json()["error"]


def test_a_server_that_is_away_is_no_picture(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, link = tmp_path_factory.mktemp("away"), signed(UNKNOWN)
    with running_gateway(folder, 9, 9, picture_secret=SECRET) as gateway:
        answer = gateway.ask(link, key="")
        assert answer.status == 502
        assert answer.headers["Cache-Control"] == "no-store"
        assert "try again" in answer.json()["error"]
        assert gateway.logged(answer)["level"] == "error"
        logged = gateway.process.log.read_text(encoding="utf-8")
    # Nginx's own words of the failure would have the link.
    assert link[-64:] not in logged


@pytest.mark.parametrize(
    ("asked", "made"),
    [(16, 64), (64, 64), (65, 96), (320, 320), (640, 640), (641, 768), (1025, 1536), (2047, 2048)],
)
def test_sizes_are_rounded_up_to_a_few(
    recorded: Gateway, recorder: Recorder, asked: int, made: int
) -> None:
    assert recorded.ask(f"/pictures/{UNKNOWN}?size={asked}").status == 200
    inputs = {
        item["name"]: item["data"] for item in json.loads(recorder.requests[-1].body)["inputs"]
    }
    assert inputs["size"] == [made]


def test_caches_keep_pictures_of_each_origin_apart(
    recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, origin = tmp_path_factory.mktemp("origins"), "https://shop.example"
    with running_gateway(folder, recorder.port, 9, cors_origins=origin) as gateway:
        for sent in ({}, {"Origin": origin}, {"Origin": "https://other.example"}):
            answer = gateway.ask(f"/pictures/{UNKNOWN}", headers=sent)
            assert answer.status == 200
            assert answer.headers["Vary"] == "Origin"


def test_the_rate_of_pictures_is_its_own(
    recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    options = {"picture_rate": 1, "picture_burst": 2}
    folder = tmp_path_factory.mktemp("rates")
    with running_gateway(folder, recorder.port, 9, picture_secret=SECRET, **options) as gateway:
        # One goes at once and two on top, for whoever has a key and for who has none.
        for path, key in ((f"/pictures/{UNKNOWN}", SHOP_KEY), (signed(UNKNOWN), "")):
            statuses = [gateway.ask(path, key=key).status for _ in range(6)]
            assert statuses[:3] == [200] * 3
            assert 429 in statuses[3:]
            # A match goes through after each picture that does not.
            assert [gateway.ask(MATCH, b"{}", JSON).status for _ in range(6)] == [200] * 6


def test_pictures_by_links_take_none_of_the_places_of_keys(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    options = {"requests": 3, "picture_requests": 3, "picture_address_requests": 2}
    # As behind a proxy, so that they come from several addresses.
    options |= {"picture_secret": SECRET, "trusted_proxies": "127.0.0.0/8", "timeout_s": 600}
    folder = tmp_path_factory.mktemp("places")
    with (
        running_recorder() as upstream,
        running_gateway(folder, upstream.port, 9, **options) as gateway,
        ThreadPoolExecutor(3) as pool,
    ):

        def picture(number: int) -> int:
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            return gateway.ask(signed(UNKNOWN), headers=headers, key="").status

        upstream.held = "product_picture"
        try:
            shown = [pool.submit(picture, 1) for _ in range(2)]
            wait_for(lambda: len(upstream.requests) == 2, "an address has its share")
            assert picture(1) == 429
            shown.append(pool.submit(picture, 2))
            wait_for(lambda: len(upstream.requests) == 3, "all places are taken")
            assert picture(3) == 429
            assert gateway.ask(MATCH, b"{}", JSON).status == 200
            for path in "/healthz", "/v2/health/live":
                headers = {"X-Forwarded-For": "203.0.113.1"}
                assert gateway.ask(path, headers=headers, key="").status == 200
        finally:
            upstream.answers.set()
        assert [item.result() for item in shown] == [200] * 3
        wait_for(lambda: picture(1) == 200, "their places are free again")


@pytest.mark.parametrize("header", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_a_body_of_a_picture_is_not_waited_for(
    recorded: Gateway, recorder: Recorder, header: str
) -> None:
    before = len(recorder.requests)
    lines = [f"GET /pictures/{UNKNOWN} HTTP/1.1", "Host: gateway", f"X-API-Key: {SHOP_KEY}", header]
    with socket.create_connection((LOOPBACK, recorded.http_port), ANSWER_SECONDS) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        # One that waits in vain is answered with 408.
        assert answer.status == 413
        assert "no body" in json.load(answer)["error"]
    assert len(recorder.requests) == before
    assert recorded.ask(f"/pictures/{UNKNOWN}", headers={"Content-Length": "0"}).status == 200


def test_the_log_has_no_signature_and_the_server_sees_none_of_the_clients_headers(
    recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = signed(UNKNOWN)
    folder = tmp_path_factory.mktemp("logged")
    with running_gateway(folder, recorder.port, 9, picture_secret=SECRET) as gateway:
        headers = {"Inference-Header-Content-Length": "7", "Cookie": "c", "Range": "bytes=0-1"}
        recorder.requests.clear()
        entry = gateway.logged(gateway.ask(link + "&size=50", headers=headers, key=""))
        (received,) = recorder.requests
        logged = gateway.process.log.read_text(encoding="utf-8")
    assert entry["request"].endswith("&signature=...&size=50 HTTP/1.1")
    assert link[-64:] not in logged
    assert SECRET not in logged
    assert received.path == "/v2/models/product_picture/infer"
    assert not {"cookie", "range", "inference-header-content-length"} & received.headers.keys()
    assert b"signature" not in received.body
    assert UNKNOWN.encode() in received.body
