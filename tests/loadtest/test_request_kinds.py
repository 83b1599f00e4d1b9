from __future__ import annotations

import dataclasses
import io
from collections import Counter

import pytest
from rich.console import Console
from serving_support import picture

from bls_models.errors import SetupError
from loadtest.measurements import Measurement
from loadtest.photos import FIRST_SERIAL, Photo
from loadtest.request_kinds import (
    FACETS,
    FOUR_OBJECTS,
    KINDS,
    LIKE,
    MIXED,
    in_turn,
    matches_a_scene,
    measure_kinds,
    object_requests,
    report_from_kinds,
    requests_by_kind,
    table_from_kinds,
)
from local_server.temporary_stack import SERVING

ADDRESS = ("127.0.0.1", 8000)
PRODUCTS = {
    "mug": {"product_id": "mug", "name": "Red mug", "category": "cups"},
    "bowl": {"product_id": "bowl", "name": "Blue bowl", "category": "bowls"},
}
PHOTOS = [Photo("mug", picture(1) + FIRST_SERIAL), Photo("bowl", picture(2) + FIRST_SERIAL)]


def test_each_kind_has_a_request_for_every_photo_with_what_it_shows() -> None:
    requests = requests_by_kind(PHOTOS, PRODUCTS, ADDRESS)
    assert list(requests) == ["photo", "photo_and_words", "text", "filtered", "like", "facets"]
    for kind, mine in requests.items():
        for request, photo in zip(mine, PHOTOS, strict=True):
            product = PRODUCTS[photo.product_id]
            assert (photo.data in request) == (kind not in ("text", "like"))
            assert (b'"like"' in request) == (kind == "like")
            assert (b'"facets"' in request) == (kind == "facets")
            assert (product["name"].encode() in request) == (kind in ("text", "photo_and_words"))
            assert (product["category"].encode() in request) == (kind == "filtered")


def test_a_photo_of_a_product_that_the_catalogue_does_not_have_is_refused() -> None:
    with pytest.raises(SetupError, match="'vase'"):
        requests_by_kind([Photo("vase", b"")], PRODUCTS, ADDRESS)


def test_a_photo_with_four_objects_is_asked_for_each() -> None:
    requests = object_requests(PHOTOS, ADDRESS)
    assert len(requests) == len(PHOTOS)
    for request in requests:
        assert b"max_objects" in request
        assert b"always" in request
        assert FIRST_SERIAL in request


def test_a_mix_has_the_kinds_in_turn() -> None:
    requests = {"photo": [b"p1", b"p2"], "text": [b"t1", b"t2"]}
    assert in_turn(requests) == ([b"p1", b"t1", b"p2", b"t2"], ["photo", "text"] * 2)


class Served:
    """A contestant of which each kind takes a time of its own, and ten times that in the mix.

    With four objects it answers half as many requests in the same time.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def first_matches(self) -> list[str]:
        raise AssertionError("nobody asks for matches")

    def measure(self, clients: int, seconds: float) -> Measurement:
        own = {kind: float(place + 1) for place, kind in enumerate(KINDS)}
        mixed = self.name == MIXED
        own |= {LIKE: 1.0, FACETS: 2.0, FOUR_OBJECTS: 5.0}
        count = 2 if self.name == FOUR_OBJECTS else 4
        in_mix = [own[kind] * 10 for kind in KINDS]
        latencies = in_mix if mixed else [own[self.name]] * count
        measured = Measurement(latencies, 2.0, {SERVING: 20.0})
        return dataclasses.replace(measured, kinds=list(KINDS)) if mixed else measured


def test_the_report_has_each_kind_alone_and_in_the_mix() -> None:
    names = (*KINDS, LIKE, FACETS, MIXED, FOUR_OBJECTS)
    measured = measure_kinds([Served(name) for name in names], 8, 2, 1.0, 1.0)
    report = report_from_kinds(measured)
    assert list(report) == list(names)
    text = report["text"]
    assert (text["throughput"], text["p50_ms"], text["cpu_ms_per_request"]) == (2.0, 3.0, 5.0)
    assert text["in_mix"] == {"throughput": 0.5, "p50_ms": 30.0, "p95_ms": 30.0, "p99_ms": 30.0}
    assert not any("in_mix" in report[name] for name in (LIKE, FACETS, MIXED, FOUR_OBJECTS))
    assert report[FOUR_OBJECTS]["ratio_to_photo"] == 0.5
    assert matches_a_scene(measured) == 2.0

    console = Console(file=io.StringIO(), width=80)
    console.print(table_from_kinds({8: measured, 1: measured}))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    lines = Counter(line.split()[1] for line in written.splitlines() if line[:1] in ("1", "8"))
    assert lines == dict.fromkeys(names, 2)
    assert "…" not in written
