"""``product_ingest`` in Triton: what is written is soon found, what is deleted soon is not."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from serving_support import (
    SampleProduct,
    Serving,
    blocks,
    bytes_tensor,
    encoded,
    picture,
    send,
    wait_for,
)

from bls_models.specs import PRODUCT_INGEST
from product_match_client import BadRequestError, ProductMatchClient

pytestmark = pytest.mark.server


@pytest.fixture
def name(server: Serving, catalogue: list[SampleProduct]) -> Iterator[str]:
    """The start of the ids of a test's own products, which are deleted at its end."""
    name = f"own-{uuid.uuid4().hex[:12]}"
    yield name
    with server.client() as client:
        for document in server.database["products"].find({"_id": {"$regex": f"^{name}"}}):
            client.delete(document["_id"])


def product(product_id: str, **fields: Any) -> dict[str, Any]:
    return {"product_id": product_id, "name": "A pattern", "category": "pattern", **fields}


def seed_of(name: str, protocol: str) -> int:
    return int(name[4:10], 16) + (protocol == "grpc")


def best(client: ProductMatchClient, data: bytes) -> str | None:
    found = client.match(images=data, top_k=1).matches
    return found[0].product_id if found else None


def test_a_new_product_is_soon_found_and_a_deleted_one_soon_is_not(
    client: ProductMatchClient, protocol: str, name: str
) -> None:
    data = picture(seed_of(name, protocol))
    assert best(client, data) != name
    result = client.upsert(product(name, price=3.5), data)
    assert (result.product_id, result.status, result.revision) == (name, "created", 1)
    wait_for(lambda: best(client, data) == name, "the new product is found")
    found = client.match(images=data, top_k=1).matches[0]
    assert found.score == pytest.approx(1, abs=1e-4)
    assert found.product["price"] == 3.5
    assert client.delete(name).status == "deleted"
    wait_for(lambda: best(client, data) != name, "the deleted product is gone")
    assert client.get(name) is None
    assert client.delete(name).status == "not_found"


def test_duplicates_are_reported_and_not_refused(
    client: ProductMatchClient, protocol: str, name: str
) -> None:
    data = picture(seed_of(name, protocol))
    assert client.upsert(product(name), data).details == {"duplicates": [], "degraded": []}
    wait_for(lambda: best(client, data) == name, "the new product is found")
    copy = encoded(blocks(seed_of(name, protocol)), "JPEG", quality=90)
    near = client.upsert(product(f"{name}-copy"), copy)
    assert near.status == "created"
    (duplicate,) = near.details["duplicates"]
    assert (duplicate["product_id"], duplicate["kind"]) == (name, "near")
    assert 0.95 <= duplicate["cosine"] < 1
    same = client.upsert(product(f"{name}-same"), data).details["duplicates"]
    assert {"product_id": name, "kind": "exact", "cosine": 1.0} in same
    unasked = client.upsert(product(f"{name}-unasked"), data, duplicates="never")
    assert (unasked.status, unasked.details) == ("created", {})


def test_an_unknown_mode_for_duplicates_is_refused(client: ProductMatchClient, name: str) -> None:
    with pytest.raises(BadRequestError, match=r"duplicates: 'maybe'; expected report \| never"):
        client.upsert(product(name), duplicates="maybe")


def test_what_was_added_by_hand_is_neither_got_nor_matched(
    server: Serving, client: ProductMatchClient, protocol: str, name: str
) -> None:
    data = picture(seed_of(name, protocol))
    client.upsert(product(name), data)
    by_hand = {"price": 7.0, "supplier": "secret", "images.0.path": "secret"}
    server.database["products"].update_one({"_id": name}, {"$set": by_hand})

    def matched() -> dict[str, Any] | None:
        found = client.match(images=data, top_k=1).matches
        return found[0].product if found and found[0].product.get("price") == 7.0 else None

    document = client.get(name)
    assert document == wait_for(matched, "the change by hand is seen")
    assert "secret" not in json.dumps(document)
    internal = {"_id", "write_id", "fingerprint", "content_hash", "description_source"}
    assert not internal & set(document or {})
    assert set((document or {})["images"][0]) == {"sha256", "width", "height"}


def test_a_new_price_is_soon_seen_by_matches_and_filters(
    client: ProductMatchClient, protocol: str, name: str
) -> None:
    data = picture(seed_of(name, protocol))
    client.upsert(product(name, price=100.0), data)
    result = client.upsert(product(name, price=0.01))
    assert (result.status, result.revision) == ("updated", 2)
    condition = {"$and": [{"price": {"$lt": 0.02}}, {"category": "pattern"}]}

    def cheap() -> list[str]:
        return [item.product_id for item in client.match(images=data, filter=condition).matches]

    wait_for(lambda: name in cheap(), "the filter knows the new price")
    (found,) = client.match(images=data, filter=condition).matches
    assert found.product["price"] == 0.01
    assert found.score == pytest.approx(1, abs=1e-4), "its picture was kept"


def test_the_same_product_again_is_unchanged(
    client: ProductMatchClient, protocol: str, name: str
) -> None:
    data = picture(seed_of(name, protocol))
    client.upsert(product(name), data)
    again = client.upsert(product(name), data)
    assert (again.status, again.revision) == ("unchanged", 1)
    stored = client.get(name)
    assert stored is not None
    assert client.upsert(stored).status == "unchanged"


def test_new_pictures_replace_the_old_ones(
    client: ProductMatchClient, protocol: str, name: str
) -> None:
    old, new = (picture(seed_of(name, protocol) + step) for step in (0, 1000))
    client.upsert(product(name), old)
    wait_for(lambda: best(client, old) == name, "the first picture finds it")
    client.upsert(product(name), new)
    wait_for(
        lambda: client.match(images=new, top_k=1).matches[0].score > 0.9999,
        "the new picture finds it",
    )
    assert client.match(images=old, top_k=1).matches[0].score < 0.9999


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"product": bytes_tensor("{")}, "product: not valid JSON"),
        ({"product": bytes_tensor('{"name": "x"}')}, "product.product_id: missing"),
        ({"product": bytes_tensor('{"product_id": "a b"}')}, "product.product_id: 'a b'"),
        (
            {"product": bytes_tensor('{"product_id": "a", "name": "x", "colour": "red"}')},
            "unknown field 'colour'",
        ),
        (
            {"product": bytes_tensor('{"product_id": "a", "name": "x"}')},
            "product.category: missing",
        ),
        (
            {
                "product": bytes_tensor('{"product_id": "a", "name": "x", "category": "y"}'),
                "image": bytes_tensor(picture(1), b"no picture"),
            },
            "image[1]: ",
        ),
        ({"operation": bytes_tensor("drop")}, "operation: 'drop'"),
        (
            {
                "operation": np.array([[b"get"], [b"get"]], np.object_),
                "product": np.array([[b"{}"], [b"{}"]], np.object_),
            },
            "operation: shape [2, 1]",
        ),
    ],
    ids=[
        "no JSON",
        "no id",
        "bad id",
        "unknown field",
        "no category",
        "no picture",
        "unknown operation",
        "two products",
    ],
)
def test_a_bad_product_is_refused_in_words_and_logged(
    server: Serving, protocol: str, name: str, tensors: dict[str, Any], words: str
) -> None:
    request_id = f"bad-{uuid.uuid4().hex}"
    whole = {"operation": bytes_tensor("upsert"), "product": bytes_tensor("{}"), **tensors}
    with pytest.raises(BadRequestError) as caught:
        send(server.url(protocol), whole, request_id, PRODUCT_INGEST)
    assert words in str(caught.value)
    entry = server.ingest_log_entry(request_id)
    assert entry["status"] == "error"
    assert words in entry["error"]["message"]
    assert server.database["products"].find_one({"_id": "a"}) is None


def test_one_bad_product_among_others_at_the_same_time_fails_alone(
    server: Serving, name: str
) -> None:
    outcomes: dict[int, str] = {}
    start = threading.Barrier(12)

    def write(number: int) -> None:
        with server.client("grpc" if number % 2 else "http") as client:
            client.is_ready()
            start.wait()
            data = b"no picture" if number == 5 else picture(5000 + number)
            try:
                result = client.upsert(product(f"{name}-{number}"), data)
                outcomes[number] = result.status
            except BadRequestError as error:
                outcomes[number] = str(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "image[0]" in outcomes.pop(5)
    assert outcomes == {number: "created" for number in range(12) if number != 5}
    stored = server.database["products"].find({"_id": {"$regex": f"^{name}-"}})
    assert {item["_id"] for item in stored} == {f"{name}-{number}" for number in outcomes}
    with server.client() as client:

        def all_found() -> bool:
            return all(best(client, picture(5000 + at)) == f"{name}-{at}" for at in outcomes)

        wait_for(all_found, "every other product is found")


def test_outputs_have_the_shapes_and_dtypes_of_the_spec_and_the_operation_is_logged(
    server: Serving, protocol: str, name: str
) -> None:
    request_id = f"ingest-{uuid.uuid4().hex}"
    tensors = {
        "operation": bytes_tensor("upsert"),
        "product": bytes_tensor(json.dumps(product(name))),
        "image": bytes_tensor(picture(1)),
    }
    outputs = send(server.url(protocol), tensors, request_id, PRODUCT_INGEST)
    assert list(outputs) == PRODUCT_INGEST.output_names
    for spec in PRODUCT_INGEST.outputs:
        assert outputs[spec.name].dtype == np.dtype(spec.numpy_dtype), spec.name
        assert outputs[spec.name].shape == (1, 1), spec.name
    entry = server.ingest_log_entry(request_id)
    assert entry["status"] == "ok"
    assert (entry["operation"], entry["result"]) == ("upsert", "created")
    assert (entry["product_id"], entry["revision"], entry["images"]) == (name, 1, 1)


def test_reembedding_a_product_keeps_it_and_raises_its_revision(
    server: Serving, client: ProductMatchClient, protocol: str, name: str
) -> None:
    data = picture(seed_of(name, protocol))
    client.upsert(product(name), data)
    tensors = {
        "operation": bytes_tensor("reembed"),
        "product": bytes_tensor(json.dumps({"product_id": name})),
    }
    outputs = send(server.url(protocol), tensors, model=PRODUCT_INGEST)
    assert (outputs["status"][0, 0], outputs["revision"][0, 0]) == (b"updated", 2)
    wait_for(lambda: best(client, data) == name, "it is found")
