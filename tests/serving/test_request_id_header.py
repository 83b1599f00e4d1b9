"""A request's id, from the header ``X-Request-ID`` to the answer and the request logs."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from serving_support import Serving, picture, wait_for

from bls_models.match.probes import PARAMETER, probe_body
from local_server import probe

pytestmark = pytest.mark.server

MADE = re.compile("[0-9a-f]{32}")


def infer(
    server: Serving,
    protocol: str,
    model: str,
    tensors: Mapping[str, str],
    headers: Mapping[str, str],
    request_id: str = "",
) -> dict[str, Any]:
    """Send texts with headers; returns the answer's details."""
    kind: Any = triton_http if protocol == "http" else triton_grpc
    inputs = []
    for name, text in tensors.items():
        tensor = kind.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()]], np.object_))
        inputs.append(tensor)
    with kind.InferenceServerClient(server.url(protocol).partition("://")[2]) as client:
        answer = client.infer(model, inputs, headers=dict(headers), request_id=request_id)
    details: dict[str, Any] = json.loads(answer.as_numpy("details")[0, 0])
    return details


def generate(server: Serving, body: Mapping[str, Any], **headers: str) -> dict[str, Any]:
    """Ask by ``generate``; returns the answer's details, or its error."""
    request = urllib.request.Request(
        f"{server.triton.http_url}/v2/models/product_match/generate",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            details: dict[str, Any] = json.loads(json.load(answer)["details"])
            return details
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


def fresh() -> str:
    return f"order/{uuid.uuid4()}"


@pytest.mark.parametrize("header", ["X-Request-ID", "x-request-id"])
def test_the_headers_id_is_in_the_answer_and_the_log(
    server: Serving, protocol: str, header: str
) -> None:
    # gRPC metadata has small letters only.
    name = header if protocol == "http" else header.lower()
    request_id = fresh()
    details = infer(server, protocol, "product_match", {"text": "mug"}, {name: request_id})
    assert details["request_id"] == request_id
    assert "header_request_id" not in server.log_entry(request_id)


def test_a_requests_own_id_wins_and_the_log_has_both(server: Serving, protocol: str) -> None:
    own, header = fresh(), fresh()
    tensors = {"text": "mug"}
    details = infer(server, protocol, "product_match", tensors, {"x-request-id": header}, own)
    assert details["request_id"] == own
    assert server.log_entry(own)["header_request_id"] == header


def test_the_header_names_writes_too(server: Serving, protocol: str) -> None:
    request_id, own = fresh(), fresh()
    tensors = {"operation": "get", "product": json.dumps({"product_id": "none"})}
    headers = {"x-request-id": request_id}
    infer(server, protocol, "product_ingest", tensors, headers)
    assert server.ingest_log_entry(request_id)["result"] == "not_found"
    infer(server, protocol, "product_ingest", tensors, headers, own)
    assert server.ingest_log_entry(own)["header_request_id"] == request_id


def test_a_refused_request_is_logged_under_the_headers_id(server: Serving, protocol: str) -> None:
    request_id = fresh()
    with pytest.raises(Exception, match="filter"):
        infer(
            server,
            protocol,
            "product_match",
            {"text": "mug", "filter": "{"},
            {"x-request-id": request_id},
        )
    assert server.log_entry(request_id)["status"] == "error"


@pytest.mark.parametrize("bad", ["has space", "x" * 129])
def test_an_id_that_cannot_be_used_is_replaced(server: Serving, protocol: str, bad: str) -> None:
    tensors = {"text": "mug"}
    by_header = infer(server, protocol, "product_match", tensors, {"x-request-id": bad})
    assert MADE.fullmatch(by_header["request_id"])
    own = infer(server, protocol, "product_match", tensors, {}, bad)
    assert MADE.fullmatch(own["request_id"])


def test_generate_takes_the_id_from_the_body_and_not_from_the_header(server: Serving) -> None:
    request_id = fresh()
    assert generate(server, {"text": "mug", "id": request_id})["request_id"] == request_id
    # Documented: this Triton forwards no headers with generate.
    details = generate(server, {"text": "mug"}, **{"X-Request-ID": fresh()})
    assert MADE.fullmatch(details["request_id"])


# --- probes ---------------------------------------------------------------------------------------


def send_body(server: Serving, body: Mapping[str, Any]) -> dict[str, Any]:
    """Send a body of ``infer``; returns the answer's outputs by name."""
    request = urllib.request.Request(
        f"{server.triton.http_url}/{probe.ENDPOINT}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return {item["name"]: item["data"] for item in json.load(answer)["outputs"]}


@pytest.mark.usefixtures("catalogue")
def test_a_probe_finds_a_product_and_so_reads_a_document(server: Serving) -> None:
    outputs = [{"name": "product_id"}, {"name": "product"}]
    answer = send_body(server, {**probe_body(), "outputs": outputs})
    (product_id,), (product,) = answer["product_id"], answer["product"]
    assert json.loads(product)["product_id"] == product_id


def test_answered_probes_stay_out_of_the_log(server: Serving) -> None:
    log = server.database["match_log"]
    before = log.count_documents({"request_id": "probe"})
    for level in "live", "ready":
        assert probe.main(["--url", server.triton.http_url, "--level", level]) == 0
    # Entries of one process are written in order; both processes write one after the probes.
    for _ in range(4):
        request_id = fresh()
        send_body(server, {**probe_body(), "id": request_id, "parameters": {}})
        assert "probe" not in server.log_entry(request_id)
    assert log.count_documents({"request_id": "probe"}) == before


@pytest.mark.parametrize(
    "change",
    [
        {"text": ["a secret"]},
        {"image": [picture(5).hex()], "text": ["probe"]},
        {"top_k": [100]},
        {"min_score": [0.5]},
        {"filter": ['{"category": "mug"}']},
        {PARAMETER: "true"},
        {PARAMETER: 1},
    ],
)
def test_nobody_hides_a_match_as_a_probe(server: Serving, change: dict[str, Any]) -> None:
    body, request_id = probe_body(), fresh()
    body["id"] = request_id
    if PARAMETER in change:
        body["parameters"] = change
    elif "filter" in change:
        data = {"name": "filter", "datatype": "BYTES", "shape": [1, 1], "data": change["filter"]}
        body["inputs"].append(data)
    else:
        for tensor in body["inputs"]:
            tensor["data"] = change.get(tensor["name"], tensor["data"])
        if "image" in change:
            body["inputs"] = [item for item in body["inputs"] if item["name"] != "image"]
    send_body(server, body)
    wait_for(lambda: server.log_entry(request_id), "the match is in the log")
