"""What is made of the server's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from product_match_client import IngestResult, Match, ServerError
from product_match_client.results import (
    ingest_result_from_outputs,
    match_result_from_outputs,
    product_from_outputs,
)


def texts(*values: str) -> Any:
    array = np.empty((1, len(values)), dtype=np.object_)
    array[0, :] = [value.encode() for value in values]
    return array


def numbers(*values: float) -> Any:
    return np.array([values], dtype=np.float32)


def match_outputs(**changes: Any) -> dict[str, Any]:
    outputs = {
        "product_id": texts("a", "b"),
        "score": numbers(0.75, 0.5),
        "image_score": numbers(0.75, 0.5),
        "text_score": numbers(0, 0),
        "product": texts('{"product_id": "a", "name": "Täßchen"}', '{"product_id": "b"}'),
        "caption": texts("a mug"),
        "details": texts('{"bundle": "mini"}'),
    }
    return {**outputs, **changes}


def ingest_outputs(status: str, details: str = "{}") -> dict[str, Any]:
    return {
        "product_id": texts("a"),
        "status": texts(status),
        "revision": np.array([[7]], dtype=np.int64),
        "details": texts(details),
    }


def test_matches_are_read_in_their_order() -> None:
    result = match_result_from_outputs(match_outputs())
    assert [match.product_id for match in result.matches] == ["a", "b"]
    assert result.matches[0] == Match("a", 0.75, 0.75, None, {"product_id": "a", "name": "Täßchen"})
    assert result.details == {"bundle": "mini"}
    assert result.caption == "a mug"


def test_a_score_of_0_means_that_the_modality_was_not_used() -> None:
    result = match_result_from_outputs(match_outputs())
    assert [match.text_score for match in result.matches] == [None, None]


def test_no_match_is_an_answer() -> None:
    empty_text, empty_number = np.empty((1, 0), np.object_), np.empty((1, 0), np.float32)
    outputs = match_outputs(
        product_id=empty_text,
        product=empty_text,
        score=empty_number,
        image_score=empty_number,
        text_score=empty_number,
    )
    assert match_result_from_outputs(outputs).matches == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": numbers(0.5)}, "different lengths"),
        ({"product": texts("{", "{}")}, r"product\[0\]: the server sent no JSON"),
        ({"details": texts("[]")}, "details: got list; expected a JSON object"),
        ({"details": np.empty((1, 0), np.object_)}, "details: got 0 elements"),
    ],
)
def test_an_answer_off_the_contract_is_a_server_error(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ServerError, match=message):
        match_result_from_outputs(match_outputs(**changes))


def test_ingest_results_are_read() -> None:
    result = ingest_result_from_outputs(ingest_outputs("created", '{"views": 2}'))
    assert result == IngestResult("a", "created", 7, {"views": 2})


def test_get_returns_the_document() -> None:
    outputs = ingest_outputs("found", '{"product": {"product_id": "a"}}')
    assert product_from_outputs(outputs) == {"product_id": "a"}


def test_get_returns_none_where_there_is_no_product() -> None:
    assert product_from_outputs(ingest_outputs("not_found")) is None


def test_get_does_not_take_a_missing_document_for_a_missing_product() -> None:
    with pytest.raises(ServerError, match="sent no document"):
        product_from_outputs(ingest_outputs("found"))
