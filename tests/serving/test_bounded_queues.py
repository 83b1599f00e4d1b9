"""Too many requests: a bounded number waits, a bounded time, and others are refused at once."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from serving_support import (
    HangingModels,
    Serving,
    bytes_tensor,
    send,
    serving,
    stubs_of,
    wait_for,
)

from bls_models.bundle import Bundle
from bls_models.match.pipeline import PATIENT_SECONDS, WORD_CALLS
from bls_models.specs import MODEL_SPECS
from local_server import probe
from product_match_client import NotFoundError, ProductMatchClient, ServiceUnavailableError

pytestmark = pytest.mark.server

QUEUE_SIZE = 3
IMPATIENT_S = 1.0
# Whose queues Triton keeps, and how many instances work on them.
QUEUED, INSTANCES = ("product_ingest", "product_feedback", "product_picture", "product_report"), 2
# What a match of words waits for.
ENCODER = "text_encoder"
MATCH = {"text": bytes_tensor("mug")}
# For each model a request that is answered, were it only with an error of the model's own.
REQUESTS: dict[str, dict[str, Any]] = {
    "product_ingest": {
        "operation": bytes_tensor("get"),
        "product": bytes_tensor('{"product_id": "p"}'),
    },
    "product_feedback": {
        "request_id": bytes_tensor("r"),
        "product_id": bytes_tensor("p"),
        "event": bytes_tensor("accepted"),
    },
    "product_picture": {"product_id": bytes_tensor("p")},
    "product_report": {"report": bytes_tensor("errors")},
}


@pytest.fixture(scope="module")
def hanging(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> HangingModels:
    return HangingModels(tmp_path_factory.mktemp("models"), ENCODER, *QUEUED)


@pytest.fixture(scope="module")
def small(
    hanging: HangingModels, database_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    state = tmp_path_factory.mktemp("bounded")
    settings = {
        "PRODUCT_MATCH_QUEUE_SIZE": str(QUEUE_SIZE),
        # Longer than any test holds a model.
        "PRODUCT_MATCH_QUEUE_TIMEOUT_MS": "100000",
        "PRODUCT_MATCH_CALL_TIMEOUT_MS": "100000",
    }
    with serving(state, database_uri, state.name, hanging.repository, **settings) as running:
        yield running


class Senders:
    """Threads with a request each, and how many were answered."""

    def __init__(self) -> None:
        self.answered = 0
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, ask: Callable[[], Any]) -> None:
        """Send one more."""

        def run() -> None:
            ask()
            with self._lock:
                self.answered += 1

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("model", QUEUED)
def test_a_full_queue_refuses_at_once_and_what_waits_is_answered(
    small: Serving, hanging: HangingModels, model: str
) -> None:
    def ask() -> None:
        # The database of this server has no product.
        with contextlib.suppress(NotFoundError):
            send(small.url("grpc"), REQUESTS[model], model=MODEL_SPECS[model])

    waiting = Senders()
    with hanging.held(model):
        fill(small, hanging, waiting, model, ask)
        for protocol in ("http", "grpc"):
            with pytest.raises(ServiceUnavailableError, match="maximum queue size"):
                send(small.url(protocol), REQUESTS[model], model=MODEL_SPECS[model])
        assert waiting.answered == 0
        assert len(stubs_of(small, model)) == INSTANCES
    waiting.join()
    assert waiting.answered == INSTANCES + QUEUE_SIZE


def test_matches_beyond_those_that_wait_are_refused_at_once_in_the_same_words(
    small: Serving, hanging: HangingModels
) -> None:
    waiting = Senders()
    with hanging.held(ENCODER):
        fill_matches(small, hanging, waiting)
        for protocol in ("http", "grpc"):
            with pytest.raises(ServiceUnavailableError, match="maximum queue size"):
                send(small.url(protocol), MATCH)
        assert waiting.answered == 0
    waiting.join()
    assert waiting.answered == WORD_CALLS + QUEUE_SIZE
    wait_for(lambda: refused(small) >= 2, "the refused are counted")
    wait_for(lambda: metric(small, "product_match_waiting_requests") == 0, "nobody waits")


def test_a_server_with_a_full_queue_is_not_ready_and_not_dead(
    small: Serving, hanging: HangingModels
) -> None:
    url = ["--url", small.triton.http_url]
    waiting = Senders()
    with hanging.held(ENCODER):
        fill_matches(small, hanging, waiting)
        assert probe.main([*url, "--level", "ready"]) == 1
        assert probe.main([*url, "--level", "live"]) == 0
    waiting.join()
    assert probe.main([*url, "--level", "ready", "--timeout", "60"]) == 0


def test_a_match_that_has_waited_as_long_as_it_wanted_is_not_worked_on(
    small: Serving, hanging: HangingModels
) -> None:
    busy = Senders()
    with hanging.held(ENCODER):
        occupy_matches(small, hanging, busy)
        before = refused(small)
        for protocol in ("http", "grpc"):
            with (
                ProductMatchClient(small.url(protocol), timeout_s=IMPATIENT_S) as client,
                pytest.raises(ServiceUnavailableError),
            ):
                client.match(texts="mug")
    busy.join()
    wait_for(lambda: refused(small) == before + 2, "both are refused")


def test_a_match_whose_client_has_gone_is_not_worked_on(
    small: Serving, hanging: HangingModels
) -> None:
    busy = Senders()
    words = triton_grpc.InferInput("text", [1, 1], "BYTES")
    words.set_data_from_numpy(np.array([[b"mug"]], np.object_))
    address = small.url("grpc").removeprefix("grpc://")
    with hanging.held(ENCODER), triton_grpc.InferenceServerClient(address) as client:
        occupy_matches(small, hanging, busy)
        before = refused(small)
        call = client.async_infer("product_match", [words], lambda *_: None)
        wait_for(lambda: metric(small, "product_match_waiting_requests") == 1, "it waits")
        call.cancel()
        # Asked for only after some patience.
        time.sleep(2 * PATIENT_SECONDS)
    busy.join()
    wait_for(lambda: refused(small) == before + 1, "it is let go of")


def occupy_matches(server: Serving, hanging: HangingModels, senders: Senders) -> None:
    """Give every thread that matches words something to do, while their encoder hangs."""
    for number in range(WORD_CALLS):
        senders.start(lambda: send(server.url("grpc"), MATCH))
        # Triton gives the encoder one call at a time.
        wait_for(lambda: hanging.taken(ENCODER) >= 1, "the encoder is called")
        wait_for(
            lambda wanted=number: (
                pending(server, ENCODER) == wanted
                and metric(server, "product_match_waiting_requests") == 0
            ),
            "it is worked on",
        )


def fill_matches(server: Serving, hanging: HangingModels, senders: Senders) -> None:
    """Occupy those threads, and fill the queue before them."""
    occupy_matches(server, hanging, senders)
    for number in range(QUEUE_SIZE):
        senders.start(lambda: send(server.url("grpc"), MATCH))
        wait_for(
            lambda wanted=number + 1: metric(server, "product_match_waiting_requests") == wanted,
            "it waits",
        )


def occupy(hanging: HangingModels, senders: Senders, model: str, ask: Callable[[], Any]) -> None:
    """Give every process of a model that hangs something to do."""
    before = hanging.taken(model)
    for number in range(INSTANCES):
        senders.start(ask)
        wait_for(lambda wanted=before + number + 1: hanging.taken(model) == wanted, "it is taken")


def fill(
    server: Serving,
    hanging: HangingModels,
    senders: Senders,
    model: str,
    ask: Callable[[], Any],
) -> None:
    """Occupy a model, and fill its queue."""
    occupy(hanging, senders, model, ask)
    for number in range(QUEUE_SIZE):
        senders.start(ask)
        wait_for(lambda wanted=number + 1: pending(server, model) == wanted, "it waits")


def pending(server: Serving, model: str) -> int:
    """Requests that wait for a model in Triton's queue."""
    return metric(server, f'nv_inference_pending_request_count{{model="{model}"')


def refused(server: Serving) -> int:
    """Matches that were not worked on."""
    return metric(server, 'product_match_requests_total{outcome="refused"')


def metric(server: Serving, series: str) -> int:
    """A metric's value; 0 where there is none yet."""
    with urllib.request.urlopen(server.triton.metrics_url) as answer:
        lines = answer.read().decode().splitlines()
    values = [line.rpartition(" ")[2] for line in lines if line.startswith(series)]
    return int(float(values[0])) if values else 0
