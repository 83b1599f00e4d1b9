"""Bytes that are no text, and fields that are no inputs, concern their own request alone."""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from serving_support import Serving
from tritonclient.utils import InferenceServerException

from bls_models.specs import PRODUCT_FEEDBACK, PRODUCT_INGEST, PRODUCT_MATCH

pytestmark = pytest.mark.server

LATIN_1 = "Käthe-1".encode("latin-1")
ROUNDS = 12


def post(server: Serving, path: str, body: bytes, headers: dict[str, bytes]) -> tuple[int, Any]:
    """Send bytes as they are; returns status and JSON."""
    connection = http.client.HTTPConnection(urlsplit(server.triton.http_url).netloc, timeout=60)
    try:
        connection.putrequest("POST", f"/v2/models/{path}")
        for name, value in {"Content-Type": b"application/json", **headers}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        # Triton gives back an id as it came.
        return answer.status, json.loads(answer.read().decode(errors="replace"))
    finally:
        connection.close()


def infer_body(words: str) -> bytes:
    inputs = [
        {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [words]},
        {"name": "top_k", "datatype": "INT32", "shape": [1, 1], "data": [1]},
    ]
    return json.dumps({"inputs": inputs}).encode()


def details_of(answer: Any) -> dict[str, Any]:
    (details,) = (item["data"] for item in answer["outputs"] if item["name"] == "details")
    found: dict[str, Any] = json.loads(details[0])
    return found


def test_a_header_that_is_no_text_counts_as_not_sent(server: Serving) -> None:
    status, answer = post(
        server, "product_match/infer", infer_body("red mug"), {"X-Request-ID": LATIN_1}
    )
    assert status == 200
    assert server.log_entry(details_of(answer)["request_id"])["status"] == "ok"


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "red mug", "caption": "never", "id": "K\xe4the"}',
        b'{"text": "red mug", "caption": "never", "note": "K\xe4the"}',
        b'{"text": "red mug", "caption": "never", "K\xe4the": "x"}',
    ],
    ids=["id", "value", "name"],
)
def test_bytes_that_are_no_text_fail_nobody_else(server: Serving, body: bytes) -> None:
    outcomes: Counter[tuple[str, int]] = Counter()

    def send(kind: str, body: bytes, headers: dict[str, bytes]) -> None:
        path = "product_match/generate" if kind == "strange" else "product_match/infer"
        for _ in range(ROUNDS):
            status, answer = post(server, path, body, headers)
            # Triton itself may refuse such JSON; no model may fail on it.
            assert "unexpected" not in json.dumps(answer)
            outcomes[kind, status] += 1

    threads = [
        threading.Thread(target=send, args=("plain", infer_body(f"red mug {number}"), {}))
        for number in range(6)
    ]
    threads.append(threading.Thread(target=send, args=("strange", body, {})))
    threads.append(
        threading.Thread(target=send, args=("header", infer_body("mug"), {"X-Request-ID": LATIN_1}))
    )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes["plain", 200] == 6 * ROUNDS
    assert outcomes["header", 200] == ROUNDS


@pytest.mark.parametrize(
    ("model", "body", "field", "meant"),
    [
        ("product_match", {"text": "mug", "filters": '{"category": "none"}'}, "filters", "filter"),
        ("product_match", {"text": "mug", "images": "x"}, "images", "image"),
        ("product_match", {"text": "mug", "topK": 3}, "topK", "top_k"),
        ("product_match", {"text": "mug", "min_scores": 0.5}, "min_scores", "min_score"),
        (
            "product_ingest",
            {"operation": "get", "product": '{"product_id": "x"}', "images": "x"},
            "images",
            "image",
        ),
        (
            "product_feedback",
            {"request_id": "r", "product_id": "p", "event": "clicked", "evnt": "x"},
            "evnt",
            "event",
        ),
        ("product_report", {"report": "matches", "limits": 3}, "limits", "limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_misspelt_field_is_refused_with_the_right_name(
    server: Serving, model: str, body: dict[str, Any], field: str, meant: str
) -> None:
    request_id = f"typo-{uuid.uuid4().hex}"
    status, answer = post(
        server, f"{model}/generate", json.dumps({**body, "id": request_id}).encode(), {}
    )
    assert status == 400
    assert answer["error"].startswith(f"{field}: no input of {model}; expected one of ")
    assert answer["error"].endswith(f"Did you mean {meant}?")
    if model == PRODUCT_MATCH.name:
        assert server.log_entry(request_id)["status"] == "error"


@pytest.mark.parametrize("model", [PRODUCT_MATCH, PRODUCT_INGEST, PRODUCT_FEEDBACK], ids=str)
def test_a_parameter_that_nobody_reads_is_refused_over_grpc(server: Serving, model: Any) -> None:
    tensor = triton_grpc.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"mug"]], np.object_))
    inputs = {
        PRODUCT_MATCH.name: {"text": b"mug"},
        PRODUCT_INGEST.name: {"operation": b"get", "product": b"{}"},
        PRODUCT_FEEDBACK.name: {"request_id": b"r", "product_id": b"p", "event": b"clicked"},
    }[model.name]
    tensors = []
    for name, value in inputs.items():
        tensor = triton_grpc.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[value]], np.object_))
        tensors.append(tensor)
    with triton_grpc.InferenceServerClient(server.url("grpc").partition("://")[2]) as client:
        with pytest.raises(InferenceServerException, match="filtre: no input of"):
            client.infer(model.name, tensors, parameters={"filtre": "x"})
        if model is PRODUCT_MATCH:
            # What Triton's own protocol knows passes.
            client.infer(model.name, tensors, timeout=60_000_000, priority=0)


@pytest.mark.parametrize("words", ["red\x00mug", "red\nmug", "red\x1fmug\x00"])
def test_control_characters_part_words(server: Serving, words: str) -> None:
    best = []
    for text in ("red mug", words):
        status, answer = post(server, "product_match/infer", infer_body(text), {})
        assert status == 200
        (ids,) = (item["data"] for item in answer["outputs"] if item["name"] == "product_id")
        best.append(ids)
    assert best[0] == best[1]
