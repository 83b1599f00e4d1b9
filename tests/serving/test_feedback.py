"""Feedback on matches, and variants, through the running server."""

from __future__ import annotations

import pytest
from serving_support import SampleProduct, Serving, picture, wait_for

from bls_models.database.store import FEEDBACK, MATCH_LOG
from product_match_client import BadRequestError, ProductMatchClient

pytestmark = pytest.mark.server


def test_feedback_is_stored_once_however_often_it_is_sent(
    server: Serving, client: ProductMatchClient, catalogue: list[SampleProduct], protocol: str
) -> None:
    best = client.match(catalogue[0].queries[0], request_id=f"feedback-{protocol}")
    request_id, product_id = best.details["request_id"], best.matches[0].product_id
    for event in ("clicked", "accepted", "accepted"):
        assert client.feedback(request_id, product_id, event) == "recorded"
    stored = server.database[FEEDBACK]
    wait_for(lambda: stored.count_documents({"request_id": request_id}) >= 2, "both are stored")
    assert client.feedback(request_id, "another", "rejected") == "recorded"
    wait_for(lambda: stored.find_one({"product_id": "another"}), "the last one is stored")
    found = [
        (item["product_id"], item["event"])
        for item in stored.find({"request_id": request_id}).sort("time")
    ]
    assert sorted(found) == sorted(
        [(product_id, "clicked"), (product_id, "accepted"), ("another", "rejected")]
    )
    stored.delete_many({})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("", "mug", "accepted"), "request_id: ''"),
        (("r" * 129, "mug", "accepted"), "request_id: .*expected 1 to 128"),
        (("r", "two words", "accepted"), "product_id: 'two words'"),
        (("r", "mug", "bought"), "event: 'bought'; expected accepted | rejected | clicked"),
    ],
)
def test_feedback_that_says_nothing_is_refused(
    client: ProductMatchClient, values: tuple[str, str, str], message: str
) -> None:
    with pytest.raises(BadRequestError, match=message):
        client.feedback(*values)


def test_answers_and_the_log_name_the_variant(
    server: Serving, client: ProductMatchClient, catalogue: list[SampleProduct], protocol: str
) -> None:
    request_id = f"variant-{protocol}"
    assert client.match(picture(1), request_id=request_id).details["variant"] == "default"
    entry = wait_for(
        lambda: server.database[MATCH_LOG].find_one({"request_id": request_id}), "it is logged"
    )
    assert entry["variant"] == "default"
