"""A lease is held by one, lost when it is not renewed, and its fence only rises."""

from __future__ import annotations

import time

import pytest
from pymongo.database import Database
from serving_support import wait_for

from bls_models.database.lease import Lease
from bls_models.database.store import Document
from bls_models.errors import ConflictError

pytestmark = pytest.mark.server

SECONDS = 0.5


@pytest.fixture
def two(database: Database[Document]) -> tuple[Lease, Lease]:
    """Two servers that want the same lease."""
    return Lease(database["leases"], "work", SECONDS), Lease(database["leases"], "work", SECONDS)


def renewed(lease: Lease, seconds: float) -> None:
    """Keep a lease for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lease.save({})
        time.sleep(SECONDS / 10)


def test_one_holds_it_as_long_as_it_renews_it(two: tuple[Lease, Lease]) -> None:
    first, second = two
    assert first.take()
    assert first.fence == 1
    first.check()
    for _ in range(4):
        renewed(first, SECONDS / 2)
        assert not second.take()
    assert second.document["fence"] == 1


def test_what_is_not_renewed_is_taken_and_the_fence_rises(two: tuple[Lease, Lease]) -> None:
    first, second = two
    assert first.take()
    first.save({"place": 1})
    wait_for(second.take, "it is free")
    assert second.fence == 2
    assert second.document["place"] == 1
    with pytest.raises(ConflictError, match="may have taken"):
        first.check()
    with pytest.raises(ConflictError, match="has taken"):
        first.save({"place": 2})
    assert not first.held
    second.save({"place": 3})
    assert second.document["place"] == 3
    assert not first.take()


def test_what_belongs_to_an_earlier_taking_is_not_saved(two: tuple[Lease, Lease]) -> None:
    first, _ = two
    assert first.take()
    earlier = first.fence
    first.release()
    assert first.take()
    with pytest.raises(ConflictError):
        first.save({"place": 1}, earlier)
    assert first.held, "the present taking goes on"
    first.save({"place": 2}, first.fence)


def test_what_is_released_is_free_at_once(database: Database[Document]) -> None:
    first, second = (Lease(database["leases"], "work", 600) for _ in range(2))
    assert first.take()
    assert not second.take()
    first.release()
    assert not first.held
    assert second.take()
    assert second.fence == 2
