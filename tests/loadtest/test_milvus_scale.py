"""The catalogue in Milvus next to the one in memory, with a real Milvus, and what it is made of."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from serving_support import SMALL_BUNDLE

from bls_models.errors import SetupError
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.vectors import FloatArray, unit
from loadtest.catalogue_changes import Change
from loadtest.catalogue_scale import recall
from loadtest.milvus_catalogue import milvus_catalogue
from loadtest.milvus_scale import CONSISTENCIES, KINDS, main
from loadtest.shared_sight import SharedSight


@pytest.fixture
def index() -> ProductIndex:
    """40 products, of which each is the change of its number."""
    index = ProductIndex(SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim, 10_000)
    texts = unit(
        np.random.default_rng(0).standard_normal((40, SMALL_BUNDLE.text_dim)).astype(np.float32)
    )
    index.upsert(
        [
            IndexedProduct(
                f"p{number}",
                f"w{number}",
                {"name": "A product", "category": "thing", "attributes": {"change": number}},
                np.zeros((0, SMALL_BUNDLE.image_dim), np.float32),
                text[np.newaxis],
            )
            for number, text in enumerate(texts)
        ]
    )
    return index


def query_of(text: FloatArray, offset: int) -> IndexQuery:
    none = np.zeros((0, SMALL_BUNDLE.image_dim), np.float32)
    return IndexQuery(none, none[:, 0], text, np.ones(1, np.float32), 10, offset)


@pytest.mark.server
@pytest.mark.nightly
def test_a_short_run_reports_both_engines_and_how_soon_changes_are_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reports" / "scale.json"
    # More than 200 products, of which a later page has some.
    flags = "--sizes 900 --queries 4 --change-seconds 2"
    assert main([*flags.split(), "--report", str(path)]) == 0
    (row,) = json.loads(path.read_text(encoding="utf-8"))["sizes"]
    assert row["views"] == 900
    assert tuple(row["queries"]) == KINDS
    for kind, found in row["queries"].items():
        assert 0.9 <= found["share_of_best_ten"] <= 1, kind
        assert found["products_read"] > 0, kind
        for name in ("memory_ms", "cold_ms", "warm_ms"):
            assert 0 < found[name]["p50"] <= found[name]["p95"], kind
    for consistency in CONSISTENCIES:
        changes = row["changes"][consistency]
        assert changes["waited_for"] > 0
        assert 0 < changes["seen_after_ms"]["p50"] <= changes["seen_after_ms"]["p99"]
    assert row["memory"]["a view"] > 0
    assert row["disk"]["a view"] > 0
    printed = capsys.readouterr().out
    for words in ("products read", "unlike an image", "Strong", "a view"):
        assert words in printed


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(SetupError, match=r"the package milvus is missing; .*\[test\]"),
        milvus_catalogue(SMALL_BUNDLE),
    ):
        pass


def test_one_search_tells_of_all_changes_that_are_waited_for(index: ProductIndex) -> None:
    with SharedSight(index, SMALL_BUNDLE) as sight:
        sight.wait_until_seen(Change("new product", "p7", 7, 0.0))
        assert sight.sees("p3", 3)
        # Another product has this change, and of that one it is not the last.
        assert not sight.sees("p3", 4)
        index.remove("p3")
        assert not sight.sees("p3", 3)
    assert len(sight.search_ms) == 4


def test_a_search_that_fails_is_told_to_whoever_waits() -> None:
    def fail(queries: Sequence[IndexQuery]) -> None:
        raise SetupError("away")

    with (
        SharedSight(SimpleNamespace(answers=fail), SMALL_BUNDLE) as sight,
        pytest.raises(SetupError, match="away"),
    ):
        sight.sees("p1", 1)


def test_of_a_later_page_only_its_own_products_count(index: ProductIndex) -> None:
    random = np.random.default_rng(1)
    texts = unit(random.standard_normal((4, SMALL_BUNDLE.text_dim)).astype(np.float32))
    later = [query_of(text[np.newaxis], offset=20) for text in texts]
    assert recall(index.search, index, later) == 1

    def first_page(queries: Sequence[IndexQuery]) -> list[list[IndexMatch]]:
        return index.search([replace(query, offset=0) for query in queries])

    assert recall(first_page, index, later) == 0
