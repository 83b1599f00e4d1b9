"""Photos of several products through the real server: what is found, whose rows are whose."""

from __future__ import annotations

import base64
import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from serving_support import SAMPLE, SampleProduct, Serving

from bls_models.objects.boxes import overlaps
from product_match_client import BadRequestError, ProductMatchClient

pytestmark = pytest.mark.server

SCENES = SAMPLE / "scenes"
# Of the products in the scenes, fewer than the model card says, for the CPU's precision may differ.
LEAST_FOUND = 0.7
BLANK = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mNsaGhgwAaYGHCAwSkBADAXAZDUexXGAAAAAElF"
    "TkSuQmCC"
)


@dataclass(frozen=True)
class Scene:
    """A photo, and what it shows."""

    photo: bytes
    objects: list[dict[str, Any]]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    lines = (SCENES / "scenes.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        Scene((SCENES / item["file"]).read_bytes(), item["objects"])
        for item in map(json.loads, lines)
    ]


@pytest.fixture(scope="module")
def several(scenes: list[Scene]) -> bytes:
    """A photo of four products."""
    return next(scene.photo for scene in scenes if len(scene.objects) == 4)


def test_the_products_of_the_sample_scenes_are_found_and_told(
    catalogue: list[SampleProduct], client: ProductMatchClient, scenes: list[Scene]
) -> None:
    found = right = total = 0
    for scene in scenes:
        result = client.match(scene.photo, objects="always", caption="never", top_k=1)
        assert result.details["objects"]["status"] == ("ok" if result.objects else "none")
        assert result.details["degraded"] == []
        scores = [item.score for item in result.objects]
        assert scores == sorted(scores, reverse=True)
        total += len(scene.objects)
        if not result.objects:
            continue
        boxes = np.array([item.box for item in result.objects], np.float32)
        assert ((boxes >= 0) & (boxes <= 1)).all()
        shared = overlaps(np.array([item["box"] for item in scene.objects], np.float32), boxes)
        for item, row in zip(scene.objects, shared, strict=True):
            if row.max() < 0.5:
                continue
            found += 1
            matches = result.objects[int(row.argmax())].matches
            right += bool(matches) and matches[0].product_id == item["product_id"]
    assert found >= LEAST_FOUND * total
    assert right >= LEAST_FOUND * found


def test_plain_matches_are_as_without_the_feature(
    catalogue: list[SampleProduct], client: ProductMatchClient, several: bytes
) -> None:
    plain = client.match(several, min_score=-1)
    asked = client.match(several, min_score=-1, objects="always")
    assert plain.objects == ()
    assert plain.details["objects"] == {"status": "not_asked", "found": 0}
    assert [match.product_id for match in asked.matches] == [
        match.product_id for match in plain.matches
    ]
    assert len(asked.objects) > 1
    assert all(len(item.matches) == 5 for item in asked.objects)


def test_what_is_cut_out_by_hand_is_matched_alike(
    catalogue: list[SampleProduct], client: ProductMatchClient, several: bytes
) -> None:
    """The object's box with its margin as a crop of its own gives the same match."""
    first = client.match(several, objects="always", top_k=1, min_score=-1).objects[0]
    x0, y0, x1, y1 = first.box
    across, down = (x1 - x0) / 10, (y1 - y0) / 10
    crop = (max(x0 - across, 0), max(y0 - down, 0), min(x1 + across, 1), min(y1 + down, 1))
    alone = client.match(several, crops=[crop], top_k=1, min_score=-1).matches[0]
    assert alone.product_id == first.matches[0].product_id
    # A JPEG or WebP of that size is decoded whole both times.
    assert alone.score == pytest.approx(first.matches[0].score, abs=0.02)


def test_within_a_crop_only_its_objects_are_found(
    catalogue: list[SampleProduct], client: ProductMatchClient, several: bytes
) -> None:
    everything = client.match(several, objects="always").objects
    assert max(item.box[2] for item in everything) > 0.6
    left = client.match(several, objects="always", crops=[(0, 0, 0.5, 1)]).objects
    assert left
    assert all(item.box[2] <= 0.5 + 1e-6 for item in left)


def test_words_say_which_object_is_meant(
    catalogue: list[SampleProduct], client: ProductMatchClient, scenes: list[Scene]
) -> None:
    """With the name of what an object is, no other object fits better, mostly."""
    names = {item.product["product_id"]: item.product["name"] for item in catalogue}
    right = asked = 0
    for scene in scenes[:8]:
        found = client.match(scene.photo, objects="always", caption="never", top_k=1).objects
        named = [item for item in found if item.matches]
        for item in named[:2]:
            product_id = item.matches[0].product_id
            result = client.match(scene.photo, names[product_id], objects="always", caption="never")
            assert result.best_object is not None
            best = (result.objects[result.best_object - 1]) if result.best_object else None
            asked += 1
            right += best is not None and best.matches[0].product_id == product_id
    assert asked
    assert right >= 0.6 * asked


def test_a_photo_of_one_thing_or_nothing_is_matched_whole(
    catalogue: list[SampleProduct], client: ProductMatchClient
) -> None:
    for photo in (BLANK, catalogue[0].queries[0].read_bytes()):
        result = client.match(photo, objects="auto")
        assert (result.objects, result.details["objects"]["status"]) == ((), "none")
        assert result.details["degraded"] == []


def test_the_log_knows_the_boxes(
    catalogue: list[SampleProduct], server: Serving, client: ProductMatchClient, several: bytes
) -> None:
    result = client.match(several, objects="always", top_k=2)
    entry = server.log_entry(result.details["request_id"])
    assert entry["inputs"]["objects"] == "always"
    np.testing.assert_allclose(
        [item["box"] for item in entry["objects"]],
        [item.box for item in result.objects],
        atol=1e-6,
    )
    rows = [
        (number, match.product_id)
        for number, matches in enumerate(
            [result.matches, *(item.matches for item in result.objects)]
        )
        for match in matches
    ]
    assert [(item.get("object", 0), item["product_id"]) for item in entry["matches"]] == rows


def test_generate_answers_flat_lists(
    catalogue: list[SampleProduct], server: Serving, several: bytes
) -> None:
    body = {"image": base64.b64encode(several).decode(), "objects": "always", "top_k": 1}
    request = urllib.request.Request(
        f"{server.triton.http_url}/v2/models/product_match/generate",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        content = json.load(answer)
    boxes = np.reshape(content["object_box"], (-1, 4))
    assert len(boxes) == len(np.atleast_1d(content["object_score"])) > 1
    assert max(np.atleast_1d(content["object"])) <= len(boxes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objects": "all"}, "objects: 'all'; expected never | auto | always"),
        ({"objects": "auto", "max_objects": 21}, "max_objects: 21; expected a number from 1 to 20"),
    ],
)
def test_refusals(client: ProductMatchClient, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequestError, match=words.replace("|", r"\|")):
        client.match(BLANK, **options)


def test_several_photos_with_objects_are_refused(client: ProductMatchClient) -> None:
    with pytest.raises(BadRequestError, match="always with 2 images"):
        client.match([BLANK, BLANK], objects="always")
