"""Bad requests: each is refused with 400 and the tensor named, is logged, and harms no other."""

from __future__ import annotations

import base64
import itertools
import struct
import threading
import uuid
import zlib
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from serving_support import (
    CALL_SECONDS,
    SampleProduct,
    Serving,
    blocks,
    bytes_tensor,
    encoded,
    float_tensor,
    int_tensor,
    send,
    wait_for,
)

from bls_models.specs import PRODUCT_MATCH
from product_match_client import BadRequestError, ProductMatchClient
from product_match_client.calls import Call, Tensor
from product_match_client.endpoint import endpoint_from_url
from product_match_client.transports import BlockingTransport, open_blocking

pytestmark = pytest.mark.server

Tensors = dict[str, npt.NDArray[Any]]

GOOD = encoded(blocks(1), "JPEG")
IMAGE = bytes_tensor(GOOD)
TEXT = bytes_tensor("mug")
NAN = float("nan")
REFUSED = {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"}


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


# What is sent, how the message begins, and the error's type in the log.
BAD: dict[str, tuple[Tensors, str, str]] = {
    "only top_k": ({"top_k": int_tensor(3)}, "image, text, like: none was sent", "RequestError"),
    "no image": ({"image": bytes_tensor(b"hello")}, "image[0]: ", "ImageError"),
    "empty image": ({"image": bytes_tensor(b"")}, "image[0]: empty", "ImageError"),
    "base64 of no image": (
        {"image": bytes_tensor(base64.b64encode(b"hello world"))},
        "image[0]: ",
        "ImageError",
    ),
    "truncated second image": (
        {"image": bytes_tensor(GOOD, GOOD[: len(GOOD) // 2])},
        "image[1]: ",
        "ImageError",
    ),
    "decompression bomb": (
        {"image": bytes_tensor(png_header(60_000, 60_000))},
        "image[0]: 60000 x 60000 pixels",
        "ImageError",
    ),
    "too many bytes": (
        {"image": bytes_tensor(b"\xff\xd8\xff" + bytes(11 * 2**20))},
        "image[0]: ",
        "ImageError",
    ),
    "too many images": ({"image": bytes_tensor(*[GOOD] * 9)}, "image: 9 values", "RequestError"),
    "crop of no area": (
        {"image": IMAGE, "crop": float_tensor((0.5, 0, 0.5, 1))},
        "crop[0]: ",
        "ImageError",
    ),
    "crop inverted": (
        {"image": IMAGE, "crop": float_tensor((1, 1, 0, 0))},
        "crop[0]: ",
        "ImageError",
    ),
    "crop NaN": (
        {"image": IMAGE, "crop": float_tensor((NAN, 0, 1, 1))},
        "crop[0]: ",
        "ImageError",
    ),
    "a crop too many": (
        {"image": IMAGE, "crop": float_tensor((0, 0, 1, 1), (0, 0, 1, 1))},
        "crop: 2 crops",
        "RequestError",
    ),
    "unknown filter field": (
        {"text": TEXT, "filter": bytes_tensor('{"weight": 3}')},
        "filter: ",
        "FilterError",
    ),
    "unknown filter operator": (
        {"text": TEXT, "filter": bytes_tensor('{"price": {"$near": 3}}')},
        "filter: ",
        "FilterError",
    ),
    "malformed filter": (
        {"text": TEXT, "filter": bytes_tensor('{"price": ')},
        "filter: malformed JSON",
        "FilterError",
    ),
    "top_k 0": ({"text": TEXT, "top_k": int_tensor(0)}, "top_k: 0;", "RequestError"),
    "top_k 101": ({"text": TEXT, "top_k": int_tensor(101)}, "top_k: 101;", "RequestError"),
    "offset -1": ({"text": TEXT, "offset": int_tensor(-1)}, "offset: -1;", "RequestError"),
    "a weight too many": (
        {"image": IMAGE, "image_weight": float_tensor(1, 1)},
        "image_weight: 2 weights",
        "RequestError",
    ),
    "weight NaN": (
        {"text": TEXT, "text_weight": float_tensor(NAN)},
        "text_weight: NaN or infinity",
        "RequestError",
    ),
    "min_score NaN": (
        {"text": TEXT, "min_score": float_tensor(NAN)},
        "min_score: nan;",
        "RequestError",
    ),
    "a text of a megabyte": (
        {"text": bytes_tensor("a" * 2**20)},
        "text[0]: 1048576 bytes",
        "RequestError",
    ),
    "a text that is not UTF-8": (
        {"text": bytes_tensor(b"\xff\xfe")},
        "text[0]: not UTF-8",
        "RequestError",
    ),
    "two queries in one request": (
        {"text": np.array([[b"mug"], [b"vase"]], np.object_)},
        "text: shape [2, 1]",
        "RequestError",
    ),
}


@pytest.mark.parametrize(("tensors", "start", "kind"), BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_refused_in_words_and_logged_and_the_server_goes_on(
    server: Serving,
    protocol: str,
    catalogue: list[SampleProduct],
    tensors: Tensors,
    start: str,
    kind: str,
) -> None:
    request_id = f"bad-{uuid.uuid4().hex}"
    with pytest.raises(BadRequestError) as caught:
        send(server.url(protocol), tensors, request_id)
    assert caught.value.status == REFUSED[protocol]
    message = str(caught.value)
    assert start in message
    assert "expected" in message
    entry = server.log_entry(request_id)
    assert entry["status"] == "error"
    assert entry["error"]["type"] == kind
    assert entry["error"]["message"].startswith(start)
    assert entry["error"]["message"] in message
    good = send(server.url(protocol), {"text": TEXT})
    assert good["product_id"].shape == (1, 5)


def test_a_request_without_any_input_is_refused_and_the_server_goes_on(
    server: Serving, protocol: str, catalogue: list[SampleProduct]
) -> None:
    with pytest.raises(BadRequestError) as caught:
        send(server.url(protocol), {})
    assert caught.value.status == REFUSED[protocol]
    assert send(server.url(protocol), {"text": TEXT})["product_id"].shape == (1, 5)


def test_an_input_of_a_wrong_dtype_is_refused_and_the_server_goes_on(
    server: Serving, protocol: str, catalogue: list[SampleProduct]
) -> None:

    endpoint = endpoint_from_url(server.url(protocol))
    transport = BlockingTransport(open_blocking(endpoint, CALL_SECONDS), endpoint, CALL_SECONDS, {})
    wrong = Tensor("top_k", "INT64", np.array([[3]], np.int64))
    call = Call(PRODUCT_MATCH, (Tensor("text", "BYTES", TEXT), wrong), dict)
    try:
        with pytest.raises(BadRequestError, match="top_k"):
            transport.send(call)
    finally:
        transport.close()
    assert send(server.url(protocol), {"text": TEXT})["product_id"].shape == (1, 5)


def test_one_bad_request_in_a_batch_fails_alone(
    server: Serving, protocol: str, catalogue: list[SampleProduct]
) -> None:
    """The log tells when each was under way, and so that the bad one had company."""
    good = [item.images[0].read_bytes() for item in catalogue]

    def together() -> bool:
        name = uuid.uuid4().hex
        answers: dict[int, str | Exception] = {}
        start = threading.Barrier(17)

        def ask(number: int) -> None:
            with server.client(protocol) as client:
                client.is_ready()
                start.wait()
                data = b"no picture" if number == 7 else good[number % len(good)]
                try:
                    result = client.match(data, caption="never", request_id=f"{name}-{number}")
                    answers[number] = result.matches[0].product_id
                except BadRequestError as error:
                    answers[number] = error

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(17)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bad = answers.pop(7)
        assert isinstance(bad, BadRequestError)
        assert "image[0]" in str(bad)
        assert answers == {
            number: catalogue[number % len(good)].product_id for number in range(17) if number != 7
        }
        everything = {"request_id": {"$regex": f"^{name}"}}
        log = server.database["match_log"]
        wait_for(lambda: log.count_documents(everything) == 17, "all are logged")
        under_way = {
            entry["request_id"]: (
                entry["time"] - timedelta(milliseconds=entry["milliseconds"]["total"]),
                entry["time"],
            )
            for entry in log.find(everything)
        }
        began, ended = under_way.pop(f"{name}-7")
        return any(first < ended and began < last for first, last in under_way.values())

    assert any(together() for _ in itertools.repeat(None, 10)), "the bad one never had company"


def test_bad_values_that_the_client_lets_through_are_named_by_the_server(
    client: ProductMatchClient, catalogue: list[SampleProduct]
) -> None:
    with pytest.raises(BadRequestError, match=r"image_weight: 2 weights; expected 1"):
        client.match(images=GOOD, image_weights=[1, 2])
    with pytest.raises(BadRequestError, match=r"filter: .*colour.*attributes\.<key>"):
        client.match(images=GOOD, filter={"colour": "red"})
