"""A shop with a database of its own, an index that follows it, and a set that lags behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from follower_support import Followed, Shop
from milvus_followed import MilvusFollowed
from milvus_support import milvus_lite

from bls_models.milvus import writer
from bls_models.settings import Settings
from loadtest.faults.stale_secondary import StaleReplicaSet, stale_replica_set


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """A shop whose products start with none."""
    shop = Shop(settings)
    yield shop
    shop.database.client.drop_database(shop.database.name)
    shop.close()


@pytest.fixture(scope="session")
def lite_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Milvus Lite."""
    with milvus_lite(tmp_path_factory.mktemp("lite")) as uri:
        yield uri


@pytest.fixture
def followed(settings: Settings) -> Iterator[Followed]:
    """An index of the shop's products, not started yet."""
    followed = Followed(settings)
    yield followed
    followed.close()


@pytest.fixture(params=["faiss", "milvus"])
def followed_with_each_engine(
    settings: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Followed]:
    """The same with each engine."""
    if request.param == "milvus":
        # Sizes are counted each time they are asked for.
        monkeypatch.setattr(writer, "MAX_COUNT_SECONDS", 0.0)
        followed: Followed = MilvusFollowed(settings, request.getfixturevalue("lite_uri"))
    else:
        followed = Followed(settings)
    yield followed
    followed.close()


@pytest.fixture
def lagging(database_uri: str) -> Iterator[StaleReplicaSet]:
    """A replica set whose secondary has none of the writes."""
    with stale_replica_set(database_uri) as members:
        yield members
