"""Candidate lists are made and kept in the background, and searches never notice but by speed."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from serving_support import unit, wait_for

from bls_models.errors import SetupError
from bls_models.index import product_index, scored_query, upkeep
from bls_models.index.engine import IndexedProduct
from bls_models.index.lists.candidates import CandidateIndex
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.index.storage.readers import Readers
from bls_models.index.storage.rows import VectorRows
from bls_models.vectors import FloatArray

IMAGE_DIM, TEXT_DIM = 24, 16
OPTIONS = IndexOptions(flat_rows=2000, exact_rows=150, probed_share=0.3)
LISTS_SECONDS = 60.0


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small steps that moving, removing and making lists happen often."""
    monkeypatch.setattr(upkeep, "MAX_DELTA", 40)
    monkeypatch.setattr(upkeep, "STEP_ROWS", 64)
    monkeypatch.setattr(upkeep, "READER_STEPS", 3)
    monkeypatch.setattr(upkeep, "MIN_STALE", 50)
    # So few candidates that lists are used for several vectors, too.
    monkeypatch.setattr(scored_query, "MIN_JOINT_CANDIDATES", 200)
    monkeypatch.setattr(scored_query, "MIN_PUSHED_CANDIDATES", 200)


def product(random: np.random.Generator, number: int, write_id: str = "w") -> IndexedProduct:
    """One of forty kinds, with two or three views of its kind and a text."""
    kind = np.random.default_rng(number % 40)
    centre = kind.normal(size=(1, IMAGE_DIM)), kind.normal(size=(1, TEXT_DIM))
    views = int(random.integers(2, 4))
    return IndexedProduct(
        f"p{number}",
        write_id,
        {"category": f"c{number % 40}", "price": number},
        unit(centre[0] + 0.5 * random.normal(size=(views, IMAGE_DIM))),
        unit(centre[1] + 0.5 * random.normal(size=(1, TEXT_DIM))),
    )


def filled(count: int, options: IndexOptions = OPTIONS) -> tuple[np.random.Generator, ProductIndex]:
    random = np.random.default_rng(5)
    index = ProductIndex(IMAGE_DIM, TEXT_DIM, 1000, options)
    for start in range(0, count, 100):
        index.upsert([product(random, number) for number in range(start, min(start + 100, count))])
    return random, index


def queries(
    random: np.random.Generator, images: int, texts: int, filter_json: bytes = b"", **options: Any
) -> list[IndexQuery]:
    """Queries near thirty products."""
    found = []
    for _ in range(30):
        near = product(random, int(random.integers(0, 1000)))
        found.append(
            IndexQuery(
                near.image_vectors[:images],
                np.ones(images, np.float32),
                near.text_vectors[:texts],
                np.ones(texts, np.float32),
                filter=filter_json,
                **{"top_k": 10, **options},
            )
        )
    return found


def recall(index: ProductIndex, asked: list[IndexQuery]) -> float:
    """Share of the exact best that is found; every score must be the exact one."""
    found = wanted = 0
    for got, best in zip(index.search(asked), index.search(asked, exact=True), strict=True):
        scores = {item.product_id: item for item in best}
        wanted += len(best)
        for item in got:
            if item.product_id in scores:
                found += 1
                assert numbers(item) == pytest.approx(
                    numbers(scores[item.product_id]), abs=2e-6, nan_ok=True
                )
    return found / wanted


def numbers(match: IndexMatch) -> tuple[float, float, float]:
    return match.score, match.image_score, match.text_score


def test_the_type_follows_the_number_of_vectors_of_each_kind() -> None:
    random, index = filled(600)
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"] == "Flat"
    index.upsert([product(random, number) for number in range(600, 1200)])
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"] == {"image": "IVF128,SQ8", "text": "Flat"}
    index.upsert([product(random, number) for number in range(1200, 2100)])
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"] == "IVF128,SQ8"
    for number in range(300, 2100):
        index.remove(f"p{number}")
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"] == "Flat"
    index.close()


@pytest.mark.parametrize(
    ("images", "texts"), [(1, 0), (0, 1), (1, 1), (2, 1)], ids=["image", "text", "both", "more"]
)
@pytest.mark.parametrize(
    "filter_json",
    [b"", b'{"category": "c7"}', b'{"category": {"$ne": "c7"}}', b'{"price": {"$lt": 1200}}'],
    ids=["all", "few", "nearly all", "half"],
)
def test_what_lists_propose_is_what_exact_search_finds(
    images: int, texts: int, filter_json: bytes
) -> None:
    random, index = filled(2500)
    assert index.wait_for_lists(LISTS_SECONDS)
    assert recall(index, queries(random, images, texts, filter_json)) >= 0.98
    index.close()


def test_deep_pages_are_answered_exactly_and_pushing_weights_nearly_so() -> None:
    random, index = filled(2500)
    assert index.wait_for_lists(LISTS_SECONDS)
    deep = queries(random, 1, 0, offset=1500)
    assert recall(index, deep) == 1
    for images, texts, weights in ((2, 0, [1, -1]), (1, 0, [-1]), (2, 1, [-0.5, 1])):
        pushing = [
            replace(asked, image_weights=np.array(weights, np.float32))
            for asked in queries(random, images, texts)
        ]
        assert recall(index, pushing) >= 0.97
        # From lists: a small part of the vectors is looked at.
        (answer, *_) = index.answers(pushing)
        assert 0 < answer.scored < images * 6000 + texts * 2500
    index.close()


def test_a_query_that_takes_too_much_is_refused_alone() -> None:
    random, index = filled(2500, replace(OPTIONS, max_search_work=5000))
    assert index.wait_for_lists(LISTS_SECONDS)
    deep = queries(random, 1, 0, offset=1500)[0]
    fine = queries(random, 2, 1)[0]
    refused, answered = index.answers([deep, fine])
    assert refused.refusal is not None
    assert refused.refusal.tensor == "offset"
    assert "at most 5000 (PRODUCT_MATCH_MAX_SEARCH_WORK)" in str(refused.refusal)
    assert answered.refusal is None
    assert len(answered.matches) == 10
    # What it would take under a filter counts, not the size of the catalogue.
    narrow = replace(deep, filter=b'{"category": "c7"}', offset=20)
    (few,) = index.answers([narrow])
    assert few.refusal is None
    assert 0 < few.scored < 200
    # Whoever asks for the truth gets it.
    assert index.search([deep], exact=True)[0]
    index.close()


def test_where_all_is_scored_many_vectors_are_refused() -> None:
    random, index = filled(1000, replace(OPTIONS, max_search_work=12_000))
    few, many = queries(random, 2, 1)[0], queries(random, 2, 0)[0]
    many = replace(
        many,
        image_vectors=np.tile(many.image_vectors, (4, 1)),
        image_weights=np.ones(8, np.float32),
    )
    answered, refused = index.answers([few, many])
    assert answered.scored == 2 * index.info()["image_vectors"] + index.info()["text_vectors"]
    assert refused.refusal is not None
    assert refused.refusal.tensor == "image, text"
    assert "Send fewer images and texts" in str(refused.refusal)
    index.close()


def test_equal_vectors_that_no_list_can_tell_apart_are_found_within_the_budget() -> None:
    random, index = filled(2100, replace(OPTIONS, max_search_work=1000))
    shared = product(random, 0)
    index.upsert(
        [replace(shared, product_id=f"same{number:05d}", fields={}) for number in range(9000)]
    )
    assert index.wait_for_lists(LISTS_SECONDS)
    (answer,) = index.answers([exactly(shared.image_vectors[:1], top_k=100)])
    assert answer.refusal is None
    assert len(answer.matches) == 100
    assert all(match.product_id.startswith("same") for match in answer.matches)
    index.close()


def test_what_is_a_little_like_all_vectors_is_found_though_no_list_holds_it() -> None:
    random = np.random.default_rng(5)
    options = replace(OPTIONS, flat_rows=5000, max_search_work=1000)
    index = ProductIndex(IMAGE_DIM, TEXT_DIM, 1000, options)
    asked = np.eye(6, IMAGE_DIM, dtype=np.float32)
    # Of each vector's list, far more than it holds are nearer to it alone.
    near = unit(np.tile(asked, (1000, 1)) + 0.1 * random.normal(size=(6000, IMAGE_DIM)))
    views = np.concatenate([near, unit(asked.sum(axis=0, keepdims=True))])
    index.upsert(
        [
            IndexedProduct(f"p{number}", "w", {}, view, np.zeros((0, TEXT_DIM), np.float32))
            for number, view in enumerate(views[:, np.newaxis])
        ]
    )
    assert index.wait_for_lists(LISTS_SECONDS)
    (answer,) = index.answers([exactly(asked, top_k=1)])
    assert [match.product_id for match in answer.matches] == ["p6000"]
    index.close()


def test_searches_that_may_take_long_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    random, index = filled(1500)
    plain, filtered = queries(random, 1, 0)[0], queries(random, 1, 0, b'{"price": 1}')[0]
    deep = replace(plain, offset=1000)
    assert [index.may_take_long([item]) for item in (plain, filtered, deep)] == [False, True, False]
    monkeypatch.setattr(product_index, "LONG_ROWS", 3000)
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"] != "Flat"
    assert [index.may_take_long([item]) for item in (plain, deep)] == [False, True]
    assert index.may_take_long([plain, deep])
    index.close()
    _, flat = filled(1500, replace(OPTIONS, flat_rows=10_000))
    assert flat.may_take_long([plain])
    flat.close()


def test_new_rows_get_places_while_other_lists_are_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random, index = filled(1000)
    assert index.wait_for_lists(LISTS_SECONDS)
    may_train, train = threading.Event(), CandidateIndex.train

    def slow_train(*arguments: Any) -> CandidateIndex:
        assert may_train.wait(LISTS_SECONDS)
        return train(*arguments)

    monkeypatch.setattr(upkeep.CandidateIndex, "train", slow_train)
    for start in range(1000, 5000, 500):
        index.upsert([product(random, number) for number in range(start, start + 500)])
    rows = index._images
    wait_for(lambda: rows.delta_count <= upkeep.MAX_DELTA, "new rows are in the old lists")
    assert rows.main is not None
    before = rows.main
    index.remove("p3000")
    index.upsert([product(random, 4000, "new")])
    may_train.set()
    assert index.wait_for_lists(LISTS_SECONDS)
    assert rows.main is not before
    assert rows.delta_count <= upkeep.MAX_DELTA
    assert recall(index, queries(random, 1, 1)) >= 0.98
    index.close()


def test_a_change_waits_for_room_in_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "FULL_DELTA", 100)
    random, index = filled(1000)
    assert index.wait_for_lists(LISTS_SECONDS)
    may_add, add = threading.Event(), CandidateIndex.add

    def slow_add(*arguments: Any) -> None:
        assert may_add.wait(LISTS_SECONDS)
        add(*arguments)

    monkeypatch.setattr(upkeep.CandidateIndex, "add", slow_add)
    index.upsert([product(random, number) for number in range(1000, 1200)])
    later = threading.Thread(target=lambda: index.upsert([product(random, 5000)]))
    later.start()
    assert index.write_ids(["p5000"]) == {}
    assert len(index.search(queries(random, 1, 0))) == 30
    may_add.set()
    later.join()
    assert index.write_ids(["p5000"]) == {"p5000": "w"}
    assert index.wait_for_lists(LISTS_SECONDS)
    index.close()


@pytest.mark.parametrize("count", [300, 9500], ids=["some", "thousands"])
def test_pages_of_equal_products_have_no_gaps_and_no_repeats(count: int) -> None:
    random, index = filled(1000)
    shared = product(random, 0)
    copies = [replace(shared, product_id=f"copy{number:04}") for number in range(count)]
    random.shuffle(copies)
    index.upsert(copies)
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"] != "Flat"
    (found,) = index.search([exactly(shared.image_vectors[:1])])
    assert found[0].score == pytest.approx(1, abs=1e-5)
    pages = [
        match.product_id
        for offset in range(0, 250, 25)
        for match in index.search([exactly(shared.image_vectors[:1], top_k=25, offset=offset)])[0]
    ]
    assert pages == [f"copy{number:04}" for number in range(250)]
    index.close()


def test_changes_are_found_at_once_and_what_is_gone_is_not() -> None:
    random, index = filled(1500)
    assert index.wait_for_lists(LISTS_SECONDS)
    for round_number in range(30):
        changed = [
            product(random, int(number), f"w{round_number}")
            for number in random.choice(1500, 25, replace=False)
        ]
        index.upsert(changed)
        for item in changed:
            (found,) = index.search([exactly(item.image_vectors[:1])])
            assert found[0].product_id == item.product_id
            assert found[0].score == pytest.approx(1, abs=1e-5)
        gone = changed[0]
        index.remove(gone.product_id)
        (found,) = index.search([exactly(gone.image_vectors[:1])])
        assert gone.product_id not in {match.product_id for match in found}
        index.upsert([gone])
        # Rows are given out again when the thread in the background has come to them.
        assert index.wait_for_lists(LISTS_SECONDS)
    info = index.info()
    assert info["products"] == 1500
    assert recall(index, queries(random, 1, 1)) >= 0.98
    # The rows of what was replaced were used again.
    frozen = index._images.frozen()
    assert frozen.main is not None
    assert frozen.total < 1.2 * info["image_vectors"]
    assert frozen.main.row_count < 1.2 * info["image_vectors"]
    index.close()


def exactly(vector: FloatArray, top_k: int = 5, offset: int = 0) -> IndexQuery:
    none = np.zeros((0, TEXT_DIM), np.float32)
    weights = np.ones(len(vector), np.float32)
    return IndexQuery(vector, weights, none, np.ones(0, np.float32), top_k, offset)


def test_searches_and_changes_go_on_while_lists_are_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_train = threading.Event()
    train = upkeep.CandidateIndex.train

    def slow_train(*arguments: Any) -> Any:
        assert may_train.wait(LISTS_SECONDS)
        return train(*arguments)

    monkeypatch.setattr(upkeep.CandidateIndex, "train", slow_train)
    random, index = filled(1500)
    assert not index.wait_for_lists(0.1)
    assert index.info()["type"] == "Flat"
    asked = queries(random, 1, 0)
    assert recall(index, asked) == 1
    late = product(random, 1)
    index.upsert([late])
    index.remove("p2")
    may_train.set()
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"] != "Flat"
    (found,) = index.search([exactly(late.image_vectors[:1])])
    assert found[0].product_id == "p1"
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert "p2" not in index.product_ids()
    index.close()


def test_lists_that_grow_during_a_search_do_not_disturb_it() -> None:
    # As many as fill frozen arrays to the last place.
    vectors = unit(np.random.default_rng(2).normal(size=(512, IMAGE_DIM)))
    rows = VectorRows(IMAGE_DIM, Readers(), 1.0)
    rows.fill(np.arange(512, dtype=np.int32), vectors)
    main = CandidateIndex.train(512, vectors)
    main.add(np.arange(512, dtype=np.int32), vectors, main.assign(vectors))
    rows.set_main(main)
    frozen = rows.frozen()
    newer = unit(vectors[:3] + 0.001)
    main.add(np.arange(512, 515, dtype=np.int32), newer, main.assign(newer))
    _, found = frozen.nearest(newer, 5, None)
    assert all(number in line for number, line in enumerate(found))
    assert found.max() < 512


def test_lists_are_made_anew_when_the_catalogue_has_outgrown_them() -> None:
    random, index = filled(900)
    assert index.wait_for_lists(LISTS_SECONDS)
    before = index.info()["type"]["image"]
    for start in range(900, 5000, 500):
        index.upsert([product(random, number) for number in range(start, start + 500)])
    assert index.wait_for_lists(LISTS_SECONDS)
    assert index.info()["type"]["image"] not in (before, "Flat")
    assert recall(index, queries(random, 1, 1)) >= 0.98
    index.close()


def test_many_threads_search_while_products_change() -> None:
    random, index = filled(1500)
    fixed = [product(random, 10_000 + number, "fixed") for number in range(20)]
    index.upsert(fixed)
    stop = threading.Event()
    failures: list[str] = []
    rounds = [0] * 4

    def search(worker: int) -> None:
        while not stop.is_set():
            rounds[worker] += 1
            for item in fixed:
                (found,) = index.search([exactly(item.image_vectors[:1])])
                if found[0].product_id != item.product_id or abs(found[0].score - 1) > 1e-5:
                    failures.append(f"{item.product_id}: {found[:1]}")

    def change(worker: int) -> None:
        changes = np.random.default_rng(worker)
        while not stop.is_set():
            rounds[worker] += 1
            numbers = changes.choice(1500, 20, replace=False).tolist()
            if changes.random() < 0.3:
                for number in numbers:
                    index.remove(f"p{number}")
            else:
                index.upsert([product(changes, number) for number in numbers])

    threads = [
        threading.Thread(target=work, args=(number,))
        for number, work in enumerate((search, search, change, change))
    ]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: min(rounds) > 50, "all have done their work many times")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert index.wait_for_lists(LISTS_SECONDS)
    assert recall(index, queries(random, 1, 1)) >= 0.98
    index.close()


def test_lists_come_back_from_a_snapshot_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, index = filled(2500)
    assert index.wait_for_lists(LISTS_SECONDS)
    index.upsert([product(random, number, "new") for number in range(20)])
    index.remove("p30")
    index.save(tmp_path)
    monkeypatch.setattr(upkeep.CandidateIndex, "train", None)
    restored = ProductIndex(IMAGE_DIM, TEXT_DIM, 1000, OPTIONS)
    restored.restore(tmp_path)
    assert restored.wait_for_lists(LISTS_SECONDS)
    assert restored.info() == index.info()
    asked = queries(random, 1, 1)
    assert recall(restored, asked) >= 0.98
    expected = [[match.product_id for match in found] for found in index.search(asked, exact=True)]
    got = [[match.product_id for match in found] for found in restored.search(asked, exact=True)]
    assert got == expected
    changed = product(random, 40, "later")
    restored.upsert([changed])
    (found,) = restored.search([exactly(changed.image_vectors[:1])])
    assert found[0].product_id == "p40"
    index.close()
    restored.close()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if there were none.
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    with pytest.raises(SetupError, match="PRODUCT_MATCH_INDEX_DEVICE=cpu"):
        ProductIndex(IMAGE_DIM, TEXT_DIM, 1000, IndexOptions(device="gpu"))
    with pytest.raises(SetupError, match="expected one of cpu, gpu"):
        ProductIndex(IMAGE_DIM, TEXT_DIM, 1000, IndexOptions(device="tpu"))
