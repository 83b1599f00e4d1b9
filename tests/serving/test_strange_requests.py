"""Requests that are unusual and right: in pieces, announced, cut off, for some outputs alone."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.http as triton_http
from serving_support import SampleProduct, Serving

from product_match_client import AsyncProductMatchClient

pytestmark = pytest.mark.server

PATH = "/v2/models/product_match/infer"
BODY = json.dumps(
    {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["red mug"]}]}
).encode()


def address(server: Serving) -> tuple[str, int]:
    parts = urlsplit(server.triton.http_url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def first_product(answer: Any) -> str:
    (ids,) = (item["data"] for item in answer["outputs"] if item["name"] == "product_id")
    return str(ids[0])


def test_a_body_in_pieces_is_read(server: Serving, catalogue: list[SampleProduct]) -> None:
    def pieces() -> Iterator[bytes]:
        for at in range(0, len(BODY), 7):
            yield BODY[at : at + 7]

    with closing(http.client.HTTPConnection(*address(server), timeout=60)) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", PATH, pieces(), headers, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 200
        assert first_product(json.loads(answer.read())) in {item.product_id for item in catalogue}


def test_a_client_that_asks_before_it_sends_is_answered(server: Serving) -> None:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: server\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(address(server), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("names", [["score"], ["details", "product_id"], ["product", "caption"]])
def test_a_client_gets_the_outputs_that_it_asks_for(server: Serving, names: list[str]) -> None:
    tensor = triton_http.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"red mug"]], np.object_))
    outputs = [triton_http.InferRequestedOutput(name) for name in names]
    with triton_http.InferenceServerClient("{}:{}".format(*address(server))) as client:
        answer = client.infer("product_match", [tensor], outputs=outputs).get_response()
    assert {item["name"] for item in answer["outputs"]} == set(names)


def test_matches_that_are_cancelled_disturb_no_others(
    server: Serving, catalogue: list[SampleProduct]
) -> None:
    photo = catalogue[0].queries[0]

    async def run() -> list[str]:
        async with AsyncProductMatchClient(server.triton.http_url) as client:
            given_up = [asyncio.create_task(client.match(photo)) for _ in range(12)]
            kept = [asyncio.create_task(client.match(photo)) for _ in range(12)]
            await asyncio.sleep(0.01)
            for task in given_up:
                task.cancel()
            results = await asyncio.gather(*kept)
            await asyncio.gather(*given_up, return_exceptions=True)
            return [result.matches[0].product_id for result in results]

    assert set(asyncio.run(run())) == {catalogue[0].product_id}
