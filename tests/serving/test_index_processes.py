"""The index is in the process of product_match, or in one that several of them share."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_support import (
    REPOSITORY,
    WAIT_SECONDS,
    Serving,
    picture,
    send,
    serving,
    stub_of,
    stubs_of,
    wait_for,
)

from bls_models.bundle import Bundle
from bls_models.errors import SetupError
from bls_models.index.query import IndexQuery
from bls_models.index.wire import answers_from_tensors, tensors_from_queries
from bls_models.settings import INDEX_PROCESS
from bls_models.specs import PRODUCT_INDEX
from local_server.supervisor import Supervisor
from local_server.sync_check import ask_for_check
from local_server.temporary_stack import wait_for_index
from local_server.tuning import tuned_repository
from product_match_client import BadRequestError, ServiceUnavailableError

pytestmark = [pytest.mark.server, pytest.mark.slow]

PRODUCTS = [
    {"product_id": f"p{number}", "name": f"Lamp {number}", "category": "lamp", "price": number / 2}
    for number in range(4)
]
QUERIES: list[dict[str, Any]] = [
    {"images": picture(1)},
    {"texts": "lamp", "filter": {"price": {"$lt": 1}}, "min_score": -1},
    {"images": picture(2), "texts": "lamp", "top_k": 2, "offset": 1, "min_score": -1},
]


@pytest.fixture(params=["product_match", "product_index"])
def holder(request: pytest.FixtureRequest) -> str:
    """The model whose process holds the index."""
    return str(request.param)


@pytest.fixture
def own(holder: str, bundle: Bundle, database_uri: str, tmp_path: Path) -> Iterator[Serving]:
    """A server with four products; where the index is shared, with two of product_match."""
    repository = REPOSITORY
    if holder == PRODUCT_INDEX.name:
        repository = tmp_path / "two"
        tuned_repository(REPOSITORY, repository, {"product_match": 2})
    name = f"index_{tmp_path.name}"[:60]
    settings = {INDEX_PROCESS: holder}
    with (
        serving(tmp_path / "triton", database_uri, name, repository, **settings) as running,
        running.client("grpc") as client,
    ):
        for number, product in enumerate(PRODUCTS):
            client.upsert(product, picture(number))
        wait_for_index(running.triton.http_url, len(PRODUCTS), WAIT_SECONDS)
        yield running


def asked(server: Serving, bundle: Bundle, **fields: Any) -> list[str]:
    """The products that the model product_index tells of."""
    query = IndexQuery(
        np.zeros((0, bundle.image_dim), np.float32),
        np.zeros(0, np.float32),
        np.eye(1, bundle.text_dim, dtype=np.float32),
        np.ones(1, np.float32),
        top_k=10,
        **fields,
    )
    outputs = send(server.url("grpc"), tensors_from_queries([query]), model=PRODUCT_INDEX)
    (answer,) = answers_from_tensors(outputs)
    if answer.refusal is not None:
        raise answer.refusal
    return sorted(match.product_id for match in answer.matches)


def test_matches_duplicates_and_checks_are_the_same_wherever_the_index_is(
    own: Serving, holder: str, bundle: Bundle
) -> None:
    assert len(stubs_of(own, "product_match")) == (1 if holder == "product_match" else 2)
    with own.client("grpc") as client:
        found = [
            [(match.product_id, match.product["name"]) for match in client.match(**query).matches]
            for query in QUERIES
        ]
        assert found[0][0] == ("p1", "Lamp 1")
        assert sorted(found[1]) == [("p0", "Lamp 0"), ("p1", "Lamp 1")]
        assert len(found[2]) == 2
        details = client.match(texts="lamp").details
        assert details["index"]["products"] == len(PRODUCTS)
        assert details["index"]["following"]
        assert client.report("server")["index"]["products"] == len(PRODUCTS)
        same = client.upsert({"product_id": "copy", "name": "Copy", "category": "c"}, picture(3))
        assert "p3" in {item["product_id"] for item in same.details["duplicates"]}
        with pytest.raises(BadRequestError, match="filter"):
            client.match(texts="lamp", filter={"no such field": 1})
    assert asked(own, bundle, filter=b'{"category": "lamp"}') == ["p0", "p1", "p2", "p3"]
    with pytest.raises(BadRequestError, match="operation: 'destroy'"):
        send(
            own.url("grpc"),
            {"operation": np.array([b"destroy"], np.object_)},
            model=PRODUCT_INDEX,
        )
    wait_for_index(own.triton.http_url, len(PRODUCTS) + 1, WAIT_SECONDS)
    for repair in (False, True):
        report = ask_for_check(own.triton.http_url, repair)
        assert report["products_in_index"] == len(PRODUCTS) + 1
        assert report["differences"] == {}

    def told() -> bool:
        with urllib.request.urlopen(own.triton.metrics_url) as answer:
            lines = answer.read().decode().splitlines()
        return f"product_match_index_products {len(PRODUCTS) + 1}" in lines

    wait_for(told, "the metrics tell of the index")


@pytest.mark.parametrize("holder", ["product_match"], indirect=True)
def test_what_asks_for_the_index_finds_it_again_when_its_process_is_back(
    own: Serving, bundle: Bundle
) -> None:
    supervisor = Supervisor(own.triton, lambda line: None)
    supervisor.check()
    everything = asked(own, bundle)
    assert everything
    os.kill(stub_of(own, "product_match"), signal.SIGKILL)
    with pytest.raises(ServiceUnavailableError, match="product_match, whose process holds"):
        asked(own, bundle)
    with own.client() as client:
        # The index tells of duplicates, and its absence stops no write.
        assert client.upsert(PRODUCTS[0] | {"price": 9.0}).status == "updated"
    supervisor.check()
    wait_for(lambda: asked(own, bundle) == everything, "the index is asked again")


def test_several_instances_of_product_match_are_refused_where_each_would_hold_an_index(
    bundle: Bundle, database_uri: str, tmp_path: Path
) -> None:
    repository = tmp_path / "two"
    tuned_repository(REPOSITORY, repository, {"product_match": 2})
    with (
        pytest.raises(SetupError),
        serving(tmp_path / "triton", database_uri, "refused", repository),
    ):
        pass
    log = (tmp_path / "triton" / "logs" / "triton.log").read_text(encoding="utf-8")
    assert "2 instances of product_match would hold an index each" in log
    assert f"{INDEX_PROCESS}=product_index" in log
