"""Captions in Triton: photos and products in words, over HTTP and gRPC."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from serving_support import (
    REPOSITORY,
    SampleProduct,
    Serving,
    bytes_tensor,
    picture,
    send,
    wait_for,
)

from bls_models.bundle import Bundle, CaptionerBundle
from bls_models.captions.captioner import Caption, Captioner
from bls_models.engines.cpu import CpuEngines
from bls_models.images.preprocessing import prepare_pixels
from bls_models.specs import CAPTION_ENGINE_SPECS, IMAGE_CAPTIONER, PRODUCT_INGEST
from product_match_client import BadRequestError, ProductMatchClient

pytestmark = pytest.mark.server

Catalogue = list[SampleProduct]
SAME_CONFIDENCE = 1e-3


@pytest.fixture(scope="module")
def captioner(bundle: Bundle) -> CaptionerBundle:
    return bundle.require_captioner()


@pytest.fixture(scope="module")
def in_process(bundle: Bundle, captioner: CaptionerBundle) -> Captioner:
    """The same graphs without Triton."""
    engines = CpuEngines.from_repository(REPOSITORY, CAPTION_ENGINE_SPECS)
    return Captioner.from_repository(engines, bundle, REPOSITORY)


@pytest.fixture
def name(server: Serving, catalogue: Catalogue) -> Iterator[str]:
    """The id of a test's own product, which is deleted at its end."""
    name = f"described-{uuid.uuid4().hex[:12]}"
    with server.client() as client:

        def products() -> int:
            count = client.match(texts="a").details["index"]["products"]
            assert isinstance(count, int)
            return count

        before = products()
        yield name
        client.delete(name)
        # Until then it takes a place among the matches of the photo that it shares.
        wait_for(lambda: products() == before, "the index has forgotten the product")


def pixels_of(data: bytes, captioner: CaptionerBundle) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        preprocess = captioner.preprocess
        return prepare_pixels(np.asarray(image.convert("RGB")), preprocess)


def photo(catalogue: Catalogue, number: int = 0) -> bytes:
    return catalogue[number].images[0].read_bytes()


def ids(result: Any) -> list[str]:
    return [match.product_id for match in result.matches]


# --- image_captioner --------------------------------------------------------------------------


def test_the_captioner_says_what_the_graphs_say_without_triton(
    server: Serving, catalogue: Catalogue, captioner: CaptionerBundle, in_process: Captioner
) -> None:
    pictures = [photo(catalogue, number) for number in range(0, 40, 8)]
    pixels = np.stack([pixels_of(data, captioner) for data in pictures])
    expected: list[Caption] = in_process.caption(pixels)
    assert len({caption.text for caption in expected}) > 1, "one caption for all proves nothing"
    for protocol in ("http", "grpc"):
        together = send(server.url(protocol), {"image": pixels}, model=IMAGE_CAPTIONER)
        one_by_one = [
            send(server.url(protocol), {"image": item[None]}, model=IMAGE_CAPTIONER)
            for item in pixels
        ]
        assert together["caption"].shape == together["confidence"].shape == (len(pixels), 1)
        for number, caption in enumerate(expected):
            for found in (together["caption"][number, 0], one_by_one[number]["caption"][0, 0]):
                assert found.decode() == caption.text
            for sure in (together["confidence"][number, 0], one_by_one[number]["confidence"][0, 0]):
                assert sure == pytest.approx(caption.confidence, abs=SAME_CONFIDENCE)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_captioner_refuses_pixels_of_another_size(
    server: Serving, captioner: CaptionerBundle, protocol: str
) -> None:
    side = captioner.image_size
    with pytest.raises(BadRequestError, match=rf"image: shape .*; expected .*{side}, {side}, 3"):
        send(
            server.url(protocol),
            {"image": np.zeros((1, side, side // 2, 3), np.uint8)},
            model=IMAGE_CAPTIONER,
        )


# --- product_match ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, "auto", "always"])
def test_a_photo_comes_back_in_words(
    client: ProductMatchClient,
    catalogue: Catalogue,
    captioner: CaptionerBundle,
    in_process: Captioner,
    mode: str | None,
) -> None:
    (expected,) = in_process.caption(pixels_of(photo(catalogue), captioner)[None])
    result = client.match(photo(catalogue), caption=mode)
    assert result.matches[0].product_id == catalogue[0].product_id
    assert result.caption == expected.text
    caption = result.details["caption"]
    sure = expected.confidence >= captioner.min_confidence
    assert caption["status"] == ("ok" if sure else "low_confidence")
    assert caption["text"] == expected.text
    assert caption["confidence"] == pytest.approx(expected.confidence, abs=SAME_CONFIDENCE)
    assert result.details["degraded"] == []
    stages = result.details["milliseconds"]
    assert 0 < stages["caption"] == caption["milliseconds"] <= stages["total"]


def test_a_caption_that_is_only_shown_changes_no_match(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    for number in range(0, 40, 10):
        shown, without = (
            client.match(photo(catalogue, number), caption=mode) for mode in ("always", "never")
        )
        assert ids(shown) == ids(without)
        assert [match.score for match in shown.matches] == pytest.approx(
            [match.score for match in without.matches], abs=1e-4
        )


@pytest.mark.parametrize(
    ("with_image", "with_text", "mode", "status"),
    [
        (True, False, "never", "not_asked"),
        (True, True, None, "not_asked"),
        (False, True, None, "not_asked"),
        (False, True, "always", "no_image"),
    ],
)
def test_without_asking_or_without_a_photo_there_is_no_caption(
    client: ProductMatchClient,
    catalogue: Catalogue,
    with_image: bool,
    with_text: bool,
    mode: str | None,
    status: str,
) -> None:
    images = [photo(catalogue)] if with_image else []
    texts = ["a mug"] if with_text else []
    result = client.match(images, texts, caption=mode)
    assert result.caption == ""
    assert result.details["caption"]["status"] == status
    assert result.details["degraded"] == []
    assert "caption" not in result.details["milliseconds"]
    assert len(result.matches) == 5


def test_words_beside_a_photo_do_not_stop_a_caption_that_is_asked_for(
    client: ProductMatchClient, catalogue: Catalogue
) -> None:
    alone = client.match(photo(catalogue))
    both = client.match(photo(catalogue), "a mug", caption="always")
    assert both.caption == alone.caption != ""


def test_an_unknown_mode_is_refused_with_the_allowed_ones(client: ProductMatchClient) -> None:
    with pytest.raises(
        BadRequestError, match=r"caption: 'perhaps'; expected never \| auto \| always"
    ):
        client.match(picture(1), caption="perhaps")
    with pytest.raises(BadRequestError, match=r"caption: 'auto'; expected never \| missing"):
        client.upsert({"product_id": "x"}, picture(1), caption="auto")


def test_the_match_log_has_the_caption(
    server: Serving, client: ProductMatchClient, catalogue: Catalogue, protocol: str
) -> None:
    request_id = f"captioned-{protocol}-{uuid.uuid4().hex}"
    result = client.match(photo(catalogue), request_id=request_id)
    entry = server.log_entry(request_id)
    assert entry["caption"] == result.details["caption"]
    assert entry["caption"]["text"] == result.caption
    assert entry["milliseconds"] == result.details["milliseconds"]


# --- product_ingest ---------------------------------------------------------------------------


def test_a_product_gets_the_description_that_its_photo_would(
    server: Serving,
    client: ProductMatchClient,
    catalogue: Catalogue,
    name: str,
) -> None:
    product = {"product_id": name, "name": "A thing", "category": "thing"}
    caption = client.match(photo(catalogue)).details["caption"]
    assert caption["status"] == "ok", "a photo of the catalogue is what the captioner knows"
    result = client.upsert(product, photo(catalogue), caption="missing")
    assert result.status == "created"
    assert result.details["degraded"] == []
    assert result.details["caption"]["text"] == caption["text"]
    assert result.details["caption"]["used"] is True
    found = client.get(name)
    assert found is not None
    assert (found["description"], found["description_generated"]) == (caption["text"], True)
    assert client.upsert(product, photo(catalogue), caption="missing").status == "unchanged"

    def filtered() -> list[str]:
        return ids(client.match(texts="thing", filter={"description_generated": True}))

    wait_for(lambda: filtered() == [name], "the product is found by its mark")
    described = {**found, "description": "What it is."}
    assert client.upsert(described).status == "updated"
    found = client.get(name)
    assert found is not None
    assert found["description"] == "What it is."
    assert "description_generated" not in found
    wait_for(lambda: filtered() == [], "the mark is gone")


def test_the_ingest_log_has_the_generated_description(
    server: Serving, catalogue: Catalogue, name: str
) -> None:
    product = {"product_id": name, "name": "A thing", "category": "thing"}
    request_id = f"described-{uuid.uuid4().hex}"
    outputs = send(
        server.url("grpc"),
        {
            "operation": bytes_tensor("upsert"),
            "product": bytes_tensor(json.dumps(product)),
            "image": bytes_tensor(photo(catalogue)),
            "caption": bytes_tensor("missing"),
        },
        request_id,
        PRODUCT_INGEST,
    )
    details = json.loads(outputs["details"][0, 0])
    assert server.ingest_log_entry(request_id)["caption"] == details["caption"]
