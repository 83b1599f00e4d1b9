"""Who gets through the gateway, and to what: the real nginx in front of the real Triton."""

from __future__ import annotations

import functools
import json

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from gateway_support import (
    INFER,
    JSON,
    LOADER_KEY,
    MATCH,
    SHOP_KEY,
    Gateway,
    match_message,
)
from serving_support import SampleProduct, Serving
from tritonclient.grpc import service_pb2

from product_match_client import ProductMatchClient, ServerError

pytestmark = pytest.mark.server

QUERY = json.dumps({"text": "red mug"}).encode()


@pytest.mark.parametrize(
    "headers", [{"X-API-Key": SHOP_KEY}, {"authorization": f"Bearer {SHOP_KEY}"}]
)
def test_a_client_with_a_key_gets_matches(
    gateway: Gateway, catalogue: list[SampleProduct], protocol: str, headers: dict[str, str]
) -> None:
    product = catalogue[0]
    with ProductMatchClient(gateway.url(protocol), headers=headers) as client:
        result = client.match(product.queries[0])
        assert result.matches[0].product_id == product.product_id
        request_id = result.details["request_id"]
        assert client.feedback(request_id, product.product_id, "accepted") == "recorded"


@pytest.mark.parametrize("key", ["", SHOP_KEY + "0", SHOP_KEY[:-1], "0"])
def test_without_a_known_key_nothing_passes(gateway: Gateway, protocol: str, key: str) -> None:
    headers = {"X-API-Key": key} if key else {}
    refusal = "401" if protocol == "http" else "UNAUTHENTICATED"
    with (
        ProductMatchClient(gateway.url(protocol), headers=headers) as client,
        pytest.raises(ServerError, match=rf"{refusal}.*API key"),
    ):
        client.match(texts="mug")


def test_only_a_key_for_ingest_may_write(gateway: Gateway, server: Serving, protocol: str) -> None:
    product = {"product_id": f"gateway-{protocol}", "name": "Mug", "category": "mug"}
    refusal = "403" if protocol == "http" else "PERMISSION_DENIED"
    with ProductMatchClient(gateway.url(protocol), headers={"X-API-Key": SHOP_KEY}) as shop:
        for write in (lambda: shop.upsert(product, []), lambda: shop.get("mug-classic-red")):
            with pytest.raises(ServerError, match=refusal):
                write()
    assert server.database["products"].find_one({"_id": product["product_id"]}) is None

    with ProductMatchClient(gateway.url(protocol), headers={"X-API-Key": LOADER_KEY}) as loader:
        assert loader.upsert(product, []).status == "created"
        assert loader.delete(product["product_id"]).status == "deleted"
        assert loader.match(texts="mug").details


def test_only_a_key_for_ingest_may_read_reports(gateway: Gateway, protocol: str) -> None:
    refusal = r"403|PERMISSION_DENIED"
    with (
        ProductMatchClient(gateway.url(protocol), headers={"X-API-Key": SHOP_KEY}) as shop,
        pytest.raises(ServerError, match=rf"({refusal}).*product_report take a key of the class"),
    ):
        shop.report("matches")
    with ProductMatchClient(gateway.url(protocol), headers={"X-API-Key": LOADER_KEY}) as loader:
        assert loader.report("server")["bundle"]["name"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/healthz"])
def test_health_needs_no_key(gateway: Gateway, path: str) -> None:
    assert gateway.ask(path, key="").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/models/product_match",
        "/v2/models/product_match/versions/1",
        "/v2/models/product_match/ready",
        "/v2/models/product_match/versions/1/ready",
        "/v2/models/product_ingest/ready",
        "/v2/models/product_feedback",
        "/v2/models/product_picture",
        "/v2/models/product_report",
    ],
)
def test_metadata_and_readiness_of_public_models_pass(gateway: Gateway, path: str) -> None:
    assert gateway.ask(path, key="").status == 401
    answer = gateway.ask(path)
    assert answer.status == 200
    if not path.endswith("ready"):
        assert answer.json()["name"]


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v2/models/image_encoder/infer", "POST"),
        ("/v2/models/product_index/infer", "POST"),
        ("/v2/models/product_match_too/infer", "POST"),
        ("/v2/models/product_match/versions/x/infer", "POST"),
        ("/v2/models/product_match/generate_stream", "POST"),
        ("/v2/models/product_match/trace/setting", "POST"),
        ("/v2/models/image_encoder", "GET"),
        ("/v2/models/product_match/config", "GET"),
        ("/v2/models/product_match/stats", "GET"),
        ("/v2/models/stats", "GET"),
        ("/v2/repository/index", "POST"),
        ("/v2/repository/models/product_match/unload", "POST"),
        ("/v2/systemsharedmemory/status", "GET"),
        ("/v2/systemsharedmemory/region/x/register", "POST"),
        ("/v2/cudasharedmemory/status", "GET"),
        ("/v2/trace/setting", "GET"),
        ("/v2/logging", "POST"),
        ("/metrics", "GET"),
        ("/picture", "GET"),
        ("/refused", "GET"),
        # Ways around.
        ("/v2/models/product_match/../image_encoder/infer", "POST"),
        ("/v2/models/product_match/%2e%2e/image_encoder/infer", "POST"),
        ("/v2/models/product_match%2f..%2fimage_encoder/infer", "POST"),
        ("/V2/models/product_match/infer", "POST"),
        ("/v2/models/image_encoder/infer?x=/v2/models/product_match/infer", "POST"),
    ],
)
def test_everything_else_is_not_there(gateway: Gateway, path: str, method: str) -> None:
    body = b"{}" if method == "POST" else None
    answer = gateway.ask(path, body, JSON, method=method, key=LOADER_KEY)
    assert answer.status == 404
    assert "product_match" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "method"),
    [(MATCH, "GET"), (MATCH, "PUT"), ("/v2/models/product_match", "POST"), ("/v2", "DELETE")],
)
def test_other_methods_are_refused(gateway: Gateway, path: str, method: str) -> None:
    assert gateway.ask(path, method=method).status == 405


@pytest.mark.parametrize("model", ["image_encoder", "text_encoder", "product_index", "x"])
def test_over_grpc_other_models_are_not_there(gateway: Gateway, model: str) -> None:
    request = match_message(model)
    described = service_pb2.ModelMetadataRequest(name=model).SerializeToString()
    for method, message in (
        ("ModelInfer", request),
        ("ModelReady", described),
        ("ModelMetadata", described),
    ):
        code, text = gateway.call(method, message, {"x-api-key": LOADER_KEY})
        assert code is grpc.StatusCode.NOT_FOUND
        assert "product_match" in str(text)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


NAME = _field(1, b"product_match")
OTHER = _field(1, b"image_encoder")


@pytest.mark.parametrize(
    "message",
    [
        # A server takes the last of several names.
        NAME + OTHER,
        OTHER + NAME,
        NAME + NAME,
        NAME + _field(3, b"id") + OTHER,
        # The name's field number with another type, a longer tag or length, a group, a cut.
        NAME + b"\x08\x01",
        b"\x8a\x80\x00" + NAME[1:],
        NAME + b"\x8a\x80\x80\x80\x00" + OTHER[1:],
        NAME + b"\x0b\x0c",
        NAME[:-1],
        NAME + b"\x1a\xff",
        NAME + b"\x1a\xff\xff\xff\xff\x7f",
        NAME + b"\x80",
        b"",
        _field(1, b"product_match\x00"),
        _field(1, b"product_matc\xff"),
    ],
)
def test_a_grpc_message_with_a_doubtful_name_does_not_pass(
    gateway: Gateway, message: bytes
) -> None:
    assert gateway.call("ModelInfer", message)[0] is grpc.StatusCode.NOT_FOUND


def test_a_grpc_message_may_have_its_name_anywhere(gateway: Gateway) -> None:
    rest = match_message("x").removeprefix(_field(1, b"x"))
    code, answer = gateway.call("ModelInfer", rest + NAME)
    assert code is grpc.StatusCode.OK
    assert service_pb2.ModelInferResponse.FromString(answer).model_name == "product_match"


def test_over_grpc_only_the_calls_of_clients_pass(gateway: Gateway) -> None:
    key = {"x-api-key": LOADER_KEY}
    for method in (
        "ModelStreamInfer",
        "ModelConfig",
        "ModelStatistics",
        "RepositoryIndex",
        "RepositoryModelUnload",
        "SystemSharedMemoryRegister",
        "TraceSetting",
        "LogSettings",
        "Refused",
    ):
        assert gateway.call(method, b"", key)[0] is grpc.StatusCode.UNIMPLEMENTED, method
    address = f"127.0.0.1:{gateway.grpc_port}"
    with triton_grpc.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("product_match", headers=key)
        assert client.get_server_metadata(headers=key).name == "triton"
        assert client.get_model_metadata("product_ingest", headers=key).name == "product_ingest"
        with pytest.raises(triton_grpc.InferenceServerException, match="API key"):
            client.get_server_metadata()


def test_compressed_grpc_messages_do_not_pass(gateway: Gateway) -> None:
    tensor = triton_grpc.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"mug" * 1000]], np.object_))
    address = f"127.0.0.1:{gateway.grpc_port}"
    with triton_grpc.InferenceServerClient(address) as client:
        send = functools.partial(
            client.infer, "product_match", [tensor], headers={"x-api-key": SHOP_KEY}
        )
        send()
        for compression in "gzip", "deflate":
            with pytest.raises(triton_grpc.InferenceServerException, match="NOT_FOUND"):
                send(compression_algorithm=compression)


def test_the_binary_form_of_infer_passes(gateway: Gateway) -> None:
    tensor = triton_http.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"red mug"]], np.object_), binary_data=True)
    with triton_http.InferenceServerClient(f"127.0.0.1:{gateway.http_port}") as client:
        answer = client.infer("product_match", [tensor], headers={"X-API-Key": SHOP_KEY})
    assert answer.as_numpy("details") is not None


@pytest.mark.parametrize(
    ("path", "content_type", "status"),
    [
        (MATCH, "application/json", 200),
        (MATCH, "application/json; charset=utf-8", 200),
        (MATCH, "Application/JSON;charset=UTF-8", 200),
        (MATCH, "application/x-www-form-urlencoded", 415),
        (MATCH, "APPLICATION/x-www-form-urlencoded; x=application/json", 415),
        (MATCH, "application/json, application/x-www-form-urlencoded", 415),
        (MATCH, "application/json; boundary=x", 415),
        (MATCH, "multipart/form-data; boundary=x", 415),
        (MATCH, "text/plain", 415),
        (MATCH, "application/octet-stream", 415),
        (MATCH, "", 415),
        (INFER, "application/octet-stream", 415),
        (INFER, "", 415),
    ],
)
def test_only_json_passes(gateway: Gateway, path: str, content_type: str, status: int) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = gateway.ask(path, QUERY, headers)
    assert answer.status == status, answer.body


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip"])
def test_compressed_bodies_do_not_pass(gateway: Gateway, coding: str) -> None:
    answer = gateway.ask(MATCH, QUERY, JSON | {"Content-Encoding": coding})
    assert answer.status == 415


def test_triton_words_its_own_errors(gateway: Gateway, server: Serving) -> None:
    answer = gateway.ask(MATCH, b'{"text": "x", "top_k": 0}', JSON)
    assert answer.status == 400
    assert "top_k" in answer.json()["error"]
