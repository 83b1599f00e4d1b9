"""What the load tools do to the servers that they start: fill them, and meet their database."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Container, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymongo.database import Database
from serving_support import SAMPLE, SMALL_BUNDLE, unit, wait_for

from bls_models.database.store import PRODUCTS, Document
from bls_models.errors import SetupError
from loadtest import live_changes
from loadtest.catalogue_changes import Change, PacedChanges
from loadtest.faults import server as faults_server
from loadtest.faults.server import breakable_server
from local_server import temporary_stack
from local_server.temporary_stack import fill, wait_for_index
from seed.importer import ImportCounts

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports of which one row is refused."""

    async def import_catalog(*_: object) -> ImportCounts:
        return ImportCounts(statuses={"created": 59}, failed=1)

    monkeypatch.setattr(temporary_stack, "import_catalog", import_catalog)
    monkeypatch.setattr(temporary_stack, "wait_for_index", lambda *_: None)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database, no Triton and nobody to bring them back."""

    @contextlib.contextmanager
    def running_triton(*_: object) -> Iterator[Any]:
        yield SimpleNamespace(http_url=NOBODY)

    database = SimpleNamespace(uri="mongodb://127.0.0.1:1", start=lambda: None, stop=lambda: None)
    supervisor = SimpleNamespace(watch=threading.Event.wait)
    monkeypatch.setattr(faults_server, "KillableDatabase", lambda _: database)
    monkeypatch.setattr(faults_server, "running_triton", running_triton)
    monkeypatch.setattr(faults_server, "Supervisor", lambda *_: supervisor)


def test_a_catalogue_that_does_not_get_in_whole_is_refused(refused: None) -> None:
    with pytest.raises(SetupError, match="was not imported: 59 created"):
        fill(NOBODY, SAMPLE)


def test_faults_do_not_begin_with_a_part_of_the_catalogue(refused: None, parts: None) -> None:
    with (
        pytest.raises(SetupError, match="was not imported: 59 created"),
        breakable_server(print, Path("model_repository")),
    ):
        pass


def test_an_index_that_stays_behind_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(temporary_stack, "_products", lambda _: 59)
    with pytest.raises(SetupError, match="did not take up 60 products"):
        wait_for_index(NOBODY, 60, seconds=0.0)


# --- the database that Triton inherits ------------------------------------------------------------


def test_faults_look_into_the_database_that_triton_uses(
    parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults_server, "fill", lambda *_: None)
    monkeypatch.setenv("PRODUCT_MATCH_DATABASE", "elsewhere")
    with breakable_server(print, Path("model_repository")) as server:
        assert server.products.name == "elsewhere"


def test_changes_are_written_to_the_database_that_triton_uses(
    database: Database[Document], database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_changes, "index_sees", lambda *_: lambda *_: True)
    monkeypatch.setenv("PRODUCT_MATCH_DATABASE", database.name)
    images, texts = (
        unit(np.random.default_rng(seed).normal(size=(4, dim))) for seed, dim in ((1, 48), (2, 8))
    )
    writer = live_changes.Writer(database_uri, "", SMALL_BUNDLE, images, texts, products=3)
    writer._catalogue._store.products.database.client.close()
    assert database[PRODUCTS].count_documents({}) == 3


# --- changes that are never seen or written -------------------------------------------------------


def test_products_that_never_get_into_the_index_end_the_benchmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_changes, "INDEX_SECONDS", 0.0)
    with pytest.raises(SetupError, match="did not take up p in time"):
        live_changes._wait_until_seen(lambda *_: False, Change("new product", "p", 1, 0.0))


class FailingCatalogue:
    """Writes one batch, and no other."""

    def __init__(self) -> None:
        self.calls = 0

    def change(self, count: int, keep: Container[str]) -> list[Change]:
        self.calls += 1
        if self.calls > 1:
            raise OSError("the database is away")
        return [Change("new product", "p", 1, time.perf_counter())] * count


def test_a_write_that_fails_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    catalogue = FailingCatalogue()
    changes = PacedChanges(catalogue, 100.0, lambda *_: True)  # type: ignore[arg-type]
    wait_for(lambda: catalogue.calls >= 2, "a write has failed")
    with pytest.raises(OSError, match="the database is away"):
        changes.close()
    assert set(threading.enumerate()) <= before
