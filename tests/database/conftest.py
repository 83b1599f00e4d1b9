"""A shop with a database of its own, an index that follows it, and a set that lags behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from follower_support import Followed, Shop

from bls_models.settings import Settings
from loadtest.faults.stale_secondary import StaleReplicaSet, stale_replica_set


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """A shop whose products start with none."""
    shop = Shop(settings)
    yield shop
    shop.database.client.drop_database(shop.database.name)
    shop.close()


@pytest.fixture
def followed(settings: Settings) -> Iterator[Followed]:
    """An index of the shop's products, not started yet."""
    followed = Followed(settings)
    yield followed
    followed.close()


@pytest.fixture
def lagging(database_uri: str) -> Iterator[StaleReplicaSet]:
    """A replica set whose secondary has none of the writes."""
    with stale_replica_set(database_uri) as members:
        yield members
