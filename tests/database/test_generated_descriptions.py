"""Products without a description get one from their first picture, if the client asks for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from caption_support import CAPTIONED_BUNDLE, SMALL_CAPTIONER, PixelCaptioner, caption_of
from ingest_support import journal_of, nothing_found, with_indexes
from pymongo.database import Database
from serving_support import (
    SMALL_BUNDLE,
    WAIT_SECONDS,
    ContentEncoders,
    blocks,
    encoded,
    picture,
    text_vector,
)

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.database.store import INGEST_LOG, Document, Store
from bls_models.errors import CaptionerError, ImageError, RequestError
from bls_models.images.preprocessing import Preprocess, prepare_pixels
from bls_models.ingest.ingester import IngestRequest, IngestResult, Outcome, ProductIngester
from bls_models.product import embedding_text
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.telemetry.request_log import LogWriter
from bls_models.vectors import vector_from_binary

MUG: dict[str, Any] = {"product_id": "mug", "name": "Red mug", "category": "mug"}


def words_of(seed: int) -> str:
    return caption_of(prepare_pixels(np.asarray(blocks(seed)), Preprocess(32, "stretch")))


def upsert(
    product: dict[str, Any], *images: bytes, caption: str = "missing", request_id: str = "r"
) -> IngestRequest:
    body = json.dumps(product).encode()
    return IngestRequest(request_id, "upsert", body, images or None, caption)


class Shop:
    """An ingester on a real database, with a captioner that a test can break."""

    def __init__(self, store: Store, settings: Settings, bundle: Bundle) -> None:
        self.store = store
        self.captioner = PixelCaptioner()
        self.log = LogWriter(store.database[INGEST_LOG], settings)
        self.queue = CaptionQueue(self.captioner, 32, WAIT_SECONDS)
        self.ingester = ProductIngester(
            Services(
                bundle, settings, ContentEncoders(bundle), self.queue, nothing_found, self.log
            ),
            journal_of(store, settings),
            with_indexes(store),
        )

    def run(self, *requests: IngestRequest) -> list[Outcome]:
        return self.ingester.run(requests)

    def one(self, request: IngestRequest) -> IngestResult:
        (outcome,) = self.run(request)
        assert isinstance(outcome, IngestResult), outcome
        return outcome

    def put(self, product: dict[str, Any], *images: bytes, caption: str = "missing") -> Any:
        return self.one(upsert(product, *images, caption=caption))

    def get(self) -> dict[str, Any]:
        body = json.dumps({"product_id": "mug"}).encode()
        document = self.one(IngestRequest("r", "get", body)).details["product"]
        assert isinstance(document, dict)
        return document

    def stored(self) -> Document:
        """The product as stored, whose text vector is that of its words."""
        document = self.store.products.find_one({"_id": "mug"})
        assert document is not None
        embedding = self.store.embeddings.find_one(
            {"write_id": document["write_id"], "kind": "text"}
        )
        assert embedding is not None
        np.testing.assert_array_equal(
            vector_from_binary(embedding["vector"]), text_vector(embedding_text(document))
        )
        return document

    def close(self) -> None:
        self.captioner.go_on()
        self.queue.close()
        self.log.close()


@pytest.fixture
def bundle() -> Bundle:
    return CAPTIONED_BUNDLE


@pytest.fixture
def shop(store: Store, settings: Settings, bundle: Bundle) -> Iterator[Shop]:
    shop = Shop(store, settings, bundle)
    yield shop
    shop.close()


def assert_not_described(document: Document) -> None:
    assert {"description", "description_generated", "description_source"} & set(document) == set()


# --- when a description is generated ----------------------------------------------------------


def test_a_product_without_a_description_gets_one_that_is_marked(shop: Shop) -> None:
    result = shop.put(MUG, picture(1), picture(2))
    assert result.status == "created"
    assert result.details["degraded"] == []
    caption = result.details["caption"]
    assert (caption["status"], caption["used"]) == ("ok", True)
    assert (caption["text"], caption["confidence"]) == (words_of(1), 0.75)
    stored = shop.stored()
    assert stored["description"] == words_of(1)
    assert stored["description_generated"] is True
    assert stored["description_source"] == {
        "sha256": hashlib.sha256(picture(1)).hexdigest(),
        "captioner": SMALL_CAPTIONER.fingerprint,
        "confidence": 0.75,
    }
    document = shop.get()
    assert document["description_generated"] is True
    assert "description_source" not in document


def test_nothing_is_generated_unless_it_is_asked_for(shop: Shop) -> None:
    result = shop.put(MUG, picture(1), caption="never")
    assert "caption" not in result.details
    assert_not_described(shop.stored())
    assert shop.captioner.batches == []


@pytest.mark.parametrize("description", ["A real one.", ""])
def test_a_description_that_was_sent_is_never_replaced(shop: Shop, description: str) -> None:
    result = shop.put({**MUG, "description": description}, picture(1))
    assert result.details["caption"]["status"] == "not_asked"
    assert shop.stored()["description"] == description
    assert "description_generated" not in shop.stored()
    assert shop.captioner.batches == []


def test_a_product_without_pictures_cannot_be_described(shop: Shop) -> None:
    result = shop.put(MUG)
    assert result.status == "created"
    assert result.details["caption"]["status"] == "no_image"
    assert result.details["degraded"] == []
    assert_not_described(shop.stored())


def test_the_stored_picture_is_described_where_none_is_sent(shop: Shop) -> None:
    shop.put(MUG, picture(3), caption="never")
    assert shop.put(MUG).status == "updated"
    assert shop.stored()["description"] == words_of(3)


def test_all_products_of_a_batch_are_described_together(shop: Shop) -> None:
    products = [{**MUG, "product_id": f"mug-{number}"} for number in range(5)]
    requests = [
        upsert(product, picture(number), caption="never" if number == 2 else "missing")
        for number, product in enumerate(products)
    ]
    outcomes = shop.run(*requests)
    assert all(isinstance(outcome, IngestResult) for outcome in outcomes)
    found = {
        item["_id"]: item.get("description") for item in shop.store.products.find({}).sort("_id")
    }
    assert found == {f"mug-{n}": None if n == 2 else words_of(n) for n in range(5)}


def test_the_captioner_gets_pixels_of_its_own_size(store: Store, settings: Settings) -> None:
    captioner = replace(SMALL_CAPTIONER, image_size=48, resize="pad")
    shop = Shop(store, settings, replace(CAPTIONED_BUNDLE, captioner=captioner))
    wide = blocks(1).resize((120, 40))
    shop.put(MUG, encoded(wide))
    (batch,) = shop.captioner.batches
    expected = prepare_pixels(np.asarray(wide), Preprocess(48, "pad"))
    np.testing.assert_array_equal(batch[0], expected)
    shop.close()


# --- sending it again -------------------------------------------------------------------------


def test_the_same_product_again_is_unchanged_and_not_captioned_again(shop: Shop) -> None:
    shop.put(MUG, picture(1))
    before = shop.stored()
    for images in ((picture(1),), ()):
        for caption in ("missing", "never"):
            assert shop.put(MUG, *images, caption=caption).status == "unchanged"
    result = shop.put(MUG, picture(1))
    assert result.details["caption"]["text"] == words_of(1)
    assert result.details["caption"]["used"] is True
    assert shop.stored() == before
    assert len(shop.captioner.batches) == 1


def test_other_fields_can_change_without_losing_the_description(shop: Shop) -> None:
    shop.put(MUG, picture(1))
    assert shop.put({**MUG, "price": 5.0}, caption="never").status == "updated"
    stored = shop.stored()
    assert (stored["description"], stored["description_generated"]) == (words_of(1), True)
    assert len(shop.captioner.batches) == 1


def test_a_document_that_was_read_can_be_edited_and_sent_back(shop: Shop) -> None:
    shop.put(MUG, picture(1))
    assert shop.put(shop.get(), caption="never").status == "unchanged"
    assert shop.put({**shop.get(), "price": 5.0}, caption="never").status == "updated"
    assert shop.stored()["description_generated"] is True


def test_a_real_description_takes_the_mark_away(shop: Shop) -> None:
    shop.put(MUG, picture(1))
    assert shop.put({**shop.get(), "description": "By hand."}).status == "updated"
    stored = shop.stored()
    assert stored["description"] == "By hand."
    assert {"description_generated", "description_source"} & set(stored) == set()
    assert "description_generated" not in shop.get()


def test_the_same_words_sent_as_a_clients_own_take_the_mark_away(shop: Shop) -> None:
    shop.put(MUG, picture(1))
    assert shop.put({**MUG, "description": words_of(1)}).status == "updated"
    assert "description_generated" not in shop.stored()


def test_another_first_picture_gets_a_description_of_its_own(shop: Shop) -> None:
    shop.put(MUG, picture(1))
    assert shop.put(shop.get(), picture(2), picture(1)).status == "updated"
    assert shop.stored()["description"] == words_of(2)
    # Without asking the old words are dropped: they are of another picture.
    assert shop.put(shop.get(), picture(3), caption="never").status == "updated"
    assert_not_described(shop.stored())


def test_new_vectors_keep_the_description(shop: Shop) -> None:
    shop.put(MUG, picture(1))
    body = json.dumps({"product_id": "mug"}).encode()
    assert shop.one(IngestRequest("r", "reembed", body)).status == "updated"
    stored = shop.stored()
    assert (stored["description"], stored["description_generated"]) == (words_of(1), True)
    assert len(shop.captioner.batches) == 1


# --- captioners that are unsure or broken -----------------------------------------------------


@pytest.mark.parametrize(("text", "confidence"), [("a mug", 0.25), ("", 0.9)])
def test_an_unsure_or_empty_caption_is_no_description(
    shop: Shop, text: str, confidence: float
) -> None:
    shop.captioner.text, shop.captioner.confidence = text, confidence
    result = shop.put(MUG, picture(1))
    assert result.status == "created"
    caption = result.details["caption"]
    assert (caption["status"], caption["used"]) == ("low_confidence", False)
    assert result.details["degraded"] == []
    assert_not_described(shop.stored())
    assert shop.put(MUG, picture(1)).status == "unchanged"


def test_a_failed_captioner_loses_nothing_and_the_next_try_mends_it(
    shop: Shop, database: Database[Document]
) -> None:
    shop.captioner.error = CaptionerError("caption_vision failed")
    (outcome,) = shop.run(upsert(MUG, picture(1), request_id="broken"))
    assert isinstance(outcome, IngestResult)
    assert outcome.status == "created"
    assert outcome.details["degraded"] == ["caption"]
    caption = outcome.details["caption"]
    assert (caption["status"], caption["reason"]) == ("unavailable", "caption_vision failed")
    assert_not_described(shop.stored())
    shop.captioner.error = None
    assert shop.put(MUG, picture(1)).status == "updated"
    assert shop.stored()["description"] == words_of(1)
    shop.log.close()
    entry = database[INGEST_LOG].find_one({"request_id": "broken"})
    assert entry is not None
    assert entry["caption"]["status"] == "unavailable"


def test_a_captioner_that_hangs_delays_a_batch_once(store: Store, settings: Settings) -> None:
    hasty = settings.model_copy(update={"ingest_caption_timeout_ms": 50})
    shop = Shop(store, hasty, CAPTIONED_BUNDLE)
    shop.captioner.hold()
    # The queue takes all pictures of the batch, however long it takes to hand them in.
    outcomes = shop.run(upsert(MUG, picture(1)), upsert({**MUG, "product_id": "two"}, picture(2)))
    for outcome in outcomes:
        assert isinstance(outcome, IngestResult)
        assert outcome.status == "created"
        assert outcome.details["caption"]["status"] == "timeout"
        assert outcome.details["degraded"] == ["caption"]
    shop.close()


@pytest.mark.parametrize("bundle", [SMALL_BUNDLE])
def test_a_bundle_without_a_captioner_stores_the_product_and_says_so(shop: Shop) -> None:
    result = shop.put(MUG, picture(1))
    assert result.status == "created"
    assert result.details["degraded"] == ["caption"]
    assert "bundle 'small' has no captioner" in result.details["caption"]["reason"]
    assert_not_described(shop.stored())


def test_an_unreadable_picture_fails_its_own_product_alone(shop: Shop) -> None:
    broken = picture(1)[:60]
    bad, good = shop.run(upsert({**MUG, "product_id": "bad"}, broken), upsert(MUG, picture(2)))
    assert isinstance(bad, ImageError)
    assert "image[0]: " in str(bad)
    assert isinstance(good, IngestResult)
    assert shop.stored()["description"] == words_of(2)
    assert shop.store.products.count_documents({}) == 1


@pytest.mark.parametrize("operation", ["get", "delete", "reembed"])
def test_other_operations_take_no_caption(shop: Shop, operation: str) -> None:
    shop.put(MUG, picture(1))
    body = json.dumps({"product_id": "mug"}).encode()
    (outcome,) = shop.run(IngestRequest("r", operation, body, None, "missing"))
    assert isinstance(outcome, RequestError)
    assert "caption: 'missing'; expected 'never' for operation" in str(outcome)
