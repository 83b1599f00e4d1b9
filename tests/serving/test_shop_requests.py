"""What a shop asks of ``product_match``: more like this, facets, orders, the picture to show.

What is counted and sorted is compared with the sample catalogue's own file.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from serving_support import SampleProduct, Serving, bytes_tensor, float_tensor, send

from product_match_client import BadRequestError, MatchResult, ProductMatchClient

pytestmark = pytest.mark.server

Catalogue = list[SampleProduct]

LIKED = "mug-classic-red"


def ids(result: MatchResult) -> list[str]:
    return [match.product_id for match in result.matches]


# --- more like this ---------------------------------------------------------------------------


def test_products_like_one_are_of_its_kind_and_without_it(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    result = client.match(like=LIKED, top_k=100)
    assert len(result.matches) == len(catalogue) - 1
    assert LIKED not in ids(result)
    best = result.matches[0]
    assert best.product["category"] == "mug"
    assert best.image_score is not None
    assert best.text_score is not None
    assert best.view is not None
    assert result.details["min_score"] is None
    assert result.details["likely"] is None
    # Nothing is read from a picture, and so nothing is said of one.
    assert result.details["caption"]["status"] == "not_asked"


def test_like_this_but_blue(client: ProductMatchClient, catalogue: Catalogue) -> None:
    blue = {
        item.product_id for item in catalogue if item.product["attributes"].get("colour") == "blue"
    }
    alone = ids(client.match(like=LIKED, top_k=100))
    with_words = client.match(like=LIKED, texts="blue", text_weights=[2], top_k=100)

    def mean_rank(ranking: list[str]) -> float:
        return statistics.fmean(rank for rank, name in enumerate(ranking) if name in blue)

    assert mean_rank(ids(with_words)) < mean_rank(alone)
    best = with_words.matches[0].product
    assert (best["category"], best["attributes"]["colour"]) == ("mug", "blue")


def test_a_photo_and_products_join_with_their_weights(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    first, last = catalogue[0], catalogue[-1]
    both = client.match(
        first.queries[0], like=[first.product_id, last.product_id], like_weights=[0.5, -1]
    )
    assert not {first.product_id, last.product_id} & set(ids(both))
    assert both.matches[0].product["category"] == first.product["category"]
    # The default least score is of photos alone.
    assert both.details["min_score"] is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"like": bytes_tensor(LIKED, "x")}, r"like\[1\]: no product 'x'; expected the id of a"),
        ({"like": bytes_tensor(b"\xff")}, r"like\[0\]: not UTF-8"),
        ({"like": bytes_tensor(*"abcdefghi")}, "like: 9 values; expected at most 8"),
        (
            {"like": bytes_tensor(LIKED), "like_weight": float_tensor(1, 2)},
            "like_weight: 2 weights; expected 1, one for each product",
        ),
        (
            {"like": bytes_tensor(LIKED), "like_weight": float_tensor(float("nan"))},
            "like_weight: NaN",
        ),
        (
            {"like": bytes_tensor(LIKED), "like_weight": float_tensor(0)},
            "image_weight, text_weight, like_weight: all are 0",
        ),
        ({"like_weight": float_tensor(1)}, "image, text, like: none was sent"),
        ({"like": bytes_tensor(LIKED), "facets": bytes_tensor("category")}, "facets: not JSON"),
        (
            {"like": bytes_tensor(LIKED), "facets": bytes_tensor('{"colour": 3}')},
            "facets: the field 'colour'; expected fields of category",
        ),
        (
            {"like": bytes_tensor(LIKED), "sort": bytes_tensor("colour")},
            r"sort: .*colour.*; expected score \| price \| -price",
        ),
    ],
)
def test_what_is_wrong_is_refused_in_words(
    server: Serving,
    protocol: str,
    catalogue: Catalogue,
    tensors: dict[str, Any],
    message: str,
) -> None:
    assert catalogue
    with pytest.raises(BadRequestError, match=message):
        send(server.url(protocol), tensors)


# --- facets and order -------------------------------------------------------------------------


def test_facets_are_what_counting_the_catalogue_gives(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    bounds = [10, 20, 50]
    result = client.match(
        texts="mug",
        top_k=1,
        filter={"price": {"$gte": 9}},
        facets={"category": 3, "attributes.colour": 100, "price": bounds},
    )
    products = [item.product for item in catalogue if item.product["price"] >= 9]
    assert len(products) < len(catalogue)
    categories = Counter(product["category"] for product in products)
    found = result.facets["category"]
    assert [item["count"] for item in found["values"]] == [
        count for _, count in categories.most_common(3)
    ]
    for item in found["values"]:
        assert categories[item["value"]] == item["count"]
    assert found["others"] == len(products) - sum(item["count"] for item in found["values"])
    assert found["missing"] == 0

    by_colour = Counter(product["attributes"].get("colour") for product in products)
    without = by_colour.pop(None, 0)
    found = result.facets["attributes.colour"]
    assert {item["value"]: item["count"] for item in found["values"]} == by_colour
    assert (found["others"], found["missing"]) == (0, without)

    prices = [product["price"] for product in products]
    cuts = [float("-inf"), *bounds, float("inf")]
    assert result.facets["price"] == {
        "ranges": [
            {"from": low, "to": high, "count": sum(cut <= price < end for price in prices)}
            for (low, high), (cut, end) in zip(
                pairwise([None, *bounds, None]), pairwise(cuts), strict=True
            )
        ],
        "least": min(prices),
        "most": max(prices),
        "missing": 0,
    }


def test_facets_count_what_a_photo_finds_and_no_more(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    photo = catalogue[0].queries[0]
    found = client.match(photo, top_k=100).matches
    assert 0 < len(found) < len(catalogue)
    page = client.match(photo, top_k=1, offset=1, facets={"category": 100, "name": 1})
    assert len(page.matches) == 1
    counts = Counter(match.product["category"] for match in found)
    values = page.facets["category"]["values"]
    assert {item["value"]: item["count"] for item in values} == counts
    for counted in page.facets.values():
        named = sum(item["count"] for item in counted["values"])
        assert named + counted["others"] + counted["missing"] == len(found)


@pytest.mark.parametrize("sort", ["price", "-price", "name", "-name"])
def test_pages_in_the_order_of_a_field_are_the_sorted_catalogue(
    client: ProductMatchClient, catalogue: Catalogue, sort: str
) -> None:
    field = sort.removeprefix("-")
    condition = {"category": {"$ne": "mug"}}
    products = [item.product for item in catalogue if item.product["category"] != "mug"]
    products.sort(key=lambda product: str(product["product_id"]))
    products.sort(key=lambda product: product[field], reverse=sort.startswith("-"))
    pages: list[str] = []
    for offset in range(0, len(products) + 7, 7):
        page = client.match(texts="mug", filter=condition, sort=sort, top_k=7, offset=offset)
        assert page.details["likely"] is None
        pages += ids(page)
    assert pages == [product["product_id"] for product in products]


def test_an_order_is_of_what_the_photo_finds_and_keeps_the_scores(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    photo = catalogue[0].queries[0]
    best = client.match(photo, top_k=100).matches
    cheapest = client.match(photo, top_k=100, sort="price").matches
    assert {match.product_id for match in cheapest} == {match.product_id for match in best}
    prices = [match.product["price"] for match in cheapest]
    assert prices == sorted(prices)
    scores = {match.product_id: match.score for match in best}
    for match in cheapest:
        assert match.score == pytest.approx(scores[match.product_id], abs=1e-4)


def test_without_facets_there_are_none(client: ProductMatchClient, catalogue: Catalogue) -> None:
    assert catalogue
    assert client.match(texts="mug").facets == {}
    assert client.match(texts="mug", facets={}).facets == {}


# --- the picture to show ----------------------------------------------------------------------


def test_a_match_names_the_picture_that_was_sent(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    for product in (catalogue[0], catalogue[-1]):
        for number in (1, 0):
            image = product.images[number].read_bytes()
            best = client.match(image, top_k=1, caption="never").matches[0]
            assert (best.product_id, best.view) == (product.product_id, number)
            assert best.picture == hashlib.sha256(image).hexdigest()
    by_words = client.match(texts=catalogue[0].product["name"], top_k=1).matches[0]
    assert by_words.view is None
    assert by_words.picture == by_words.product["images"][0]["sha256"]


# --- the log ----------------------------------------------------------------------------------


def test_what_was_asked_is_in_the_match_log(
    server: Serving, client: ProductMatchClient, protocol: str, catalogue: Catalogue
) -> None:
    assert catalogue
    request_id = f"shop-{protocol}"
    result = client.match(
        like=[LIKED, "mug-classic-blue"],
        like_weights=[1, -0.5],
        facets={"category": 3},
        sort="-price",
        request_id=request_id,
    )
    entry = server.log_entry(request_id)
    assert entry["status"] == "ok"
    assert entry["inputs"] == {
        "images": [],
        "texts": [],
        "like": [LIKED, "mug-classic-blue"],
        "top_k": 5,
        "offset": 0,
        "filter": "",
        "facets": '{"category": 3}',
        "sort": "-price",
    }
    assert [item["product_id"] for item in entry["matches"]] == ids(result)
