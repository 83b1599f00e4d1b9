"""A Milvus of each kind for the tests, once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from milvus_support import milvus_lite

from loadtest.faults.milvus import RealMilvus, milvus_server


@pytest.fixture(scope="session")
def real_milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMilvus]:
    """A Milvus 2.3.5, which a test may kill and start again."""
    with milvus_server(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture(scope="session")
def milvus_uri(real_milvus: RealMilvus) -> str:
    """The address of a Milvus 2.3.5."""
    return real_milvus.uri


@pytest.fixture(scope="session")
def lite_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Milvus Lite."""
    with milvus_lite(tmp_path_factory.mktemp("lite")) as uri:
        yield uri
