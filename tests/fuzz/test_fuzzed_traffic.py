"""Requests of any kind get an answer or a client's error from the real server, which goes on."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest
from fuzz_support import FILES, products_in, requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_support import SampleProduct, Serving, send

from bls_models.specs import PRODUCT_INGEST, PRODUCT_MATCH, PRODUCT_PICTURE, PRODUCT_REPORT
from product_match_client import BadRequestError, ProductMatchClient
from product_match_client.results import OBJECT_OUTPUTS, Match, match_result_from_outputs

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
    assert set(errors) <= {"RequestError", "ImageError", "FilterError", "ProductError"}, errors


@for_all_examples
@pytest.mark.usefixtures("still_answers")
@given(tensors=requests(PRODUCT_MATCH))
def test_any_match_request_is_answered_or_refused(
    tensors: dict[str, npt.NDArray[Any]], server: Serving, protocol: str
) -> None:
    if tensors:  # Triton itself refuses a request without any.
        with contextlib.suppress(BadRequestError):
            answer = send(server.url(protocol), tensors)
            asks = "objects" in tensors and tensors["objects"].item() != b"never"
            left_out = set() if asks else set(OBJECT_OUTPUTS)
            assert set(answer) == set(PRODUCT_MATCH.output_names) - left_out
            if asks:
                assert_objects_are_in_order(answer)
            assert_what_a_shop_asks_holds(tensors, answer)


def assert_objects_are_in_order(answer: dict[str, npt.NDArray[Any]]) -> None:
    """Rows come object by object, objects the surest first, boxes within the photo."""
    assert (np.diff(answer["object"][0]) >= 0).all()
    assert (np.diff(answer["object_score"][0]) <= 0).all()
    for item in match_result_from_outputs(answer).objects:
        x0, y0, x1, y1 = item.box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert 0 <= item.score <= 1


def assert_what_a_shop_asks_holds(
    sent: dict[str, npt.NDArray[Any]], answer: dict[str, npt.NDArray[Any]]
) -> None:
    """Liked products are left out, facets agree on the products, orders and views are right."""
    result = match_result_from_outputs(answer)
    liked = {item.decode() for item in sent["like"].ravel()} if "like" in sent else set()
    assert not liked & {item.decode() for item in answer["product_id"][0]}
    wanted = json.loads(sent["facets"].item()) if "facets" in sent else {}
    assert result.facets.keys() == wanted.keys()
    counts = {products_in(counted) for counted in result.facets.values()}
    assert len(counts) <= 1
    assert all(count >= len(result.matches) for count in counts)
    sort = sent["sort"].item().decode() if "sort" in sent else "score"
    for matches in (result.matches, *(item.matches for item in result.objects)):
        assert_sorted(matches, sort)
        for match in matches:
            assert match.view is None or 0 <= match.view < len(match.product["images"])


def assert_sorted(matches: Sequence[Match], sort: str) -> None:
    """Those that have the value first, in its order; equals by their ids."""
    if sort == "score":
        # Of equal scores the last bit may differ.
        assert all(one.score >= other.score - 1e-6 for one, other in pairwise(matches))
        return
    field = sort.removeprefix("-")
    ordered = sorted(matches, key=lambda match: match.product_id)
    have = [match for match in ordered if match.product.get(field) is not None]
    have.sort(key=lambda match: match.product[field], reverse=sort.startswith("-"))
    last = [match for match in ordered if match.product.get(field) is None]
    assert list(matches) == have + last


@for_all_examples
@pytest.mark.usefixtures("still_answers")
@given(tensors=requests(PRODUCT_INGEST))
def test_any_ingest_request_is_answered_or_refused(
    tensors: dict[str, npt.NDArray[Any]], server: Serving, protocol: str
) -> None:
    with contextlib.suppress(BadRequestError):
        answer = send(server.url(protocol), tensors, model=PRODUCT_INGEST)
        assert set(answer) == set(PRODUCT_INGEST.output_names)


@for_all_examples
@pytest.mark.usefixtures("still_answers")
@given(tensors=requests(PRODUCT_PICTURE))
def test_any_picture_request_is_answered_or_refused(
    tensors: dict[str, npt.NDArray[Any]], server: Serving, protocol: str
) -> None:
    if tensors:
        with contextlib.suppress(BadRequestError):
            answer = send(server.url(protocol), tensors, model=PRODUCT_PICTURE)
            assert set(answer) == set(PRODUCT_PICTURE.output_names)


@for_all_examples
@pytest.mark.usefixtures("still_answers")
@given(tensors=requests(PRODUCT_REPORT))
def test_any_report_request_is_answered_or_refused(
    tensors: dict[str, npt.NDArray[Any]], server: Serving, protocol: str
) -> None:
    with contextlib.suppress(BadRequestError):
        answer = send(server.url(protocol), tensors, model=PRODUCT_REPORT)
        assert set(answer) == set(PRODUCT_REPORT.output_names)


# What may stand in a header, and what JSON may hold as it comes over the wire.
headers = st.binary(max_size=40).filter(lambda value: not set(value) & {0, 10, 13})
wire_text = st.one_of(
    st.binary(max_size=30).map(lambda value: value.replace(b'"', b"").replace(b"\\", b"")),
    st.sampled_from([b"\\ud800", b"\\u0000", "Käthe".encode("latin-1"), b"\xff\xfe", b"text"]),
)


@for_all_examples
@pytest.mark.usefixtures("still_answers")
@given(
    header=headers, names=st.lists(wire_text, max_size=3), values=st.lists(wire_text, max_size=3)
)
def test_any_header_and_any_fields_leave_others_alone(
    header: bytes, names: list[bytes], values: list[bytes], server: Serving
) -> None:
    fields = b"".join(
        b', "%s": "%s"' % (name, value) for name, value in zip(names, values, strict=False)
    )
    strange = b'{"text": "mug", "caption": "never"' + fields + b"}"
    plain = b'{"text": "mug", "caption": "never", "top_k": 1}'
    with ThreadPoolExecutor(2) as threads:
        status, answered = threads.map(lambda body: _post(server, body, header), (strange, plain))
    # Triton refuses what is no JSON with 500, in words of its own.
    assert status[0] in (200, 400, 500)
    assert b"unexpected" not in status[1]
    assert answered[0] == 200, answered


def _post(server: Serving, body: bytes, request_id: bytes) -> tuple[int, bytes]:
    address = urlsplit(server.triton.http_url).netloc
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.putrequest("POST", "/v2/models/product_match/generate")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("X-Request-ID", request_id)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_every_kind_of_picture_is_taken(client: ProductMatchClient) -> None:
    for name, data in FILES.items():
        assert client.match(data, caption="never").details["degraded"] == [], name
