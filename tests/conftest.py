"""Real services for the tests: a database and a Triton, each started once and always stopped."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fetch_tools import add_to_path
from pymongo.database import Database
from serving_support import (
    REPOSITORY,
    SAMPLE,
    WAIT_SECONDS,
    RestartableDatabase,
    SampleProduct,
    Serving,
    serving,
)

from bls_models.bundle import Bundle
from bls_models.database.connection import connect
from bls_models.database.store import Document, Store
from bls_models.errors import BundleError
from bls_models.settings import SNAPSHOT_FOLDER, Settings
from local_server.database import local_database
from local_server.temporary_stack import wait_for_index
from product_match_client import ProductMatchClient
from reporting.reports import machine

pytest_plugins = ("skip_rule",)

# Also where pytest is run without make.
add_to_path()

# Fuzz tests leave the number of examples to the profile: `make test` takes
# the first, `make test-nightly` the second. In CI too they are others each time, which is not
# Hypothesis' default there.
hypothesis.settings.register_profile("few", max_examples=200, deadline=None, derandomize=False)
hypothesis.settings.register_profile("many", max_examples=5000, deadline=None, derandomize=False)
hypothesis.settings.load_profile("few")


def pytest_report_header() -> str:
    """What the results belong to; numbers depend on the CPU."""
    about = machine()
    return f"cpu: {about['cpu']}, {about['cores']} cores; {about['int8']}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs real photos where there are none: the project has none to bring."""
    if os.environ.get("QUALITY_DATASET"):
        return
    left_out = [item for item in items if item.get_closest_marker("photos")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


# --- the database -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def database_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real database for the whole session; tests take a database name each."""
    with local_database(tmp_path_factory.mktemp("database"), 0) as uri:
        yield uri


@pytest.fixture
def settings(database_uri: str, tmp_path: Path) -> Settings:
    """Settings with a database of the test's own, and room for a busy machine."""
    return Settings(
        mongodb_uri=database_uri,
        database=f"test_{uuid.uuid4().hex}",
        mongodb_timeout_ms=20_000,
        log_queue_folder=str(tmp_path / "log-queue"),
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database[Document]]:
    """An empty database of the test's own."""
    database = connect(settings)
    yield database
    database.client.drop_database(database.name)
    database.client.close()


@pytest.fixture
def store(database: Database[Document]) -> Store:
    """A store on an empty database."""
    store = Store(database, log_days=30)
    store.ensure_indexes()
    return store


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[RestartableDatabase]:
    """A running database that the test may stop and start."""
    database = RestartableDatabase(tmp_path)
    database.start()
    yield database
    database.stop()


# --- Triton -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The bundle that the model repository was built with."""
    try:
        bundle = Bundle.read(REPOSITORY)
        bundle.check_files(REPOSITORY)
    except BundleError as error:
        pytest.fail(f"these tests need the built models: {error}")
    return bundle


@pytest.fixture(scope="session")
def server(
    bundle: Bundle, database_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    """Triton for the whole session, with a database of its own."""
    name = f"serving_{uuid.uuid4().hex}"
    state = tmp_path_factory.mktemp("triton")
    snapshots = {SNAPSHOT_FOLDER: str(state / "snapshots")}
    with serving(state, database_uri, name, **snapshots) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Both protocols in turn."""
    return str(request.param)


@pytest.fixture
def client(server: Serving, protocol: str) -> Iterator[ProductMatchClient]:
    """A client for each protocol."""
    with server.client(protocol) as client:
        yield client


# --- the sample catalogue ---------------------------------------------------------------------


def read_sample(folder: Path) -> list[SampleProduct]:
    """The catalogue's lines with the paths of their pictures."""
    products = []
    for line in (folder / "products.jsonl").read_text(encoding="utf-8").splitlines():
        product: dict[str, Any] = json.loads(line)
        images, queries = (
            [folder / path for path in product.pop(key)] for key in ("images", "queries")
        )
        products.append(SampleProduct(product, images, queries))
    return products


@pytest.fixture(scope="session")
def sample() -> list[SampleProduct]:
    """The sample catalogue, read and not yet imported."""
    return read_sample(SAMPLE)


@pytest.fixture(scope="session")
def catalogue(server: Serving, sample: list[SampleProduct]) -> list[SampleProduct]:
    """The sample catalogue, imported through ``product_ingest``, each product once."""
    with server.client("grpc") as client:
        for item in sample:
            assert client.upsert(item.product, item.images).status == "created"
    wait_for_index(server.triton.http_url, len(sample), WAIT_SECONDS)
    return sample
