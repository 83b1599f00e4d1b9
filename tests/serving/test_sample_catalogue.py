"""The sample catalogue with its held-out photos, which no product was stored with."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from serving_support import SampleProduct, Serving, encoded

from bls_models.bundle import Bundle

pytestmark = pytest.mark.server

LEAST_SHARE = 0.9


def test_the_sample_catalogue_is_complete(sample: list[SampleProduct]) -> None:
    missing = [
        str(path) for item in sample for path in (*item.images, *item.queries) if not path.is_file()
    ]
    assert missing == []
    assert len({item.product_id for item in sample}) == len(sample) >= 24
    assert all(item.queries for item in sample)


def test_held_out_photos_find_their_product_first(
    server: Serving, catalogue: list[SampleProduct]
) -> None:
    misses = []
    total = 0
    with server.client("grpc") as client:
        for item in catalogue:
            for photo in item.queries:
                total += 1
                found = client.match(images=photo, top_k=1).matches[0].product_id
                if found != item.product_id:
                    misses.append(f"{item.product_id}: {found}")
    assert 1 - len(misses) / total >= LEAST_SHARE, misses


def test_photos_of_something_else_find_nothing_unless_that_is_asked_for(
    server: Serving, catalogue: list[SampleProduct], bundle: Bundle
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    with server.client("grpc") as client:
        known = [client.match(images=item.queries[0], top_k=1) for item in catalogue[::6]]
        strange = client.match(images=encoded(Image.fromarray(noise)))
        weak = client.match(images=encoded(Image.fromarray(noise)), min_score=-1)
        page = client.match(images=catalogue[0].queries[0], offset=1)
        pushed = client.match(images=catalogue[0].queries[0], image_weights=[-1])
    assert all(result.details["likely"] for result in known)
    assert all(result.matches for result in known)
    assert strange.matches == ()
    assert strange.details["likely"] is False
    assert strange.details["min_score"] == pytest.approx(bundle.min_scores["image"])
    assert weak.details["likely"] is False
    assert weak.matches[0].score < bundle.min_scores["image"]
    # Nothing is known of what comes after the best, and of what is far from something.
    assert page.details["likely"] is None
    assert pushed.details["likely"] is None


def test_a_held_out_photo_of_every_product_finds_its_category_among_the_first_three(
    server: Serving, catalogue: list[SampleProduct]
) -> None:
    misses = []
    with server.client("grpc") as client:
        for item in catalogue:
            found = client.match(images=item.queries[0], top_k=3).matches
            if item.product["category"] not in {match.product["category"] for match in found}:
                misses.append(item.product_id)
    assert len(misses) <= len(catalogue) // 20, misses
