"""What is made of the server's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from product_match_client import IngestResult, Match, MatchedObject, ServerError
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


def object_outputs(**changes: Any) -> dict[str, Any]:
    """Of a photo in which the second of two objects has two matches, and the first none."""
    outputs = match_outputs(
        product_id=texts("a", "b", "a"),
        score=numbers(0.75, 0.5, 0.25),
        image_score=numbers(0.75, 0.5, 0.25),
        text_score=numbers(0, 0, 0),
        product=texts("{}", "{}", "{}"),
        details=texts('{"best_object": 2}'),
        object=np.array([[0, 2, 2]], dtype=np.int32),
        object_box=np.array([[[0, 0, 0.5, 1], [0.5, 0.25, 1, 0.75]]], dtype=np.float32),
        object_score=numbers(0.875, 0.5),
    )
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


def test_each_object_has_its_own_matches_and_the_whole_photo_those_that_are_left() -> None:
    result = match_result_from_outputs(object_outputs())
    assert [match.product_id for match in result.matches] == ["a"]
    matches = (Match("b", 0.5, 0.5, None, {}), Match("a", 0.25, 0.25, None, {}))
    assert result.objects == (
        MatchedObject(1, (0.0, 0.0, 0.5, 1.0), 0.875, ()),
        MatchedObject(2, (0.5, 0.25, 1.0, 0.75), 0.5, matches),
    )
    assert result.best_object == 2


def test_without_objects_all_matches_are_of_the_whole_photo() -> None:
    none = {
        "object": np.zeros((1, 2), np.int32),
        "object_box": np.empty((1, 0, 4), np.float32),
        "object_score": np.empty((1, 0), np.float32),
    }
    # The second as a server answers that has no such outputs.
    for outputs in (match_outputs(**none), match_outputs()):
        result = match_result_from_outputs(outputs)
        assert [match.product_id for match in result.matches] == ["a", "b"]
        assert result.objects == ()
        assert result.best_object is None


def test_a_match_says_which_picture_is_nearest() -> None:
    images = '{"images": [{"sha256": "f00"}, {"sha256": "f01"}]}'
    views = np.array([[1, -1]], np.int32)
    nearest, by_text = match_result_from_outputs(
        match_outputs(product=texts(images, images), view=views)
    ).matches
    assert (nearest.view, nearest.picture) == (1, "f01")
    assert (by_text.view, by_text.picture) == (None, "f00")
    # One picture has been taken away since, and a product whose document did not come.
    assert Match("a", 1, 1, None, {"images": [{"sha256": "f00"}]}, view=1).picture == "f00"
    assert Match("a", 1, 1, None, {"product_id": "a"}, view=0).picture is None


def test_facets_are_those_of_the_details() -> None:
    facets = '{"category": {"values": [{"value": "mug", "count": 3}], "others": 0, "missing": 1}}'
    result = match_result_from_outputs(match_outputs(details=texts(f'{{"facets": {facets}}}')))
    assert result.facets["category"]["values"] == [{"value": "mug", "count": 3}]
    # A server that has none.
    assert match_result_from_outputs(match_outputs()).facets == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"object": np.zeros((1, 2), np.int32)}, "different lengths: .*'object': 2"),
        ({"object": np.full((1, 3), 3, np.int32)}, r"object: got \[3, 3, 3\]; .* from 0 to 2"),
        ({"object": np.full((1, 3), -1, np.int32)}, r"object: got \[-1, -1, -1\]"),
        ({"object_score": numbers(0.5)}, r"object_box: got shape \[1, 2, 4\]; .* \[1, 1, 4\]"),
        ({"object_box": numbers(0.5)}, r"object_box: got shape \[1, 1\]"),
    ],
)
def test_objects_off_the_contract_are_a_server_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerError, match=message):
        match_result_from_outputs(object_outputs(**changes))


def test_some_of_the_outputs_of_objects_without_the_others_are_a_server_error() -> None:
    outputs = object_outputs()
    del outputs["object_box"]
    with pytest.raises(ServerError, match="objects without object_box"):
        match_result_from_outputs(outputs)


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
