"""Ingest on a real database: what is stored after creating, changing and deleting products."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from bson.binary import BinaryVectorDtype
from caption_support import PixelCaptioner
from ingest_support import (
    RED,
    Ingest,
    assert_consistent,
    journal_of,
    nothing_found,
    request,
    sha256,
    stored_images,
    upsert,
    with_indexes,
)
from PIL import Image
from pymongo.database import Database
from serving_support import (
    SMALL_BUNDLE,
    ContentEncoders,
    blocks,
    encoded,
    image_vector,
    picture,
    wait_for,
)

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.database.pictures import Pictures
from bls_models.database.store import INGEST_LOG, MATCH_LOG, Document, Store
from bls_models.errors import (
    BundleError,
    ConflictError,
    EncoderError,
    ImageError,
    ProductError,
    RequestError,
)
from bls_models.images.preprocessing import Preprocess, prepare_pixels
from bls_models.ingest.ingester import IngestRequest, IngestResult, Outcome, ProductIngester
from bls_models.ingest.upsert_item import Upsert
from bls_models.ingest.upserter import Upserter
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.telemetry.request_log import LogWriter
from bls_models.vectors import FloatArray, binary_from_vector, vector_from_binary


@pytest.fixture
def log(database: Database[Document], settings: Settings) -> Iterator[LogWriter]:
    log = LogWriter(database[INGEST_LOG], settings)
    yield log
    log.close()


@pytest.fixture
def ingest(store: Store, log: LogWriter, settings: Settings) -> Ingest:
    return Ingest(store, log, settings)


def test_a_new_product_is_created_with_its_document_vectors_and_pictures(
    ingest: Ingest, store: Store
) -> None:
    data = picture(1)
    result = ingest.upsert(RED, data)
    assert (result.product_id, result.status, result.revision) == ("mug", "created", 1)
    product = assert_consistent(store, "mug")
    assert {key: product[key] for key in RED if key != "product_id"} == {
        key: value for key, value in RED.items() if key != "product_id"
    }
    assert product["images"] == [{"sha256": sha256(data), "width": 96, "height": 96}]
    assert product["created"] == product["updated"]


def test_a_picture_that_takes_too_much_memory_to_decode_fails_its_product_alone(
    store: Store, log: LogWriter
) -> None:
    small = Ingest(store, log, Settings(decode_bytes=100_000))
    assert small.upsert(RED, picture(1)).status == "created"
    with pytest.raises(ImageError, match="200 x 200 pixels"):
        small.upsert({**RED, "product_id": "large"}, encoded(Image.new("RGB", (200, 200))))
    assert_consistent(store, "mug")


def test_vectors_are_stored_as_bson_float32_vectors_of_the_pictures(
    ingest: Ingest, store: Store
) -> None:
    ingest.upsert(RED, picture(1))
    view = store.embeddings.find_one({"kind": "image"})
    assert view is not None
    assert view["vector"].as_vector().dtype is BinaryVectorDtype.FLOAT32
    expected = image_vector(prepare_pixels(np.asarray(blocks(1)), Preprocess(32, "stretch")))
    np.testing.assert_array_equal(vector_from_binary(view["vector"]), expected)


def test_the_same_product_again_is_unchanged_and_encodes_nothing(
    ingest: Ingest, store: Store
) -> None:
    ingest.upsert(RED, picture(1))
    before = store.products.find_one({"_id": "mug"})
    encoded_before = (ingest.encoders.encoded_images, ingest.encoders.encoded_texts)
    for again in (ingest.upsert(RED, picture(1)), ingest.upsert(RED)):
        assert (again.status, again.revision) == ("unchanged", 1)
    assert store.products.find_one({"_id": "mug"}) == before
    assert (ingest.encoders.encoded_images, ingest.encoders.encoded_texts) == encoded_before


def test_a_changed_product_keeps_its_pictures_where_none_are_sent(
    ingest: Ingest, store: Store
) -> None:
    ingest.upsert(RED, picture(1), picture(2))
    before = assert_consistent(store, "mug")
    result = ingest.upsert({**RED, "price": 9.0})
    assert (result.status, result.revision) == ("updated", 2)
    after = assert_consistent(store, "mug")
    assert after["price"] == 9.0
    assert after["images"] == before["images"]
    assert after["created"] == before["created"]
    assert after["updated"] > before["updated"]
    assert ingest.encoders.encoded_images == 2, "kept pictures are not encoded again"


def test_a_field_that_is_left_out_is_removed(ingest: Ingest, store: Store) -> None:
    ingest.upsert(RED, picture(1))
    ingest.upsert({"product_id": "mug", "name": "Mug", "category": "mug"})
    product = assert_consistent(store, "mug")
    assert "price" not in product
    assert product["attributes"] == {}


def test_new_pictures_replace_the_old_ones_and_kept_ones_are_not_encoded_again(
    ingest: Ingest, store: Store
) -> None:
    ingest.upsert(RED, picture(1), picture(2))
    assert ingest.upsert(RED, picture(2), picture(3)).status == "updated"
    product = assert_consistent(store, "mug")
    assert [item["sha256"] for item in product["images"]] == [
        sha256(picture(2)),
        sha256(picture(3)),
    ]
    assert stored_images(store) == {sha256(picture(2)), sha256(picture(3))}
    assert ingest.encoders.encoded_images == 3


def test_a_picture_sent_twice_is_one_view(ingest: Ingest, store: Store) -> None:
    ingest.upsert(RED, picture(1), picture(1))
    assert len(assert_consistent(store, "mug")["images"]) == 1


def test_a_product_needs_no_picture(ingest: Ingest, store: Store) -> None:
    assert ingest.upsert(RED).status == "created"
    assert assert_consistent(store, "mug")["images"] == []


def test_a_picture_as_base64_is_stored_as_its_file(ingest: Ingest, store: Store) -> None:
    ingest.upsert(RED, base64.b64encode(picture(1)))
    assert stored_images(store) == {sha256(picture(1))}
    assert ingest.upsert(RED, picture(1)).status == "unchanged"


def test_a_picture_of_two_products_is_stored_once_and_goes_with_the_last_of_them(
    ingest: Ingest, store: Store
) -> None:
    shared, own = picture(1), picture(2)
    ingest.upsert(RED, shared)
    ingest.upsert({**RED, "product_id": "cup"}, shared, own)
    assert stored_images(store) == {sha256(shared), sha256(own)}
    ingest.one(request("delete", "cup"))
    assert stored_images(store) == {sha256(shared)}
    assert_consistent(store, "mug")
    ingest.upsert(RED, own)
    assert stored_images(store) == {sha256(own)}
    assert store.database["images.chunks"].count_documents({}) == 1


def test_deleting_removes_the_product_with_its_vectors_and_pictures(
    ingest: Ingest, store: Store
) -> None:
    ingest.upsert(RED, picture(1))
    result = ingest.one(request("delete"))
    assert (result.status, result.revision) == ("deleted", 0)
    for collection in ("products", "embeddings", "images.files", "images.chunks"):
        assert store.database[collection].count_documents({}) == 0, collection
    assert ingest.one(request("delete")).status == "not_found"


def test_getting_a_product_returns_what_can_be_sent_back_unchanged(ingest: Ingest) -> None:
    ingest.upsert(RED, picture(1))
    found = ingest.one(request("get"))
    assert (found.status, found.revision) == ("found", 1)
    assert not {"write_id", "content_hash", "fingerprint", "_id"} & set(found.details["product"])
    assert ingest.upsert(found.details["product"]).status == "unchanged"
    missing = ingest.one(request("get", "none"))
    assert (missing.status, missing.revision, missing.details) == ("not_found", 0, {})


def test_a_document_put_in_by_hand_can_be_got_replaced_and_deleted(
    ingest: Ingest, store: Store
) -> None:
    store.products.insert_many([{"_id": "mug", "name": "By hand"}, {"_id": "cup"}])
    found = ingest.one(request("get"))
    assert (found.status, found.revision) == ("found", 0)
    assert found.details["product"]["name"] == "By hand"
    product = {"product_id": "mug", "name": "Mug", "category": "mug"}
    assert ingest.upsert(product, picture(1)).status == "updated"
    assert assert_consistent(store, "mug")["revision"] == 1
    assert ingest.one(request("delete", "cup")).status == "deleted"


def test_one_bad_product_of_a_batch_fails_alone(ingest: Ingest, store: Store) -> None:
    def product(product_id: str) -> dict[str, Any]:
        return {**RED, "product_id": product_id}

    outcomes = ingest.run(
        upsert(product("a"), picture(1)),
        upsert({**product("b"), "price": "dear"}, picture(1)),
        upsert(product("c"), b"no picture"),
        upsert(product("d"), picture(1), encoded(blocks(2))[:200]),
        upsert({**product("e"), "attributes": {"size": 10**400}}),
        IngestRequest("r", "upsert", b"{"),
        IngestRequest("r", "drop", b'{"product_id": "a"}'),
        IngestRequest("r", "delete", b'{"product_id": "a"}', images=(b"x",)),
        IngestRequest("r", "delete", b"{}"),
        IngestRequest("r", "reembed", b'{"product_id": "none"}'),
        upsert(product("f"), *[picture(1)] * 33),
        IngestRequest("r", error=RequestError("image", "bad", "good")),
        upsert(product("z"), picture(3)),
    )
    assert [str(item) if isinstance(item, Exception) else item.status for item in outcomes] == [
        "created",
        "product.price: 'dear'; expected a number from 0 to 1e12.",
        str(outcomes[2]),
        str(outcomes[3]),
        str(outcomes[4]),
        str(outcomes[5]),
        "operation: 'drop'; expected upsert | delete | get | reembed.",
        "image: given; expected none for operation 'delete'.",
        str(outcomes[8]),
        "product.product_id: 'none' is not stored; expected a stored product's id.",
        "image: 33 images; expected at most 32 a product.",
        "image: bad; expected good.",
        "created",
    ]
    for position, kind, words in (
        (2, ImageError, "image[0]"),
        (3, ImageError, "image[1]"),
        (4, ProductError, "product.attributes.size"),
        (5, ProductError, "product: not valid JSON"),
        (8, ProductError, "product.product_id: missing"),
    ):
        assert isinstance(outcomes[position], kind)
        assert words in str(outcomes[position])
    assert {item["_id"] for item in store.products.find({})} == {"a", "z"}
    assert stored_images(store) == {sha256(picture(1)), sha256(picture(3))}


def test_half_a_surrogate_pair_fails_its_request_alone(ingest: Ingest) -> None:
    bad = {**RED, "product_id": "x", "name": "\ud800"}
    outcomes = ingest.run(upsert(RED, picture(1)), upsert(bad), request("get"))
    assert isinstance(outcomes[1], ProductError)
    assert [item.status for item in outcomes if isinstance(item, IngestResult)] == [
        "created",
        "found",
    ]


def test_an_unreadable_picture_is_named_by_its_place_also_after_a_duplicate(
    ingest: Ingest,
) -> None:
    (outcome,) = ingest.run(upsert(RED, picture(1), picture(1), encoded(blocks(2))[:200]))
    assert isinstance(outcome, ImageError)
    assert str(outcome).startswith("image[2]")


def test_chunks_of_an_upload_that_was_cut_off_do_not_cost_the_picture(
    ingest: Ingest, store: Store
) -> None:
    data = picture(1)
    ingest.upsert({**RED, "product_id": "first"}, picture(2))
    chunks = store.database["images.chunks"]
    chunks.insert_one({"files_id": sha256(data), "n": 0, "data": data[:10]})
    ingest.upsert(RED, data)
    assert Pictures(store.database).read(sha256(data)) == data


def test_another_time_for_the_logs_replaces_the_one_before(store: Store) -> None:
    Store(store.database, log_days=7).ensure_indexes()
    for name in (MATCH_LOG, INGEST_LOG):
        index = store.database[name].index_information()["time_1"]
        assert index["expireAfterSeconds"] == 7 * 86_400


def test_requests_of_a_batch_for_one_product_are_carried_out_in_their_order(
    ingest: Ingest, store: Store
) -> None:
    outcomes = ingest.run(
        upsert(RED, picture(1)),
        request("get"),
        upsert({**RED, "price": 1.0}),
        upsert({**RED, "price": 2.0}),
        request("delete"),
        request("get"),
        upsert({**RED, "price": 3.0}, picture(2)),
        upsert({**RED, "product_id": "cup"}),
        upsert({**RED, "price": 3.0}),
    )
    statuses = [item.status for item in outcomes if isinstance(item, IngestResult)]
    assert statuses == [
        "created",
        "found",
        "updated",
        "updated",
        "deleted",
        "not_found",
        "created",
        "created",
        "unchanged",
    ]
    product = assert_consistent(store, "mug")
    assert (product["price"], product["revision"]) == (3.0, 1)
    assert [item["sha256"] for item in product["images"]] == [sha256(picture(2))]


class LyingStore(Store):
    """A store where somebody else writes right after a product was read."""

    def __init__(self, database: Database[Document], other: Ingest, times: int) -> None:
        super().__init__(database, log_days=30)
        self._other = other
        self.times = times

    def insert_embeddings(self, documents: list[Document]) -> None:
        super().insert_embeddings(documents)
        if self.times:
            self.times -= 1
            name = f"From another {self.times}"
            self._other.upsert({**RED, "name": name}, picture(100 + self.times))


def upserter_of(store: Store, settings: Settings, bundle: Bundle = SMALL_BUNDLE) -> Upserter:
    captions = CaptionQueue(PixelCaptioner(), 32, 1.0)
    no_log: Any = None
    services = Services(bundle, settings, ContentEncoders(), captions, nothing_found, no_log)
    return Upserter(services, journal_of(store, settings))


def test_a_product_changed_in_between_is_read_again_and_then_written(
    ingest: Ingest, store: Store, settings: Settings
) -> None:
    ingest.upsert(RED, picture(1))
    store_of_two = LyingStore(store.database, ingest, times=3)
    upserter = upserter_of(store_of_two, settings)
    (done,) = upserter.write([Upsert({**RED, "price": 5.0}, images=None)])
    assert (done.status, done.revision, done.error) == ("updated", 5, None)
    product = assert_consistent(store, "mug")
    assert product["price"] == 5.0
    assert [item["sha256"] for item in product["images"]] == [sha256(picture(100))], (
        "the pictures that were kept are those of the last other writer"
    )
    assert stored_images(store) == {sha256(picture(100))}


def test_a_product_that_others_never_stop_changing_is_refused(
    ingest: Ingest, store: Store, settings: Settings
) -> None:
    ingest.upsert(RED, picture(1))
    upserter = upserter_of(LyingStore(store.database, ingest, times=100), settings)
    (done,) = upserter.write([Upsert({**RED, "price": 5.0}, images=None)])
    assert isinstance(done.error, ConflictError)
    assert "'mug' is being changed by others" in str(done.error)
    assert assert_consistent(store, "mug")["name"].startswith("From another")


def test_writers_at_the_same_time_leave_one_consistent_product(
    store: Store, log: LogWriter, settings: Settings
) -> None:
    results: list[Outcome] = []
    writers, rounds = 4, 5
    start = threading.Barrier(writers)

    def write(writer: int) -> None:
        ingest = Ingest(store, log, settings)
        start.wait()
        for number in range(rounds):
            seed = 1 + writer * rounds + number
            product = {**RED, "name": f"Mug {seed}", "price": float(seed)}
            results.extend(ingest.run(upsert(product, picture(seed))))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [item for item in results if isinstance(item, IngestResult)]
    refused = [item for item in results if isinstance(item, Exception)]
    assert len(written) + len(refused) == writers * rounds
    assert all("being changed by others" in str(item) for item in refused)
    assert sorted(item.revision for item in written) == list(range(1, len(written) + 1))
    product = assert_consistent(store, "mug")
    assert product["revision"] == len(written)
    seed = int(product["price"])
    assert product["name"] == f"Mug {seed}"
    assert [item["sha256"] for item in product["images"]] == [sha256(picture(seed))]


class DeletedMeanwhile(Store):
    """A store where another writer creates a product anew right after it was deleted."""

    def __init__(self, database: Database[Document], other: Ingest) -> None:
        super().__init__(database, log_days=30)
        self._other = other

    def delete_product(self, stored: Document) -> bool:
        deleted = super().delete_product(stored)
        self._other.upsert({**RED, "name": "Born again"}, picture(7))
        return deleted


def test_a_product_created_anew_while_it_is_being_deleted_keeps_its_vectors(
    ingest: Ingest, store: Store, log: LogWriter, settings: Settings
) -> None:
    ingest.upsert(RED, picture(1))
    ingest.upsert({**RED, "price": 1.0})
    other = Ingest(DeletedMeanwhile(store.database, ingest), log, settings)
    assert other.one(request("delete")).status == "deleted"
    assert assert_consistent(store, "mug")["name"] == "Born again"


class FailingEncoders(ContentEncoders):
    """Encoders whose engine is away."""

    def encode(
        self, pixels: Sequence[npt.NDArray[np.uint8]], texts: Sequence[str]
    ) -> tuple[FloatArray, FloatArray]:
        raise EncoderError("image_encoder failed")


def test_where_an_engine_fails_nothing_is_stored_and_all_are_told(
    store: Store, log: LogWriter, settings: Settings
) -> None:
    captions = CaptionQueue(PixelCaptioner(), 32, 1.0)
    ingester = ProductIngester(
        Services(SMALL_BUNDLE, settings, FailingEncoders(), captions, nothing_found, log),
        journal_of(store, settings),
        with_indexes(store),
    )
    outcomes = ingester.run(
        [upsert(RED, picture(1)), upsert({**RED, "product_id": "cup"}), request("get")]
    )
    assert isinstance(outcomes[0], EncoderError)
    assert isinstance(outcomes[1], EncoderError)
    assert isinstance(outcomes[2], IngestResult)
    for collection in ("products", "embeddings", "images.files"):
        assert store.database[collection].count_documents({}) == 0, collection


def test_reembedding_computes_every_vector_anew_and_keeps_the_rest(
    ingest: Ingest, store: Store, log: LogWriter, settings: Settings
) -> None:
    ingest.upsert(RED, picture(1), picture(2))
    before = assert_consistent(store, "mug")
    other = Ingest(store, log, settings, replace(SMALL_BUNDLE, fingerprint="f" * 16))
    result = other.one(request("reembed"))
    assert (result.status, result.revision) == ("updated", 2)
    after = assert_consistent(store, "mug")
    assert after["fingerprint"] == "f" * 16
    assert after["images"] == before["images"]
    assert other.encoders.encoded_images == 2
    assert other.upsert(RED).status == "unchanged"
    assert ingest.upsert(RED).status == "updated", "for the old bundle it is a change back"


@pytest.mark.parametrize(
    "damage",
    [
        {"$unset": {"vector": ""}},
        {"$unset": {"kind": "", "sha256": "", "fingerprint": ""}},
        {"$set": {"vector": binary_from_vector(np.ones(3, np.float32))}},
        {"$set": {"vector": 7, "sha256": ["x"]}},
    ],
)
def test_a_damaged_vector_is_computed_anew_with_the_next_write(
    ingest: Ingest, store: Store, damage: Document
) -> None:
    ingest.upsert(RED, picture(1))
    store.embeddings.update_one({"kind": "image"}, damage)
    assert ingest.upsert({**RED, "price": 1.0}, picture(1)).status == "updated"
    assert_consistent(store, "mug")
    (view,) = store.embeddings.find({"kind": "image"})
    assert len(vector_from_binary(view["vector"])) == SMALL_BUNDLE.image_dim
    assert ingest.encoders.encoded_images == 2


def test_every_operation_is_in_the_ingest_log(ingest: Ingest, store: Store) -> None:
    ingest.run(
        replace(upsert(RED, picture(1)), request_id="first"),
        replace(request("get"), request_id="second"),
        replace(upsert({**RED, "name": ""}), request_id="third"),
    )
    entries = store.database[INGEST_LOG]
    wait_for(lambda: entries.count_documents({}) == 3, "three entries are written")
    first, second, third = (
        entries.find_one({"request_id": name}) or {} for name in ("first", "second", "third")
    )
    assert (first["status"], first["result"], first["images"]) == ("ok", "created", 1)
    assert (first["operation"], first["product_id"], first["revision"]) == ("upsert", "mug", 1)
    assert (second["status"], second["result"], second["images"]) == ("ok", "found", None)
    assert third["status"] == "error"
    assert third["error"]["type"] == "ProductError"
    assert "product.name" in third["error"]["message"]


def test_the_indexes_that_queries_need_are_there(store: Store, settings: Settings) -> None:
    store.ensure_indexes()
    names = {
        collection: {tuple(item["key"]) for item in store.database[collection].list_indexes()}
        for collection in ("products", "embeddings", "match_log")
    }
    assert names["products"] == {("_id",), ("created",), ("images.sha256",)}
    assert {("write_id",), ("product_id",)} <= names["embeddings"]
    assert ("status", "time") in names["match_log"]
    (lifetime,) = (
        item["expireAfterSeconds"]
        for item in store.database["match_log"].list_indexes()
        if "expireAfterSeconds" in item
    )
    assert lifetime == 30 * 86_400


def test_an_unknown_way_to_resize_is_refused(store: Store, settings: Settings) -> None:
    bundle = replace(SMALL_BUNDLE, resize="fold")
    with pytest.raises(BundleError, match="fold"):
        upserter_of(store, settings, bundle)
