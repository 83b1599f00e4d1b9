"""The sample catalogue's listing and the looks that its pictures are rendered from."""

from __future__ import annotations

import json
import tomllib

from seed.render.products import LISTING, LOOKS, sample_products
from seed.render.ranges import RANGES


def test_the_renderer_writes_the_listing_that_it_reads() -> None:
    listed = [json.loads(line) for line in LISTING.read_text(encoding="utf-8").splitlines()]

    written = [
        product.record(record["images"], record["queries"])
        for product, record in zip(sample_products(), listed, strict=True)
    ]

    assert written == listed


def test_each_look_is_of_a_product_and_of_a_family() -> None:
    looks = tomllib.loads(LOOKS.read_text(encoding="utf-8"))

    assert looks.keys() == {product.product_id for product in sample_products()}
    assert {look["family"] for look in looks.values()} == set(RANGES)
