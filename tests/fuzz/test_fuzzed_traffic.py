"""Requests of any kind get an answer or a client's error from the real server, which goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import pytest
from fuzz_support import FILES, requests
from hypothesis import HealthCheck, given, settings
from serving_support import SampleProduct, Serving, send

from bls_models.specs import PRODUCT_INGEST, PRODUCT_MATCH
from product_match_client import BadRequestError, ProductMatchClient

pytestmark = [pytest.mark.fuzz, pytest.mark.server]

# A request crosses several processes: fewer than of the functions alone.
for_all_examples = settings(
    max_examples=max(50, settings().max_examples // 10),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def still_answers(
    server: Serving, catalogue: list[SampleProduct], client: ProductMatchClient
) -> Iterator[None]:
    """At the end the server finds what it should, writes, and has no error of its own logged."""
    yield
    item = catalogue[0]
    assert client.match(item.images[0], top_k=1).matches[0].product_id == item.product_id
    assert client.upsert(item.product, item.images).status == "unchanged"
    for product_id in "abc":
        client.delete(product_id)
    errors = server.database["match_log"].distinct("error.type")
    assert set(errors) <= {"RequestError", "ImageError", "FilterError"}, errors


@for_all_examples
@pytest.mark.usefixtures("still_answers")
@given(tensors=requests(PRODUCT_MATCH))
def test_any_match_request_is_answered_or_refused(
    tensors: dict[str, npt.NDArray[Any]], server: Serving, protocol: str
) -> None:
    if tensors:  # Triton itself refuses a request without any.
        with contextlib.suppress(BadRequestError):
            answer = send(server.url(protocol), tensors)
            assert set(answer) == set(PRODUCT_MATCH.output_names)


@for_all_examples
@pytest.mark.usefixtures("still_answers")
@given(tensors=requests(PRODUCT_INGEST))
def test_any_ingest_request_is_answered_or_refused(
    tensors: dict[str, npt.NDArray[Any]], server: Serving, protocol: str
) -> None:
    with contextlib.suppress(BadRequestError):
        answer = send(server.url(protocol), tensors, model=PRODUCT_INGEST)
        assert set(answer) == set(PRODUCT_INGEST.output_names)


def test_every_kind_of_picture_is_taken(client: ProductMatchClient) -> None:
    for name, data in FILES.items():
        assert client.match(data, caption="never").details["degraded"] == [], name
