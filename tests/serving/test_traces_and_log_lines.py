"""A server with traces and lines of JSON: what reaches a collector, and what its log says."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton_grpc
from collector_support import Collector, running_collector
from serving_support import Serving, blocks, encoded, picture, serving, stub_of, wait_for

from bls_models.bundle import Bundle
from bls_models.errors import SetupError
from bls_models.match.probes import probe_body
from local_server import probe
from local_server.tracing import SERVICE_NAME, TraceOptions
from product_match_client import ServiceUnavailableError


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector for the file."""
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def observed(
    collector: Collector,
    bundle: Bundle,
    database_uri: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serving]:
    """A server that traces what its callers trace, logs JSON, and serves FP32."""
    options = TraceOptions(trace_url=collector.url, trace_rate=0)
    with serving(
        tmp_path_factory.mktemp("observed"),
        database_uri,
        f"observed_{uuid.uuid4().hex}",
        flags=options.trace_flags(),
        PRODUCT_MATCH_LOG_FORMAT="json",
        PRODUCT_MATCH_CPU_PRECISION="fp32",
    ) as running:
        yield running


def lines_of(server: Serving) -> list[dict[str, Any]]:
    """The models' lines in the server's log; Triton's own are text."""
    text = server.triton.process.log.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


# --- traces ---------------------------------------------------------------------------------------


def new_context() -> tuple[str, str, str]:
    """A caller's trace id, its span's id and the header that says both."""
    trace_id, span_id = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    return trace_id, span_id, f"00-{trace_id}-{span_id}-01"


def match_traced(server: Serving, protocol: str, traceparent: str, number: int) -> None:
    """A match by words and a picture that no cache has, so that both encoders are asked."""
    words = f"mug {number}"
    if protocol == "grpc":
        text = triton_grpc.InferInput("text", [1, 1], "BYTES")
        text.set_data_from_numpy(np.array([[words.encode()]], np.object_))
        image = triton_grpc.InferInput("image", [1, 1], "BYTES")
        image.set_data_from_numpy(np.array([[picture(number)]], np.object_))
        with triton_grpc.InferenceServerClient(server.url("grpc").partition("://")[2]) as client:
            client.infer("product_match", [text, image], headers={"traceparent": traceparent})
        return
    body = {"text": words, "image": base64.b64encode(picture(number)).decode()}
    request = urllib.request.Request(
        f"{server.triton.http_url}/v2/models/product_match/generate",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "traceparent": traceparent},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


@pytest.mark.server
def test_a_callers_trace_goes_on_through_every_model(
    observed: Serving, collector: Collector, protocol: str
) -> None:
    trace_id, span_id, traceparent = new_context()
    match_traced(observed, protocol, traceparent, 900 + (protocol == "grpc"))
    models = ("product_match", "image_encoder", "text_encoder")
    spans = collector.trace(trace_id, "InferRequest", *models)
    assert spans["InferRequest"]["parentSpanId"] == span_id
    assert spans["product_match"]["parentSpanId"] == spans["InferRequest"]["spanId"]
    for model in models[1:]:
        assert spans[model]["parentSpanId"] == spans["product_match"]["spanId"], model
    assert collector.services == {SERVICE_NAME}


@pytest.mark.server
def test_writes_are_traced_with_what_they_ask(observed: Serving, collector: Collector) -> None:
    trace_id, _, traceparent = new_context()
    product = {"product_id": "traced", "name": "Mug", "category": "mug"}
    tensors = []
    for name, value in ("operation", b"upsert"), ("product", json.dumps(product).encode()):
        tensor = triton_grpc.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[value]], np.object_))
        tensors.append(tensor)
    with triton_grpc.InferenceServerClient(observed.url("grpc").partition("://")[2]) as client:
        client.infer("product_ingest", tensors, headers={"traceparent": traceparent})
    spans = collector.trace(trace_id, "product_ingest", "text_encoder")
    assert spans["text_encoder"]["parentSpanId"] == spans["product_ingest"]["spanId"]


@pytest.mark.server
def test_captions_that_may_outlive_their_request_are_left_out_of_its_trace(
    observed: Serving, collector: Collector
) -> None:
    trace_id, _, traceparent = new_context()
    image = triton_grpc.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[encoded(blocks(77))]], np.object_))
    with triton_grpc.InferenceServerClient(observed.url("grpc").partition("://")[2]) as client:
        answer = client.infer("product_match", [image], headers={"traceparent": traceparent})
    assert json.loads(answer.as_numpy("details")[0, 0])["caption"]["milliseconds"] is not None
    spans = collector.trace(trace_id, "InferRequest", "product_match", "image_encoder")
    assert "image_captioner" not in spans


@pytest.mark.server
def test_with_rate_0_nobody_else_is_traced(observed: Serving, collector: Collector) -> None:
    with observed.client() as client:
        client.match(texts="untraced")
    trace_id, _, traceparent = new_context()
    match_traced(observed, "http", traceparent, 950)
    collector.trace(trace_id, "product_match")
    roots = [item for item in collector.spans if item["name"] == "InferRequest"]
    assert roots
    assert all(item.get("parentSpanId") for item in roots)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trace_url": "collector:4318"}, "TRACE_URL"),
        ({"trace_url": "http://collector:4318/v1/traces,rate=1"}, "TRACE_URL"),
        ({"trace_rate": -1}, "TRACE_RATE"),
    ],
)
def test_an_unusable_trace_option_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        TraceOptions(**settings)


def test_without_a_collector_nothing_is_traced() -> None:
    assert TraceOptions().trace_flags() == []


# --- log lines ------------------------------------------------------------------------------------


@pytest.mark.server
def test_models_write_json_between_tritons_own_lines(observed: Serving) -> None:
    assert any(line["model"] == "product_match" for line in lines_of(observed))
    text = observed.triton.process.log.read_text(encoding="utf-8")
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ I ", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.server
def test_a_failure_is_in_the_log_under_the_requests_id(
    bundle: Bundle, database_uri: str, tmp_path: Path
) -> None:
    name = f"failing_{uuid.uuid4().hex}"
    with serving(tmp_path, database_uri, name, PRODUCT_MATCH_LOG_FORMAT="json") as server:
        psutil.Process(stub_of(server, "text_encoder")).kill()
        with server.client() as client, pytest.raises(ServiceUnavailableError):
            client.match(texts="mug", request_id="order-9")
        (line,) = wait_for(
            lambda: [item for item in lines_of(server) if item.get("request_id") == "order-9"],
            "the failure is logged",
        )
        assert (line["level"], line["model"]) == ("warning", "product_match")
        assert "text_encoder failed" in line["message"]

        # Documented: by generate every error of a model is a 400.
        request = urllib.request.Request(
            f"{server.triton.http_url}/v2/models/product_match/generate",
            b'{"text": "mug", "id": "order-10"}',
            {"Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request)
        with refusal.value as answer:
            assert answer.code == 400
            assert "text_encoder failed" in json.load(answer)["error"]
        assert server.log_entry("order-10")["error"]["type"] == "EncoderError"

        # A probe that fails stands in the log, and says what it is.
        assert probe.main(["--url", server.triton.http_url]) == 1
        entry = server.log_entry(probe_body()["id"])
        assert (entry["probe"], entry["status"]) == (True, "error")


# --- precisions -----------------------------------------------------------------------------------


@pytest.mark.server
def test_answers_logs_and_metrics_name_the_precision_that_serves(
    observed: Serving, bundle: Bundle
) -> None:
    expected = {model: choices[-1] for model, choices in bundle.precisions.items()}
    with observed.client("grpc") as client:
        details = client.match(texts="mug").details
    assert details["bundle"]["precisions"] == expected
    assert observed.log_entry(details["request_id"])["bundle"] == details["bundle"]
    messages = {line["message"] for line in lines_of(observed)}
    assert {f"serving model.{precision}.onnx" for precision in expected.values()} <= messages
    rows = {
        f'product_match_engine_precision{{model="{model}",precision="{precision}"}} 1'
        for model, precision in expected.items()
    }

    def told() -> bool:
        with urllib.request.urlopen(observed.triton.metrics_url) as answer:
            return rows <= set(answer.read().decode().splitlines())

    wait_for(told, "the metrics name the precisions")
