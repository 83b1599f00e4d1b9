"""``product_match`` in Triton, over HTTP and gRPC: every input does what the interface says."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving_support import (
    REPOSITORY,
    SampleProduct,
    Serving,
    blocks,
    bytes_tensor,
    encoded,
    float_tensor,
    int_tensor,
    send,
)

from bls_models.bundle import Bundle
from bls_models.engines.precisions import served_precisions
from bls_models.settings import Settings
from bls_models.specs import PRODUCT_MATCH
from product_match_client import Match, MatchResult, ProductMatchClient

pytestmark = pytest.mark.server

Catalogue = list[SampleProduct]

PRODUCT_KEYS = {
    "product_id",
    "name",
    "description",
    "category",
    "price",
    "currency",
    "attributes",
    "images",
    "created",
    "updated",
    "revision",
}
ONE_A_REQUEST = ("caption", "details")
# Nobody asks for objects here.
OUTPUTS = [spec for spec in PRODUCT_MATCH.outputs if not spec.name.startswith("object")]
EXACT = 1e-4


def view(product: SampleProduct, number: int = 0) -> Image.Image:
    with Image.open(product.images[number]) as image:
        return image.convert("RGB")


def ids(result: MatchResult) -> list[str]:
    return [match.product_id for match in result.matches]


def by_id(result: MatchResult) -> dict[str, Match]:
    return {match.product_id: match for match in result.matches}


def different(catalogue: Catalogue) -> tuple[SampleProduct, SampleProduct]:
    """Two products of different categories."""
    first, last = catalogue[0], catalogue[-1]
    assert first.product["category"] != last.product["category"]
    return first, last


def test_a_picture_of_the_catalogue_finds_its_product(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    product = catalogue[0]
    result = client.match(images=product.images[1])
    best = result.matches[0]
    assert best.product_id == product.product_id
    assert best.score == pytest.approx(1, abs=EXACT)
    assert best.image_score == best.score
    assert best.text_score is None
    assert len(result.matches) == 5
    scores = [match.score for match in result.matches]
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(scores))


def test_a_text_finds_products_by_their_words(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    product = catalogue[0]
    result = client.match(texts=product.product["name"])
    assert result.matches[0].product["category"] == product.product["category"]
    assert result.matches[0].text_score == result.matches[0].score
    assert result.matches[0].image_score is None


@pytest.mark.parametrize(
    ("text", "category"),
    [("red mug", "mug"), ("a mug for coffee, in red", "mug"), ("teapot", "teapot")],
)
def test_words_of_a_shopper_find_a_fitting_category(
    client: ProductMatchClient, catalogue: Catalogue, text: str, category: str
) -> None:
    assert category in {item.product["category"] for item in catalogue}
    assert client.match(texts=text).matches[0].product["category"] == category


def test_a_colour_in_the_text_is_heard(client: ProductMatchClient, catalogue: Catalogue) -> None:
    assert "red" in client.match(texts="red mug").matches[0].product["name"].lower()


def test_picture_and_text_together_score_by_their_mean(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    product = catalogue[0]
    result = client.match(images=product.images[0], texts=product.product["name"])
    assert result.matches[0].product_id == product.product_id
    for match in result.matches:
        assert match.image_score is not None
        assert match.text_score is not None
        assert match.score == pytest.approx((match.image_score + match.text_score) / 2, abs=EXACT)


def test_scores_of_several_weighted_pictures_and_texts_are_the_weighted_mean_of_their_cosines(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    liked, disliked = different(catalogue)
    texts = ["ceramic", "for children"]
    images = [liked.images[0], disliked.images[0]]

    alone = [by_id(client.match(images=image, top_k=100, min_score=-1)) for image in images]
    alone += [by_id(client.match(texts=text, top_k=100)) for text in texts]
    weights = [1.5, -1.0, 0.5, -0.25]
    result = client.match(
        images=images,
        texts=texts,
        image_weights=weights[:2],
        text_weights=weights[2:],
        top_k=100,
    )
    assert len(result.matches) == len(catalogue)
    for match in result.matches:
        cosines = [part[match.product_id].score for part in alone]
        total = sum(weight * cosine for weight, cosine in zip(weights, cosines, strict=True))
        assert match.score == pytest.approx(total / sum(map(abs, weights)), abs=EXACT)
        assert match.image_score == pytest.approx((1.5 * cosines[0] - cosines[1]) / 2.5, abs=EXACT)
    ranking = ids(result)
    assert ranking.index(liked.product_id) < ranking.index(disliked.product_id)
    best = max(match.score for match in result.matches)
    assert result.matches[0].score == pytest.approx(best, abs=1e-6)


def test_a_weight_of_zero_takes_a_part_out(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    product = catalogue[0]
    with_text = client.match(images=product.images[0], texts="skateboard", text_weights=[0])
    alone = client.match(images=product.images[0])
    assert ids(with_text) == ids(alone)
    assert with_text.matches[0].text_score is None


def test_a_crop_chooses_what_of_a_picture_is_searched_for(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    left, right = different(catalogue)
    one, other = view(left), view(right)
    wide = Image.new("RGB", (one.width + other.width, max(one.height, other.height)), "white")
    wide.paste(one, (0, 0))
    wide.paste(other, (one.width, 0))
    data = encoded(wide)
    middle = one.width / wide.width
    for product, crop in ((left, (0, 0, middle, 1)), (right, (middle, 0, 1, 1))):
        best = client.match(images=data, crops=[crop]).matches[0]
        assert best.product_id == product.product_id
        assert best.score == pytest.approx(1, abs=0.01)


def test_a_crop_of_the_whole_picture_changes_nothing(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    image = catalogue[0].images[0]
    whole = client.match(images=image, crops=[(0, 0, 1, 1)])
    plain = client.match(images=image)
    assert ids(whole) == ids(plain)
    assert whole.matches[0].score == pytest.approx(plain.matches[0].score, abs=EXACT)


def test_pages_of_a_ranking_join_without_gaps_and_repeats(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    image = catalogue[0].images[0]
    whole = ids(client.match(images=image, top_k=100, min_score=-1))
    assert len(whole) == len(catalogue)
    pages: list[str] = []
    for offset in range(0, len(catalogue), 7):
        pages += ids(client.match(images=image, top_k=7, offset=offset, min_score=-1))
    assert pages == whole
    assert client.match(images=image, offset=1000).matches == ()


def test_a_filter_is_applied_before_the_search(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    product, other = different(catalogue)
    category = other.product["category"]
    everything = {"images": product.images[0], "top_k": 100, "min_score": -1}
    result = client.match(**everything, filter={"category": category})
    expected = {item.product_id for item in catalogue if item.product["category"] == category}
    assert set(ids(result)) == expected
    limit = sorted(item.product["price"] for item in catalogue)[len(catalogue) // 2]
    cheap = client.match(**everything, filter={"price": {"$lt": limit}})
    assert set(ids(cheap)) == {
        item.product_id for item in catalogue if item.product["price"] < limit
    }


def test_attributes_can_be_filtered_together_with_other_fields(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    condition = {"$and": [{"attributes.colour": "red"}, {"category": {"$ne": "mug"}}]}
    result = client.match(texts="something red", filter=condition, top_k=100)
    assert set(ids(result)) == {
        item.product_id
        for item in catalogue
        if item.product["attributes"].get("colour") == "red" and item.product["category"] != "mug"
    }


def test_a_least_score_leaves_out_weaker_matches(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    image = catalogue[0].images[0]
    scores = [match.score for match in client.match(images=image, top_k=100).matches]
    least = (scores[2] + scores[3]) / 2
    kept = client.match(images=image, top_k=100, min_score=least)
    assert len(kept.matches) == sum(score >= least for score in scores)


def test_no_match_is_an_answer_and_not_an_error(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    for result in (
        client.match(images=encoded(blocks(1)), min_score=1.0),
        client.match(texts="mug", filter={"category": "none such"}),
    ):
        assert result.matches == ()
        assert result.details["degraded"] == []


def test_details_say_what_answered_and_how_long_it_took(
    client: ProductMatchClient, catalogue: Catalogue, bundle: Bundle
) -> None:
    details = client.match(images=catalogue[0].images[0], texts="x", request_id="my-id").details
    assert details["request_id"] == "my-id"
    assert details["bundle"] == {
        "name": bundle.name,
        "fingerprint": bundle.fingerprint,
        "precisions": served_precisions(bundle, REPOSITORY, Settings()),
        "languages": ["en"],
    }
    assert details["search"]["scored"] >= 3 * len(catalogue)
    assert details["search"]["filtered"] == 0
    assert details["degraded"] == []
    index = details["index"]
    assert index["products"] >= len(catalogue)
    assert index["image_vectors"] >= sum(len(item.images) for item in catalogue)
    assert index["following"] is True
    assert index["stale_products"] == 0
    assert index["version"] >= len(catalogue)
    assert datetime.now(UTC) - datetime.fromisoformat(index["time"]) < timedelta(days=1)
    stages = details["milliseconds"]
    assert set(stages) == {"queue", "decode", "encode", "search", "documents", "total"}
    assert all(value >= 0 for value in stages.values())
    assert stages["total"] >= max(value for name, value in stages.items() if name != "total")


def test_a_request_without_an_id_gets_one(client: ProductMatchClient, catalogue: Catalogue) -> None:
    first, second = (client.match(texts="mug").details["request_id"] for _ in range(2))
    assert first != second
    assert min(len(first), len(second)) >= 16


@pytest.mark.parametrize("top_k", [1, 3, 100])
def test_outputs_have_the_names_shapes_and_dtypes_of_the_spec(
    server: Serving, protocol: str, catalogue: Catalogue, top_k: int
) -> None:
    outputs = send(
        server.url(protocol),
        {"text": bytes_tensor("mug"), "top_k": int_tensor(top_k)},
    )
    count = min(top_k, len(catalogue))
    assert list(outputs) == [spec.name for spec in OUTPUTS]
    for spec in OUTPUTS:
        assert outputs[spec.name].dtype == np.dtype(spec.numpy_dtype), spec.name
        expected = (1, 1 if spec.name in ONE_A_REQUEST else count)
        assert outputs[spec.name].shape == expected, spec.name
    assert not outputs["image_score"].any()
    assert (outputs["view"] == -1).all()


def test_outputs_of_an_empty_answer_have_no_elements_and_still_details(
    server: Serving, protocol: str, catalogue: Catalogue
) -> None:
    tensors = {"text": bytes_tensor("mug"), "filter": bytes_tensor('{"category": "none such"}')}
    outputs = send(server.url(protocol), tensors)
    for spec in OUTPUTS:
        expected = (1, 1) if spec.name in ONE_A_REQUEST else (1, 0)
        assert outputs[spec.name].shape == expected, spec.name
    assert json.loads(outputs["details"][0, 0])["degraded"] == []


def test_a_product_comes_as_it_was_sent_without_vectors_and_internal_fields(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    product = catalogue[0]
    found = client.match(images=product.images[0]).matches[0].product
    assert set(found) <= PRODUCT_KEYS
    assert {key: found[key] for key in product.product} == product.product
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in product.images]
    assert [image["sha256"] for image in found["images"]] == hashes
    assert [set(image) for image in found["images"]] == [{"sha256", "width", "height"}] * 3
    assert found["revision"] >= 1


@pytest.mark.parametrize(
    ("kind", "options", "least"),
    [
        ("PNG", {}, 0.999),
        ("WEBP", {"lossless": True}, 0.999),
        ("JPEG", {"quality": 95}, 0.95),
    ],
    ids=["PNG", "WebP", "JPEG"],
)
def test_every_accepted_format_finds_the_product(
    client: ProductMatchClient,
    catalogue: Catalogue,
    kind: str,
    options: dict[str, Any],
    least: float,
) -> None:
    product = catalogue[0]
    best = client.match(images=encoded(view(product), kind, **options)).matches[0]
    assert best.product_id == product.product_id
    assert best.score > least


def test_a_photo_turned_in_its_exif_data_is_seen_upright(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    upright = view(catalogue[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    expected = client.match(images=encoded(upright, "JPEG", quality=95)).matches[0]
    best = client.match(images=lying).matches[0]
    assert best.product_id == expected.product_id
    assert best.score == pytest.approx(expected.score, abs=0.02)


def test_a_picture_may_be_base64_text(client: ProductMatchClient, catalogue: Catalogue) -> None:
    data = catalogue[0].images[0].read_bytes()
    for text in (base64.b64encode(data), b"data:image/webp;base64," + base64.b64encode(data)):
        assert client.match(images=text).matches[0].score == pytest.approx(1, abs=EXACT)


def test_a_text_of_any_language_and_the_greatest_length_is_answered(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    for text in ("rote Tasse für Kaffee", "红色马克杯", "mug " * 1024):
        assert len(client.match(texts=text).matches) == 5


def test_every_request_is_in_the_match_log_once_without_its_pictures(
    server: Serving, client: ProductMatchClient, protocol: str, catalogue: Catalogue
) -> None:
    product = catalogue[0]
    data = product.images[0].read_bytes()
    request_id = f"logged-{protocol}"
    result = client.match(
        images=[data, encoded(blocks(3))],
        texts="mug",
        filter={"price": {"$gt": 0}},
        top_k=3,
        offset=1,
        request_id=request_id,
    )
    entry = server.log_entry(request_id)
    assert entry["status"] == "ok"
    assert entry["inputs"] == {
        "images": [
            {"bytes": len(item), "sha256": hashlib.sha256(item).hexdigest()}
            for item in (data, encoded(blocks(3)))
        ],
        "texts": ["mug"],
        "top_k": 3,
        "offset": 1,
        "filter": '{"price": {"$gt": 0}}',
    }
    assert [item["product_id"] for item in entry["matches"]] == ids(result)
    for item, match in zip(entry["matches"], result.matches, strict=True):
        assert item["score"] == pytest.approx(match.score, abs=1e-6)
    assert entry["degraded"] == []
    assert entry["milliseconds"]["total"] > 0
    assert abs(datetime.now(UTC) - entry["time"]) < timedelta(hours=1)
    assert len(str(entry)) < 3000
    assert not any(isinstance(value, bytes) for value in _leaves(entry))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def test_weights_and_scores_are_finite_also_for_the_largest_weights(
    server: Serving, protocol: str, catalogue: Catalogue
) -> None:
    outputs = send(
        server.url(protocol),
        {"text": bytes_tensor("mug", "cup"), "text_weight": float_tensor(3e38, 3e38)},
    )
    assert all(math.isfinite(score) for score in outputs["score"][0])
