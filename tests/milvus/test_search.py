"""What Milvus and the database answer is what an index in memory answers that scores everything."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from milvus_catalogue import MilvusCatalogue, near, query, rewritten, some_products
from serving_support import wait_for

from bls_models.errors import IndexUnavailableError
from bls_models.index.engine import IndexedProduct
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.milvus.lists import MOST_ROWS
from bls_models.milvus.search import MilvusSearch
from bls_models.settings import Settings

pytestmark = pytest.mark.server

LITE = "lite"
# On 2.3.5 so many that lists hold a part of them. Its rows are in segments that are still open,
# where it compares each vector, so lists have the right rows; in closed ones it may miss some.
COUNTS = {"2.3.5": 2000, LITE: 250}
TOLERANCE = 2e-6


class Filled(MilvusCatalogue):
    """A catalogue with products that tests may not change."""

    def __init__(self, settings: Settings, kind: str) -> None:
        super().__init__(settings, kind != LITE)
        self.products = some_products(np.random.default_rng(1), COUNTS[kind])
        self.whole = [p for p in self.products if len(p.image_vectors) and len(p.text_vectors)]
        self.put(self.products)


@pytest.fixture(scope="module", params=list(COUNTS))
def filled(request: pytest.FixtureRequest, database_uri: str) -> Iterator[Filled]:
    uri = request.getfixturevalue("lite_uri" if request.param == LITE else "milvus_uri")
    settings = Settings(
        mongodb_uri=database_uri,
        database=f"test_{uuid.uuid4().hex}",
        mongodb_timeout_ms=20_000,
        milvus_uri=uri,
        milvus_timeout_ms=20_000,
    )
    filled = Filled(settings, request.param)
    yield filled
    filled.close()


def facts(answer: IndexAnswer) -> list[tuple[Any, ...]]:
    """What does not depend on the engine."""
    return [(match.product_id, match.view) for match in answer.matches]


def scores(answer: IndexAnswer) -> list[tuple[float, float, float]]:
    return [(item.score, item.image_score, item.text_score) for item in answer.matches]


def check(filled: MilvusCatalogue, search: MilvusSearch, queries: Sequence[IndexQuery]) -> None:
    """Compare the answers, all asked at once, with those of the exact index."""
    expected = filled.expected(queries)
    assert any(answer.matches for answer in expected)
    for asked, own, right in zip(queries, search.answers(queries), expected, strict=True):
        assert own.refusal is None
        assert facts(own) == facts(right), asked
        if right.matches:
            np.testing.assert_allclose(scores(own), scores(right), atol=TOLERANCE)


def shapes(filled: Filled) -> Iterator[list[IndexQuery]]:
    """Queries of each shape, several of each."""
    random = np.random.default_rng(2)
    for _ in range(4):
        some = [filled.whole[int(at)] for at in random.integers(len(filled.whole), size=3)]
        photo = near(random, some[0].image_vectors[:1])
        text = near(random, some[0].text_vectors[:1])
        photos = near(random, np.concatenate([item.image_vectors[:1] for item in some]))
        words = near(random, np.concatenate([item.text_vectors[:1] for item in some]))
        yield [
            query(photo),
            query(None, text),
            query(photo, text, [1.0], [0.4]),
            query(photos),
            query(photos, words, [1.0, 0.2, 0.5], [0.3, 0.1, 2.0]),
            query(photo, view_power=math.inf),
            query(photo, min_score=0.6),
            query(photo, text, top_k=40, offset=200),
            query(photo, top_k=3, offset=7),
            query(photo, text, [1.0], [0.0]),
        ]


def test_photos_and_texts_with_positive_weights(filled: Filled) -> None:
    search = filled.search()
    for queries in shapes(filled):
        check(filled, search, queries)


def test_products_that_lack_the_pictures_or_the_text_of_the_query(filled: Filled) -> None:
    random = np.random.default_rng(3)
    without_picture = [item for item in filled.products if not len(item.image_vectors)]
    without_text = [item for item in filled.products if not len(item.text_vectors)]
    assert without_picture
    assert without_text
    queries = []
    for one, other in zip(without_picture[:6], without_text[:6], strict=True):
        photo, text = near(random, other.image_vectors[:1]), near(random, one.text_vectors[:1])
        queries += [query(photo, text), query(photo, text, [0.2], [1.0])]
    check(filled, filled.search(), queries)
    ids = {match.product_id for answer in filled.expected(queries) for match in answer.matches}
    assert ids & {item.product_id for item in without_picture}
    assert ids & {item.product_id for item in without_text}


def test_weights_that_push_away(filled: Filled) -> None:
    random = np.random.default_rng(4)
    queries = []
    for _ in range(3):
        one, other = (filled.whole[int(at)] for at in random.integers(len(filled.whole), size=2))
        photos = near(random, np.concatenate([one.image_vectors[:1], other.image_vectors[:1]]))
        text = near(random, other.text_vectors[:1])
        queries += [
            query(photos, None, [1.0, -0.4]),
            query(photos[:1], text, [1.0], [-0.3]),
            query(photos[:1], None, [-1.0]),
            query(photos[:1], text, [-1.0], [-1.0], offset=5),
        ]
    check(filled, filled.search(), queries)


def test_filters_that_leave_much_or_little(filled: Filled) -> None:
    random = np.random.default_rng(5)
    photo = near(random, filled.whole[0].image_vectors[:1])
    text = near(random, filled.whole[1].text_vectors[:1])
    kind = filled.whole[0].fields["category"]
    conditions: list[dict[str, Any]] = [
        {},
        {"category": kind},
        {"category": {"$ne": kind}},
        {"attributes.rare": True},
        {"price": {"$lt": 50}},
        {"price": {"$exists": False}},
        {"attributes.number": {"$in": [3, 5, 7]}},
        {"product_id": {"$in": [item.product_id for item in filled.products[:20]]}},
        {"product_id": {"$nin": [item.product_id for item in filled.products[:200]]}},
        {"category": "none such"},
        {"$or": [{"category": kind}, {"attributes.rare": True}], "price": {"$gte": 20}},
    ]
    check(
        filled,
        filled.search(),
        [
            query(images, texts, filter=json.dumps(condition).encode(), **page)
            for condition in conditions
            for images, texts, page in (
                (photo, None, {}),
                (photo, text, {"offset": 2}),
                (photo, None, {"min_score": -0.2, "top_k": 100}),
            )
        ],
    )


def test_proof_of_every_shape(filled: Filled) -> None:
    search = filled.search(proof=True)
    for queries in shapes(filled):
        photos = queries[3].image_vectors
        check(filled, search, [*queries, query(photos, None, [1.0, -0.4, -0.4])])
        break


def test_few_vectors_are_read_for_what_is_near(filled: Filled) -> None:
    random = np.random.default_rng(6)
    (answer,) = filled.search().answers([query(near(random, filled.whole[0].image_vectors[:1]))])
    rows = sum(len(item.image_vectors) for item in filled.products)
    assert 10 <= answer.scored < rows / 2


def test_products_that_are_named_are_left_out_and_stand_for_themselves(filled: Filled) -> None:
    search = filled.search()
    ids = [filled.whole[0].product_id, "never stored", filled.products[1].product_id]
    for own, right in zip(search.mean_vectors(ids), filled.exact.mean_vectors(ids), strict=True):
        assert (own is None) == (right is None)
        if own is not None and right is not None:
            for vectors, expected in zip(own, right, strict=True):
                np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)
    asked = query(filled.whole[0].image_vectors[:1], like=((filled.whole[0].product_id, 1.0),))
    check(filled, search, [asked])
    (answer,) = search.answers([asked])
    assert filled.whole[0].product_id not in {match.product_id for match in answer.matches}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"facets": b'{"category": 10}'}, ["facets", "PRODUCT_MATCH_INDEX_ENGINE=faiss"]),
        ({"sort": "price"}, ["sort", "price", "PRODUCT_MATCH_INDEX_ENGINE=faiss"]),
        ({"sort": "colour"}, ["sort", "colour"]),
        ({"filter": b'{"colour": 1}'}, ["filter", "undeclared"]),
        ({"filter": b'{"name": "\\ud800"}'}, ["filter", "no Unicode text"]),
        ({"offset": MOST_ROWS}, ["offset", str(MOST_ROWS), "Ask for earlier"]),
    ],
)
def test_a_query_is_refused_alone(
    filled: Filled, changes: dict[str, Any], words: list[str]
) -> None:
    good = query(filled.whole[0].image_vectors[:1])
    refused, answer = filled.search().answers([replace(good, **changes), good])
    assert len(answer.matches) == 10
    assert not refused.matches
    for word in words:
        assert word in str(refused.refusal)


def test_a_query_takes_no_more_work_than_it_may(filled: Filled) -> None:
    photo = filled.whole[0].image_vectors[:1]
    good, deep = filled.search(max_search_work=200).answers(
        [query(photo, top_k=1), query(photo, offset=200)]
    )
    assert good.refusal is None
    assert "PRODUCT_MATCH_MAX_SEARCH_WORK" in str(deep.refusal)


def test_nothing_asked_finds_nothing(filled: Filled) -> None:
    photo = filled.whole[0].image_vectors[:1]
    (nothing, something) = filled.search().answers([query(photo, None, [0.0]), query(photo)])
    assert (nothing.matches, nothing.scored, nothing.refusal) == ([], 0, None)
    assert something.matches
    assert filled.search().answers([]) == []


def test_what_may_take_long(filled: Filled) -> None:
    search, photo = filled.search(), filled.whole[0].image_vectors[:1]
    assert not search.may_take_long([query(photo)])
    assert search.may_take_long([query(photo), query(photo, filter=b"{}")])
    assert search.may_take_long([query(photo, offset=1000)])


@pytest.mark.slow
def test_closed_segments_which_lists_of_codes_search(settings: Settings, milvus_uri: str) -> None:
    own = settings.model_copy(update={"milvus_uri": milvus_uri, "milvus_timeout_ms": 20_000})
    catalogue = Filled(own, "2.3.5")
    try:
        client = catalogue.connection.client
        for name in catalogue.collections.dims:
            client.flush(name, timeout=60)
            wait_for(lambda name=name: indexed(client, name), "Milvus has made its lists", 120)
            # Else it goes on with lists of its own choice for a while, and misses more.
            client.release_collection(name)
            client.load_collection(name)
        for queries in shapes(catalogue):
            check(catalogue, catalogue.search(proof=True), queries)
        photo = catalogue.whole[0].image_vectors[:1]
        few = query(photo, filter=b'{"attributes.rare": true}')
        check(catalogue, catalogue.search(), [few])
        found = wanted = 0
        for queries in shapes(catalogue):
            expected = catalogue.expected(queries)
            for answer, right in zip(catalogue.search().answers(queries), expected, strict=True):
                ids = {match.product_id for match in right.matches}
                wanted += len(ids)
                found += len(ids & {match.product_id for match in answer.matches})
        assert found > 0.97 * wanted
    finally:
        catalogue.close()


def indexed(client: Any, collection: str) -> bool:
    """Whether all rows are in the lists of codes."""
    (name,) = client.list_indexes(collection)
    about = client.describe_index(collection, name)
    return bool(about["state"] == "Finished" and about["indexed_rows"] == about["total_rows"] > 0)


class TestChanges:
    """Products that are changed meanwhile, in a small catalogue of the test's own."""

    @pytest.fixture
    def changing(
        self, settings: Settings, lite_uri: str
    ) -> Iterator[tuple[MilvusCatalogue, list[IndexedProduct]]]:
        own = settings.model_copy(update={"milvus_uri": lite_uri, "milvus_timeout_ms": 20_000})
        catalogue = MilvusCatalogue(own, lists_in_filters=False)
        products = [
            item for item in some_products(np.random.default_rng(7), 60) if len(item.image_vectors)
        ]
        catalogue.put(products)
        yield catalogue, products
        catalogue.close()

    def test_of_two_writes_the_newest_that_is_stored_counts(
        self, changing: tuple[MilvusCatalogue, list[IndexedProduct]]
    ) -> None:
        catalogue, products = changing
        old, other = products[0], products[1]
        new = rewritten(old, image_vectors=other.image_vectors)
        queries = [query(old.image_vectors[:1]), query(other.image_vectors[:1])]
        # The rows of the new write are there, its vectors are not stored any more, or not yet.
        catalogue.insert([new])
        check(catalogue, catalogue.search(), queries)
        (before, _) = catalogue.search().answers(queries)
        catalogue.store_vectors([new])
        catalogue.exact.upsert([new])
        check(catalogue, catalogue.search(), queries)
        (_, after) = catalogue.search().answers(queries)
        versions = [
            next(m.product_version for m in answer.matches if m.product_id == old.product_id)
            for answer in (before, after)
        ]
        assert versions[0] < versions[1]
        catalogue.store.delete_embeddings([old.write_id])
        check(catalogue, catalogue.search(), queries)

    def test_rows_of_writes_that_are_gone_are_none(
        self, changing: tuple[MilvusCatalogue, list[IndexedProduct]]
    ) -> None:
        catalogue, products = changing
        gone = products[:5]
        catalogue.store.delete_embeddings([item.write_id for item in gone])
        catalogue.exact.remove(*(item.product_id for item in gone))
        check(
            catalogue, catalogue.search(), [query(item.image_vectors[:1]) for item in products[:8]]
        )

    def test_a_product_that_was_written_again_is_found_before_milvus_knows_it(
        self, changing: tuple[MilvusCatalogue, list[IndexedProduct]]
    ) -> None:
        catalogue, products = changing
        old, other, gone = products[0], products[1], products[2]
        asked = [query(item.image_vectors[:1]) for item in (old, other, gone)]
        (before, _, _) = catalogue.search().answers(asked)
        new = [rewritten(old, image_vectors=item.image_vectors) for item in (old, other)]
        versions = [before.matches[0].product_version]
        for item in new:
            catalogue.store_write(item)
            catalogue.exact.upsert([item])
            check(catalogue, catalogue.search(), asked)
            (_, answer, _) = catalogue.search().answers(asked)
            versions += [
                match.product_version
                for match in answer.matches
                if match.product_id == old.product_id
            ]
        # Whoever keeps documents by version must not show an earlier one.
        assert len(set(versions)) == len(versions) >= 2
        # One that was deleted has rows in Milvus for a moment too.
        catalogue.store.products.delete_one({"_id": gone.product_id})
        catalogue.store.delete_embeddings([gone.write_id])
        catalogue.exact.remove(gone.product_id)
        check(catalogue, catalogue.search(), asked)

    def test_pages_are_full_where_most_of_what_is_near_is_gone(
        self, changing: tuple[MilvusCatalogue, list[IndexedProduct]]
    ) -> None:
        catalogue, products = changing
        photo = products[0].image_vectors[:1]
        # More than the first list holds.
        gone = [rewritten(products[0], product_id=f"gone{number:03d}") for number in range(200)]
        catalogue.insert(gone)
        check(catalogue, catalogue.search(), [query(photo), query(photo, offset=20)])

    def test_equal_scores_stand_in_the_order_of_ids_on_every_page(
        self, changing: tuple[MilvusCatalogue, list[IndexedProduct]]
    ) -> None:
        catalogue, products = changing
        # More than the first list holds.
        same = [
            rewritten(products[0], product_id=f"same{number * 7919 % 200:03d}")
            for number in range(200)
        ]
        catalogue.put(same)
        photo = products[0].image_vectors[:1]
        check(
            catalogue,
            catalogue.search(),
            [
                *(query(photo, offset=offset, top_k=5) for offset in (0, 5)),
                *(query(photo, offset=offset, top_k=30) for offset in range(0, 240, 30)),
            ],
        )

    def test_milvus_away_is_an_index_that_is_not_there(
        self, changing: tuple[MilvusCatalogue, list[IndexedProduct]]
    ) -> None:
        catalogue, products = changing
        asked = [query(products[0].image_vectors[:1])]
        catalogue.connection.client.release_collection(catalogue.collections.images)
        with pytest.raises(IndexUnavailableError, match="searching pm_"):
            catalogue.search().answers(asked)
        catalogue.connection.client.load_collection(catalogue.collections.images)
        check(catalogue, catalogue.search(), asked)
