"""A saved index comes back as it was, or not at all."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_support import unit

from bls_models.errors import SnapshotError
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexQuery
from bls_models.index.snapshot import files
from bls_models.vectors import FloatArray

IMAGE_DIM, TEXT_DIM = 6, 5


def new_index(image_dim: int = IMAGE_DIM) -> ProductIndex:
    return ProductIndex(image_dim, TEXT_DIM, max_filter_bytes=1000)


def vectors(random: np.random.Generator, count: int, dim: int) -> FloatArray:
    return unit(random.normal(size=(count, dim))) if count else np.zeros((0, dim), np.float32)


def product(random: np.random.Generator, number: int, write_id: str = "w") -> IndexedProduct:
    fields: dict[str, Any] = {
        "category": str(random.choice(["mug", "vase", "Tasse ü"])),
        "attributes": {"glazed": bool(number % 2), "size": number % 5},
    }
    if number % 3:
        fields["price"] = float(number)
    return IndexedProduct(
        f"p{number}",
        f"{write_id}{number}",
        fields,
        vectors(random, int(random.integers(0, 4)), IMAGE_DIM),
        vectors(random, int(random.integers(0, 3)), TEXT_DIM),
    )


def changed_index(random: np.random.Generator) -> ProductIndex:
    """Sixty products of which some were written twice and some are gone."""
    index = new_index()
    index.upsert([product(random, number) for number in range(70)])
    index.upsert([product(random, number, "again") for number in range(0, 70, 4)])
    for number in range(0, 70, 7):
        index.remove(f"p{number}")
    return index


QUERIES = [
    b"",
    b'{"category": "Tasse \\u00fc"}',
    b'{"$and": [{"price": {"$gte": 20}}, {"attributes.glazed": true}]}',
    b'{"attributes.size": {"$in": [1, 2]}}',
    b'{"price": {"$exists": false}}',
]


def queries(random: np.random.Generator) -> list[IndexQuery]:
    one = np.ones(1, np.float32)
    return [
        IndexQuery(
            vectors(random, 1, IMAGE_DIM), one, vectors(random, 1, TEXT_DIM), one, 20, filter=text
        )
        for text in QUERIES
    ]


def answers(index: ProductIndex, asked: list[IndexQuery]) -> list[dict[str, list[float]]]:
    """Scores by product, and the number of the nearest view."""
    return [
        {
            item.product_id: [
                item.score,
                item.image_score,
                item.text_score,
                np.nan if item.view is None else item.view,
            ]
            for item in found
        }
        for found in index.search(asked)
    ]


def assert_answers_alike(one: ProductIndex, other: ProductIndex, asked: list[IndexQuery]) -> None:
    """Scores of rows that lie in another order differ by what is rounded."""
    for mine, theirs in zip(answers(one, asked), answers(other, asked), strict=True):
        assert mine
        assert mine.keys() == theirs.keys()
        for product_id, scores in mine.items():
            np.testing.assert_allclose(scores, theirs[product_id], atol=2e-6, rtol=0)


def test_a_restored_index_answers_and_goes_on_as_the_saved_one(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    saved = changed_index(random)
    saved.save(tmp_path / "snapshot")
    restored = new_index()
    restored.restore(tmp_path / "snapshot")

    asked = queries(random)
    assert_answers_alike(restored, saved, asked)
    assert restored.info() == saved.info()
    assert restored.product_ids() == saved.product_ids()
    ids = sorted(saved.product_ids())
    assert restored.write_ids(ids) == saved.write_ids(ids)

    later = [product(random, number, "later") for number in range(60, 90)]
    for index in (saved, restored):
        index.upsert(later)
        index.remove("p1")
        index.refresh({"p2": {"category": "vase", "price": 99}})
    assert_answers_alike(restored, saved, asked)
    assert restored.info() | {"time": ""} == saved.info() | {"time": ""}


def test_a_restored_product_has_a_version_that_was_never_given_out(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    saved = changed_index(random)
    saved.save(tmp_path)
    # Changes that the snapshot does not have, with the versions that follow.
    saved.upsert([product(random, number, "later") for number in range(70)])
    restored = new_index()
    restored.restore(tmp_path)
    (asked, *_) = queries(random)
    asked = replace(asked, top_k=100)
    versions = [
        {item.product_version for item in index.search([asked])[0]} for index in (saved, restored)
    ]
    assert not versions[0] & versions[1]


def test_an_empty_index_can_be_saved_and_restored(tmp_path: Path) -> None:
    new_index().save(tmp_path)
    restored = new_index()
    restored.restore(tmp_path)
    assert restored.info()["products"] == 0
    random = np.random.default_rng(3)
    restored.upsert([product(random, 1)])
    assert restored.product_ids() == {"p1"}


def test_a_snapshot_is_of_one_moment_though_products_change_meanwhile(tmp_path: Path) -> None:
    """Each change swaps the same vectors between two products, in one call."""
    random = np.random.default_rng(4)
    index = new_index()
    first, second = vectors(random, 2, IMAGE_DIM), vectors(random, 3, IMAGE_DIM)
    none = np.zeros((0, TEXT_DIM), np.float32)
    index.upsert([product(random, number) for number in range(10, 2000)])
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.is_set():
            held = (first, second) if number % 2 else (second, first)
            index.upsert(
                [
                    IndexedProduct(name, f"w{number}", {"price": number}, block, none)
                    for name, block in zip("ab", held, strict=True)
                ]
            )
            number += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(10):
            folder = tmp_path / str(number)
            index.save(folder)
            restored = new_index()
            restored.restore(folder)
            assert len(set(restored.write_ids(["a", "b"]).values())) == 1
            held = {
                item.product_id: item.image_score
                for vector in (first[:1], second[:1])
                for item in restored.search(
                    [IndexQuery(vector, np.ones(1, np.float32), none, np.ones(0, np.float32), 1)]
                )[0]
                if item.product_id in "ab"
            }
            assert held == pytest.approx({"a": 1.0, "b": 1.0}, abs=1e-5)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("harm", ["missing", "cut short", "one byte other", "empty"])
def test_a_damaged_snapshot_is_refused_and_leaves_the_index_empty(
    tmp_path: Path, harm: str
) -> None:
    random = np.random.default_rng(5)
    saved = changed_index(random)
    saved.save(tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert {"index.json", "products.jsonl", "image_vectors.npy"} <= set(names)
    for name in names:
        content = (tmp_path / "whole" / name).read_bytes()
        if not content and harm != "missing":
            continue
        folder = tmp_path / f"{name} {harm}"
        saved.save(folder)
        if harm == "missing":
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(harmed(content, harm))
        index = new_index()
        with pytest.raises(SnapshotError, match=str(tmp_path)):
            index.restore(folder)
        assert index.info()["products"] == 0
        index.upsert([product(random, 1)])
        assert index.product_ids() == {"p1"}


def harmed(content: bytes, harm: str) -> bytes:
    if harm == "cut short":
        return content[: len(content) * 2 // 3]
    if harm == "empty":
        return b""
    middle = len(content) * 2 // 3
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_a_snapshot_of_other_vectors_or_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_index(np.random.default_rng(6)).save(tmp_path)
    with pytest.raises(SnapshotError, match="image_dim 6, expected 7"):
        new_index(image_dim=7).restore(tmp_path)
    monkeypatch.setattr(files, "FILES_FORMAT", 99)
    with pytest.raises(SnapshotError, match="format 2, expected 99"):
        new_index().restore(tmp_path)


def test_an_index_that_holds_products_is_not_overwritten(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    saved = changed_index(random)
    saved.save(tmp_path)
    before = saved.info()
    with pytest.raises(SnapshotError, match="empty index"):
        saved.restore(tmp_path)
    assert saved.info() == before


def test_a_snapshot_holds_no_pickle(tmp_path: Path) -> None:
    changed_index(np.random.default_rng(8)).save(tmp_path)
    for path in tmp_path.glob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype != np.object_
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".jsonl", ".npy"}
