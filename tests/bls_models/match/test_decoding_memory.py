"""A request's pictures are decoded together only as far as the memory for that goes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from caption_support import no_caption_wanted
from match_support import MatchSender, match_request
from PIL import Image
from serving_support import SMALL_BUNDLE, ContentEncoders, encoded, picture

from bls_models.captions.queue import CaptionQueue
from bls_models.images.decoding import ImageLimits, OpenImage, open_image
from bls_models.index.product_index import ProductIndex
from bls_models.match.matcher import ProductMatcher
from bls_models.match.record import MatchRequest
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings

PICTURES = [picture(seed) for seed in range(8)]
ONE = open_image(PICTURES[0], "image", ImageLimits(2**20, 10**6)).memory


class Nothing:
    """A store without products, and a log that keeps nothing."""

    def find_products(self, ids: object) -> dict[str, Any]:
        return {}

    def write(self, entries: object) -> None:
        pass


def run(images: list[bytes], decode_bytes: int) -> MatchRequest:
    settings = Settings(decode_threads=8, decode_bytes=decode_bytes)
    index = ProductIndex(SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim, 1000)
    nothing: Any = Nothing()
    services = Services(
        SMALL_BUNDLE,
        settings,
        ContentEncoders(),
        CaptionQueue(no_caption_wanted, 1, 1.0),
        lambda queries: (index.answers(queries), {"following": True}),
        nothing,
    )
    tensors = {"image": np.array(images, object)[None]}
    request = match_request(match_query_from_tensors(tensors, settings))
    sender = MatchSender(ProductMatcher(services, nothing), settings)
    sender.run([request])
    sender.close()
    return request


@pytest.mark.parametrize("fitting", [1, 3])
def test_as_many_pictures_are_decoded_at_once_as_fit(
    monkeypatch: pytest.MonkeyPatch, fitting: int
) -> None:
    lock, now, counts = threading.Lock(), [0], []
    decode = OpenImage.decode

    def counted(self: OpenImage) -> Image.Image:
        with lock:
            now[0] += 1
            counts.append(now[0])
        # Long enough for all threads to come here, if nothing keeps them.
        threading.Event().wait(0.02)
        image = decode(self)
        with lock:
            now[0] -= 1
        return image

    monkeypatch.setattr(OpenImage, "decode", counted)
    request = run(PICTURES, fitting * ONE)
    assert request.error is None
    assert len(request.images) == len(counts) == 8
    assert max(counts) <= fitting


def test_a_picture_that_never_fits_is_refused_by_name() -> None:
    request = run([PICTURES[0], encoded(Image.new("RGB", (97, 96)))], ONE)
    assert request.error is not None
    assert "image[1]" in str(request.error)
    assert "97 x 96 pixels" in str(request.error)
