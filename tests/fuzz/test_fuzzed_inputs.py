"""Requests, filters and pictures of any kind are answered or refused in words, at little cost."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from fuzz_support import facet_texts, filter_texts, picture_files, products_in, requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_support import Ingest, assert_nothing_left_over
from PIL import ImageFile
from pymongo.database import Database

from bls_models.database.store import INGEST_LOG, Document, Store
from bls_models.errors import FilterError, ImageError, RequestError
from bls_models.images.decoding import MAX_SIDE, ImageLimits, decode_pixels
from bls_models.images.preprocessing import Preprocess
from bls_models.index.facets import count_facets, parse_facets
from bls_models.index.filters.columns import Columns
from bls_models.index.filters.language import (
    FIELD_OPERATORS,
    LOGICAL_OPERATORS,
    PLAIN_FIELDS,
    parse_filter,
)
from bls_models.ingest.ingester import IngestResult, ingest_request_from_tensors
from bls_models.match.request import match_query_from_tensors
from bls_models.picture.request import picture_query_from_tensors
from bls_models.report.request import report_query_from_tensors
from bls_models.settings import Settings
from bls_models.specs import (
    PRODUCT_INGEST,
    PRODUCT_MATCH,
    PRODUCT_PICTURE,
    PRODUCT_REPORT,
    REPORTS,
    SORTS,
)
from bls_models.telemetry.request_ids import RequestId
from bls_models.telemetry.request_log import LogWriter

pytestmark = pytest.mark.fuzz

T = TypeVar("T")

LIMITS = ImageLimits(2**20, 2_000_000)
# Of a decoder's own buffers for 2 million pixels, and of what it has read before.
MOST_GROWTH_KB = 200_000

PRODUCTS: tuple[dict[str, Any], ...] = (
    {"category": "mug", "name": "Cup", "price": 12.5, "attributes": {"colour": "red"}},
    {"category": "chair", "price": 80, "attributes": {}},
    {},
)


# Fixtures that are for all examples of a test together.
for_all_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def memory() -> Iterator[None]:
    """The process's memory may not have grown much when all examples are done."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH_KB


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes of the pictures whose pixels a decoder was asked for."""
    sizes: list[tuple[int, int]] = []
    load = ImageFile.ImageFile.load

    def noting(self: ImageFile.ImageFile) -> Any:
        sizes.append(self.size)
        return load(self)

    def noting_jpeg(*arguments: Any, **options: Any) -> Any:
        pixels = decode_jpeg(*arguments, **options)
        sizes.append(pixels.shape[1::-1])
        return pixels

    decode_jpeg = simplejpeg.decode_jpeg
    monkeypatch.setattr(ImageFile.ImageFile, "load", noting)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", noting_jpeg)
    return sizes


def outcome_of(call: Callable[[], T]) -> T | RequestError:
    """What a call returns, or the client's error that it raises; any other fails the test."""
    try:
        return call()
    except RequestError as error:
        return error


def assert_worded(error: RequestError, kind: type[RequestError], name: str) -> None:
    assert isinstance(error, kind)
    assert str(error).startswith(f"{name}: ")
    assert "expected" in str(error)
    assert len(str(error)) < 600


@for_all_examples
@pytest.mark.usefixtures("memory")
@pytest.mark.filterwarnings("ignore")
@given(data=picture_files())
def test_any_file_is_decoded_or_refused(data: bytes, decoded: list[tuple[int, int]]) -> None:
    decoded.clear()
    outcome = outcome_of(lambda: decode_pixels(data, "image[0]", LIMITS, Preprocess(16, "pad")))
    for width, height in decoded:
        assert width * height <= LIMITS.max_pixels
        assert max(width, height) <= MAX_SIDE
    if isinstance(outcome, RequestError):
        assert_worded(outcome, ImageError, "image[0]")
    else:
        assert outcome[0].shape == (16, 16, 3)
        assert decoded


def keys_in(value: object) -> set[str]:
    """Every key of a JSON document."""
    if isinstance(value, dict):
        return set(value) | keys_in(list(value.values()))
    return set().union(*map(keys_in, value)) if isinstance(value, list) else set()


@given(text=filter_texts())
def test_any_filter_is_evaluated_or_refused(text: bytes) -> None:
    columns = Columns()
    for slot, product in enumerate(PRODUCTS):
        columns.set(slot, product)
    outcome = outcome_of(lambda: parse_filter(text, Settings().max_filter_bytes))
    if isinstance(outcome, RequestError):
        assert_worded(outcome, FilterError, "filter")
        return
    found, _ = columns.frozen().evaluate(outcome, len(PRODUCTS))
    assert (found.dtype, found.shape) == (np.bool_, (len(PRODUCTS),))
    # Nothing outside the declared fields and operators gets through.
    allowed = {*FIELD_OPERATORS, *LOGICAL_OPERATORS, *PLAIN_FIELDS, "attributes.colour"}
    assert keys_in(json.loads(text)) <= allowed


@given(
    text=facet_texts(),
    passing=st.lists(st.booleans(), min_size=len(PRODUCTS), max_size=len(PRODUCTS)),
)
def test_any_facets_are_counted_or_refused(text: bytes, passing: list[bool]) -> None:
    columns = Columns()
    for slot, product in enumerate(PRODUCTS):
        columns.set(slot, product)
    outcome = outcome_of(lambda: parse_facets(text))
    if isinstance(outcome, RequestError):
        assert_worded(outcome, RequestError, "facets")
        return
    counted = count_facets(outcome, columns.frozen(), np.array(passing))
    assert counted.keys() == outcome.keys()
    for facet in counted.values():
        assert products_in(facet) == sum(passing)


@given(tensors=requests(PRODUCT_MATCH))
def test_any_match_request_is_read_or_refused(tensors: dict[str, npt.NDArray[Any]]) -> None:
    outcome = outcome_of(lambda: match_query_from_tensors(tensors, Settings()))
    if isinstance(outcome, RequestError):
        names = {spec.name for spec in PRODUCT_MATCH.inputs}
        assert outcome.tensor.split("[")[0].split(",")[0] in names
    else:
        assert outcome.images or outcome.texts or outcome.like
        assert outcome.sort in SORTS
        assert outcome.objects == "never" or len(outcome.images) <= 1
        assert 1 <= outcome.max_objects <= Settings().max_objects


@given(tensors=requests(PRODUCT_PICTURE))
def test_any_picture_request_is_read_or_refused(tensors: dict[str, npt.NDArray[Any]]) -> None:
    outcome = outcome_of(lambda: picture_query_from_tensors(tensors))
    if isinstance(outcome, RequestError):
        names = {spec.name for spec in PRODUCT_PICTURE.inputs}
        assert set(outcome.tensor.split(", ")) <= names
    else:
        assert bool(outcome.product_id) != bool(outcome.sha256)
        assert outcome.size is None or 16 <= outcome.size <= 2048
        assert outcome.number >= 1


@given(tensors=requests(PRODUCT_REPORT))
def test_any_report_request_is_read_or_refused(tensors: dict[str, npt.NDArray[Any]]) -> None:
    outcome = outcome_of(lambda: report_query_from_tensors(tensors, 30))
    if isinstance(outcome, RequestError):
        assert_worded(outcome, RequestError, outcome.tensor)
        assert outcome.tensor in {spec.name for spec in PRODUCT_REPORT.inputs}
    else:
        assert outcome.report in REPORTS
        assert 1 <= outcome.limit <= 100
        assert 0 < outcome.hours <= 720


@pytest.fixture
def ingest(store: Store, database: Database[Document], settings: Settings) -> Iterator[Ingest]:
    log = LogWriter(database[INGEST_LOG], settings)
    yield Ingest(store, log, settings)
    log.close()


@pytest.mark.filterwarnings("ignore")
@for_all_examples
@given(tensors=requests(PRODUCT_INGEST))
def test_any_ingest_request_is_carried_out_or_refused(
    tensors: dict[str, npt.NDArray[Any]], ingest: Ingest
) -> None:
    (outcome,) = ingest.run(ingest_request_from_tensors(tensors, RequestId("fuzz")))
    assert isinstance(outcome, IngestResult | RequestError), repr(outcome)
    if isinstance(outcome, IngestResult) and outcome.status in ("created", "updated", "deleted"):
        assert_nothing_left_over(ingest.store.database)
