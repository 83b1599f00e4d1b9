"""What a server refuses and says when it starts with Milvus, and how it tells that it answers."""

from __future__ import annotations

import logging
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database
from serving_support import SMALL_BUNDLE, wait_for

from bls_models.database.store import Document, Store
from bls_models.errors import IndexUnavailableError, SetupError
from bls_models.milvus.collections import Collections, ask, create, drop
from bls_models.milvus.connection import MilvusConnection
from bls_models.replication.generation import check_engine
from bls_models.replication.milvus_generation import MilvusGeneration
from bls_models.settings import MILVUS, Settings
from bls_models.telemetry.metrics import MILVUS_UP, Metrics, MetricSpec
from local_server.container import values_from_files
from local_server.processes import LOOPBACK, free_port


class Gauges(Metrics):
    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        self.values[spec.name] = value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"index_device": "gpu"}, "PRODUCT_MATCH_INDEX_DEVICE=gpu is of the engine faiss"),
        ({"milvus_certificate": "/ca.pem"}, "MILVUS_URI has no TLS"),
        (
            {"milvus_timeout_ms": 5000},
            "PRODUCT_MATCH_MILVUS_TIMEOUT_MS=5000 is too long .* of 10 s; set it below 5000",
        ),
        (
            {"milvus_uri": "https://milvus:1", "milvus_certificate": "/no/ca.pem"},
            "MILVUS_CERTIFICATE=/no/ca.pem is not there",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        check_engine(Settings(index_engine=MILVUS, **values))


def test_a_start_says_what_the_engine_cannot_do(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    check_engine(Settings())
    assert not caplog.messages
    check_engine(Settings(index_engine=MILVUS))
    (message,) = caplog.messages
    for word in "facets", "order", "PRODUCT_MATCH_WORD_WEIGHT":
        assert word in message


def test_the_token_may_lie_in_a_file_and_is_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("shop:secret\n", encoding="utf-8")
    given = values_from_files({"MILVUS_TOKEN_FILE": str(tmp_path / "token")})
    settings = Settings.from_environment(given)
    assert settings.milvus_token == "shop:secret"
    assert "secret" not in repr(settings)


@pytest.mark.server
@pytest.mark.parametrize("kind", ["milvus_uri", "lite_uri"])
def test_milvus_is_asked_for_what_a_search_needs(kind: str, request: pytest.FixtureRequest) -> None:
    uri = request.getfixturevalue(kind)
    collections = Collections.of(uuid.uuid4().hex, "none", 8, 4)
    with closing(MilvusConnection(Settings(milvus_uri=uri, milvus_timeout_ms=30_000))) as found:
        create(found, collections)
        try:
            ask(found, collections)
            found.client.release_collection(collections.texts, timeout=30)
            with pytest.raises(IndexUnavailableError, match=collections.texts):
                ask(found, collections)
        finally:
            for name in collections.dims:
                drop(found, name)


@pytest.mark.server
@pytest.mark.parametrize("there", [True, False])
def test_a_server_tells_whether_milvus_answers(
    there: bool, lite_uri: str, settings: Settings, database: Database[Document]
) -> None:
    uri = lite_uri if there else f"http://{LOOPBACK}:{free_port()}"
    own = settings.model_copy(update={"milvus_uri": uri, "milvus_timeout_ms": 300})
    metrics = Gauges()
    store = Store(database, settings.log_days)
    with closing(MilvusGeneration(own, SMALL_BUNDLE, store, None, metrics)) as generation:
        generation.start()
        wait_for(lambda: metrics.values.get(MILVUS_UP.name) == float(there), "it is told")
