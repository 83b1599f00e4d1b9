"""The one index of a server: loaded, searched, checked and closed as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from follower_support import Shop
from serving_support import SMALL_BUNDLE, WAIT_SECONDS, picture, text_vector, wait_for

from bls_models.errors import IndexUnavailableError
from bls_models.index.query import IndexQuery
from bls_models.replication.index_host import IndexHost
from bls_models.settings import Settings

QUERY = IndexQuery(
    np.zeros((0, 48), np.float32),
    np.zeros(0, np.float32),
    text_vector("thing")[np.newaxis],
    np.ones(1, np.float32),
    top_k=10,
)


@pytest.fixture
def host(shop: Shop, settings: Settings, tmp_path: Path) -> Iterator[IndexHost]:
    own = settings.model_copy(update={"snapshot_folder": str(tmp_path / "snapshots")})
    host = IndexHost(own, SMALL_BUNDLE, shop.database)
    yield host
    host.close()


def checked(host: IndexHost, repair: bool = False) -> Any:
    outcome: Future[Any] = Future()
    host.check(repair, outcome.set_result)
    return outcome.result(WAIT_SECONDS)


def found(host: IndexHost) -> set[str]:
    (answer,), _ = host.search([QUERY])
    return {match.product_id for match in answer.matches}


def test_it_answers_with_its_state_and_follows_the_database(shop: Shop, host: IndexHost) -> None:
    for number in range(3):
        shop.put(number, picture(number))
    host.start(WAIT_SECONDS)
    assert found(host) == {"p0", "p1", "p2"}
    _, about = host.search([QUERY])
    assert (about["products"], about["following"], about["loaded_share"]) == (3, True, 1.0)
    shop.put(7, picture(7))
    shop.delete(0)
    wait_for(lambda: found(host) == {"p1", "p2", "p7"}, "the changes are seen")
    assert host.info()["products"] == 3
    assert 0 <= host.info()["lag_seconds"] < WAIT_SECONDS
    assert host.may_take_long([replace(QUERY, filter=b"{}")])
    assert not host.may_take_long([QUERY])


def test_a_check_tells_the_state_with_its_report(shop: Shop, host: IndexHost) -> None:
    shop.put(1, picture(1))
    host.start(WAIT_SECONDS)
    about = checked(host)
    assert about["products"] == 1
    assert about["sync_check"]["differences"] == {}


def test_before_it_is_loaded_it_neither_searches_nor_checks(host: IndexHost) -> None:
    for ask in (lambda: host.search([QUERY]), lambda: checked(host), host.info):
        with pytest.raises(IndexUnavailableError, match="the index is not loaded yet"):
            ask()


def test_what_it_leaves_at_the_end_is_where_the_next_one_begins(
    shop: Shop,
    host: IndexHost,
    settings: Settings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop.put(1, picture(1))
    host.start(WAIT_SECONDS)
    host.close()
    own = settings.model_copy(update={"snapshot_folder": str(tmp_path / "snapshots")})
    with caplog.at_level("INFO"):
        following = IndexHost(own, SMALL_BUNDLE, shop.database)
        following.start(WAIT_SECONDS)
    assert found(following) == {"p1"}
    following.close()
    assert "the index took 1 products from a snapshot" in caplog.text
