"""What the transports hand to tritonclient, with its real input and result objects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from bls_models.specs import PRODUCT_INGEST
from product_match_client import BadRequestError, IngestResult, Match, MatchResult, ServerError
from product_match_client.calls import delete_call, match_call, upsert_call
from product_match_client.endpoint import endpoint_from_url
from product_match_client.transports import AsyncTransport, BlockingTransport, Connection

ENDPOINT = endpoint_from_url("grpc://shop:8001")
MODULES = (tritonclient.http, tritonclient.grpc)
DTYPES = {bytes: ("BYTES", np.object_), int: ("INT64", np.int64), float: ("FP32", np.float32)}


def grpc_answer(**outputs: Any) -> Any:
    """A real gRPC result that holds the outputs."""
    response = service_pb2.ModelInferResponse(model_name=PRODUCT_INGEST.name)
    for name, value in outputs.items():
        is_text = isinstance(value, bytes)
        datatype, dtype = DTYPES[type(value)]
        array = np.array([[value]], dtype)
        response.outputs.add(name=name, datatype=datatype, shape=[1, 1])
        raw = serialize_byte_tensor(array).item() if is_text else array.tobytes()
        response.raw_output_contents.append(raw)
    return tritonclient.grpc.InferResult(response)


ANSWER = grpc_answer(product_id=b"p", status=b"deleted", revision=3, details=b"{}")


class RecordingTriton:
    """A stand-in for tritonclient's client that keeps what it is called with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.arguments: list[dict[str, Any]] = []

    def infer(self, **arguments: Any) -> Any:
        self.arguments.append(arguments)
        arguments["headers"]["added-by-tritonclient"] = 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def is_model_ready(self, model_name: str, **arguments: Any) -> bool:
        return True

    def close(self) -> None:
        pass


class RecordingAsyncTriton(RecordingTriton):
    """The same with coroutines."""

    def infer(self, **arguments: Any) -> Awaitable[Any]:
        async def answer() -> Any:
            return super(RecordingAsyncTriton, self).infer(**arguments)

        return answer()


def transport_to(triton: RecordingTriton, module: Any = tritonclient.http) -> BlockingTransport:
    connection: Any = Connection(triton, module.InferInput, options={"client_timeout": 2.0})
    return BlockingTransport(connection, ENDPOINT, 2.0, {"Authorization": "token"})


@pytest.mark.parametrize("module", MODULES, ids=["http", "grpc"])
def test_tritonclient_takes_the_inputs(module: Any) -> None:
    triton = RecordingTriton(ANSWER)
    transport_to(triton, module).send(upsert_call({"product_id": "p"}, [b"\0\1", b"\2"]))
    (arguments,) = triton.arguments
    shapes = {tensor.name(): list(tensor.shape()) for tensor in arguments["inputs"]}
    assert shapes == {"operation": [1, 1], "product": [1, 1], "image": [1, 2]}
    assert arguments["model_name"] == "product_ingest"
    assert arguments["client_timeout"] == 2.0
    assert arguments["timeout"] == 2_000_000, "the server is told too, in microseconds"


def test_each_call_has_its_own_headers_in_small_letters() -> None:
    triton = RecordingTriton(ANSWER)
    transport = transport_to(triton)
    transport.send(delete_call("p"))
    transport.send(delete_call("p"))
    first, second = (arguments["headers"] for arguments in triton.arguments)
    assert first == second == {"authorization": "token", "added-by-tritonclient": 1}
    assert first is not second


def test_both_transports_read_the_answer() -> None:
    expected = IngestResult("p", "deleted", 3, {})
    assert transport_to(RecordingTriton(ANSWER)).send(delete_call("p")) == expected
    connection: Any = Connection(RecordingAsyncTriton(ANSWER), tritonclient.http.InferInput)
    transport = AsyncTransport(connection, ENDPOINT, 2.0, {})
    assert asyncio.run(transport.send(delete_call("p"))) == expected


def test_both_transports_map_errors() -> None:
    error = InferenceServerException("why", "StatusCode.INVALID_ARGUMENT")
    with pytest.raises(BadRequestError, match="why"):
        transport_to(RecordingTriton(error)).send(delete_call("p"))
    connection: Any = Connection(RecordingAsyncTriton(error), tritonclient.http.InferInput)
    transport = AsyncTransport(connection, ENDPOINT, 2.0, {})
    with pytest.raises(BadRequestError, match="why"):
        asyncio.run(transport.send(delete_call("p")))


def test_a_server_that_knows_no_objects_is_read() -> None:
    answer = grpc_answer(
        **dict.fromkeys(("product_id", "product", "caption", "details"), b"{}"),
        **dict.fromkeys(("score", "image_score", "text_score"), 0.5),
    )
    result = transport_to(RecordingTriton(answer)).send(match_call(b"a"))
    assert result == MatchResult((Match("{}", 0.5, 0.5, 0.5, {}),), {}, "{}")


def test_an_answer_without_an_output_is_a_server_error() -> None:
    answer = grpc_answer(product_id=b"p", revision=3)
    with pytest.raises(ServerError, match="answered without status, details"):
        transport_to(RecordingTriton(answer)).send(delete_call("p"))
