"""One id from the client's header through the gateway to Triton, the logs and back."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from gateway_support import (
    INFER,
    JSON,
    LOADER_KEY,
    MATCH,
    SERVICE,
    SHOP_KEY,
    Gateway,
    Recorder,
    match_message,
    running_gateway,
)
from serving_support import Serving, wait_for
from tritonclient.grpc import service_pb2

from product_match_client import ProductMatchClient

pytestmark = pytest.mark.server

MADE = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Named:
    """A match through the gateway.

    Attributes:
        header: the id that came back as a header.
        details: of the answer.
    """

    header: str
    details: dict[str, Any]


def match_by_http(gateway: Gateway, header: str, own: str) -> Named:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["mug"]}
    body = {"inputs": [tensor], **({"id": own} if own else {})}
    headers = JSON | ({"X-Request-ID": header} if header else {})
    answer = gateway.ask(INFER, json.dumps(body).encode(), headers)
    assert answer.status == 200, answer.body
    outputs = {item["name"]: item["data"] for item in answer.json()["outputs"]}
    return Named(answer.headers["X-Request-ID"], json.loads(outputs["details"][0]))


def match_by_grpc(gateway: Gateway, header: str, own: str) -> Named:
    metadata = [("x-api-key", SHOP_KEY), *([("x-request-id", header)] if header else [])]
    with grpc.insecure_channel(gateway.url("grpc").partition("://")[2]) as channel:
        function = channel.unary_unary(
            SERVICE + "ModelInfer", request_serializer=None, response_deserializer=None
        )
        message = match_message(request_id=own)
        encoded, call = function.with_call(message, metadata=metadata, timeout=60)
        (returned,) = (value for key, value in call.initial_metadata() if key == "x-request-id")
    answer = service_pb2.ModelInferResponse.FromString(encoded)
    position = [item.name for item in answer.outputs].index("details")
    # BYTES: a length of 4 bytes, then the value.
    return Named(str(returned), json.loads(answer.raw_output_contents[position][4:]))


def match(gateway: Gateway, protocol: str, header: str = "", own: str = "") -> Named:
    return (match_by_http if protocol == "http" else match_by_grpc)(gateway, header, own)


def access_entry(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """The access log's one entry of a request."""

    def find() -> list[dict[str, Any]]:
        lines = gateway.process.log.read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [item for item in entries if item["request_id"] == request_id]

    (entry,) = wait_for(find, f"{request_id} is in the access log")
    return entry


def test_a_clients_id_is_the_same_everywhere(
    gateway: Gateway, server: Serving, protocol: str
) -> None:
    request_id = f'order/{uuid.uuid4()}"$'
    named = match(gateway, protocol, request_id)
    assert named.header == request_id
    assert named.details["request_id"] == request_id
    assert server.log_entry(request_id)["status"] == "ok"
    assert access_entry(gateway, request_id)["client"] == "shop"


@pytest.mark.parametrize("sent", ["", "has space", "x" * 129])
def test_the_gateways_own_id_is_the_same_everywhere(
    gateway: Gateway, server: Serving, protocol: str, sent: str
) -> None:
    named = match(gateway, protocol, sent)
    assert MADE.fullmatch(named.header)
    assert named.details["request_id"] == named.header
    assert server.log_entry(named.header)["status"] == "ok"
    assert access_entry(gateway, named.header)["status"] == 200


def test_an_id_inside_the_request_leads_to_the_gateways_by_the_log(
    gateway: Gateway, server: Serving, protocol: str
) -> None:
    own = f"own-{uuid.uuid4()}"
    named = match(gateway, protocol, own=own)
    assert named.details["request_id"] == own
    assert server.log_entry(own)["header_request_id"] == named.header
    assert access_entry(gateway, named.header)["status"] == 200


def test_the_client_library_needs_no_more_than_a_header(
    gateway: Gateway, server: Serving, protocol: str
) -> None:
    request_id = f"order-{uuid.uuid4()}"
    headers = {"X-API-Key": SHOP_KEY, "X-Request-ID": request_id}
    with ProductMatchClient(gateway.url(protocol), headers=headers) as client:
        assert client.match(texts="mug").details["request_id"] == request_id


def test_refusals_and_failures_carry_the_id_too(gateway: Gateway, server: Serving) -> None:
    for path, body, key, status in (
        (MATCH, b'{"text": "mug"}', "", 401),
        ("/nothing", b"{}", SHOP_KEY, 404),
        (INFER, b'{"inputs": []}', LOADER_KEY, 400),
    ):
        request_id = f"refused-{uuid.uuid4()}"
        answer = gateway.ask(path, body, JSON | {"X-Request-ID": request_id}, key=key)
        assert (answer.status, answer.headers["X-Request-ID"]) == (status, request_id)
        entry = access_entry(gateway, request_id)
        assert (entry["status"], entry["level"]) == (status, "warning")


@pytest.mark.parametrize(
    ("model", "level", "code"),
    [("product_match", "info", "0"), ("image_encoder", "warning", "5")],
)
def test_the_access_log_says_how_grpc_calls_went(
    gateway: Gateway, model: str, level: str, code: str
) -> None:
    request_id = f"call-{uuid.uuid4()}"
    metadata = {"x-api-key": SHOP_KEY, "x-request-id": request_id}
    gateway.call("ModelInfer", match_message(model), metadata)
    entry = access_entry(gateway, request_id)
    assert (entry["level"], entry["grpc_status"]) == (level, code)


def test_the_access_log_may_be_text(recorder: Recorder, tmp_path: Path) -> None:
    with running_gateway(tmp_path, recorder.port, 9, log_format="text") as gateway:
        assert gateway.ask(MATCH, b"{}", JSON | {"X-Request-ID": "order-3"}).status == 200
        lines = wait_for(
            lambda: [
                line
                for line in gateway.process.log.read_text(encoding="utf-8").splitlines()
                if line.endswith(" order-3")
            ],
            "the request is logged",
        )
    (line,) = lines
    assert re.fullmatch(
        rf'\S+T\S+ info 127\.0\.0\.1 shop "POST {MATCH} HTTP/1\.1" 200 \d+ [\d.]+ s order-3', line
    )
