"""A Milvus of each kind for the tests, once a session."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from milvus_support import milvus_lite

from loadtest.faults.milvus import RealMilvus, milvus_server

HERE = Path(__file__).parent
# What runs for the tests in this folder.
running = contextlib.ExitStack()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End Milvus with the last test here: others would share the CPUs with it, or wait for it."""
    if nextitem is None or HERE not in nextitem.path.parents:
        running.close()


@pytest.fixture(scope="session")
def real_milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMilvus]:
    """A Milvus 2.3.5, which a test may kill and start again."""
    with running:
        yield running.enter_context(milvus_server(tmp_path_factory.mktemp("milvus")))


@pytest.fixture(scope="session")
def milvus_uri(real_milvus: RealMilvus) -> str:
    """The address of a Milvus 2.3.5."""
    return real_milvus.uri


@pytest.fixture(scope="session")
def lite_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Milvus Lite."""
    with milvus_lite(tmp_path_factory.mktemp("lite")) as uri:
        yield uri
