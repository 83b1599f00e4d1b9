"""Real servers while their catalogue changes: every change is seen, all are alike, and checked.

How soon a change is seen is what `make live-changes` measures.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymongo.database import Database
from rich.console import Console
from serving_support import WAIT_SECONDS, Serving, picture, send, serving, unit, wait_for

from bls_models.bundle import Bundle
from bls_models.database.store import Document, Store
from bls_models.index.engine import IndexedProduct
from bls_models.replication.index_generation import IndexGeneration
from bls_models.settings import Settings
from bls_models.specs import PRODUCT_INDEX
from loadtest.catalogue_changes import KINDS, Catalogue, PacedChanges
from loadtest.live_changes import index_sees
from local_server.database import local_database
from local_server.sync_check import ask_for_check, show_check
from local_server.temporary_stack import wait_for_index
from product_match_client import BadRequestError, ProductMatchClient

pytestmark = [pytest.mark.server, pytest.mark.slow]

RATE = 200.0
LIVE_PRODUCTS = 500


def live_catalogue(store: Store, bundle: Bundle) -> Catalogue:
    random = np.random.default_rng(1)
    images, texts = (
        unit(random.normal(size=(64, dim))) for dim in (bundle.image_dim, bundle.text_dim)
    )
    store.ensure_indexes()
    return Catalogue(store, bundle.fingerprint, images, texts)


@pytest.fixture(scope="module")
def database_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database process that no other test keeps busy: these write as fast as it can."""
    with local_database(tmp_path_factory.mktemp("database"), 0) as uri:
        yield uri


@pytest.fixture
def own(bundle: Bundle, settings: Settings, tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "own", settings.mongodb_uri, settings.database) as running:
        yield running


def finds(client: ProductMatchClient, product_id: str, **query: Any) -> bool:
    matches = client.match(**query).matches
    return bool(matches) and matches[0].product_id == product_id


def assert_seen(writer: ProductMatchClient, searcher: ProductMatchClient, seed: int) -> None:
    """Write a product in every way, and wait each time until a match shows it."""
    name = f"Lamp {seed}"
    product = {"product_id": "p", "name": name, "category": "lamp", "price": 9.0}

    def wait(kind: str, **query: Any) -> None:
        wait_for(lambda: finds(searcher, "p", **query), f"the {kind} is seen")

    writer.upsert(product, picture(10 + seed))
    wait("new product", texts=name, filter={"name": name})
    writer.upsert(product | {"price": 1.0})
    wait("new price", texts="lamp", filter={"category": "lamp", "price": {"$lt": 5}})
    writer.upsert(product | {"name": "Umbrella"})
    wait("new text", texts="umbrella", filter={"name": "Umbrella"})
    writer.upsert(product, picture(20 + seed))
    wait("new picture", images=picture(20 + seed), min_score=0.999)
    writer.delete("p")
    gone = {"category": "lamp"}
    wait_for(lambda: not searcher.match(texts="lamp", filter=gone).matches, "the delete is seen")


def test_changes_through_ingest_are_seen_by_matches_while_others_are_made(
    own: Serving, store: Store, bundle: Bundle
) -> None:
    live = live_catalogue(store, bundle)
    live.add(LIVE_PRODUCTS)
    with own.client("grpc") as client, own.client("http") as searcher:
        wait_for_index(own.triton.http_url, LIVE_PRODUCTS, WAIT_SECONDS)
        sees = index_sees(own.triton.grpc_url, bundle.text_dim, bundle.image_dim)
        changes = PacedChanges(live, RATE, sees)
        try:
            for round_ in range(3):
                assert_seen(client, searcher, round_)
            wait_for(lambda: set(changes.seen) == set(KINDS), "every kind of the others is seen")
        finally:
            changes.close()
    assert ask_for_check(own.triton.http_url, repair=False)["differences"] == {}


def test_two_servers_on_one_database_give_the_same_answers_after_changes_through_both(
    own: Serving,
    database_uri: str,
    settings: Settings,
    store: Store,
    bundle: Bundle,
    tmp_path: Path,
) -> None:
    live = live_catalogue(store, bundle)
    live.add(LIVE_PRODUCTS)
    with serving(tmp_path / "second", settings.mongodb_uri, settings.database) as second:
        servers = (own, second)
        for server in servers:
            wait_for_index(server.triton.http_url, LIVE_PRODUCTS, WAIT_SECONDS)
        sees = index_sees(second.triton.grpc_url, bundle.text_dim, bundle.image_dim)
        changes = PacedChanges(live, RATE / 4, sees)

        def write(server: Serving, seed: int) -> None:
            # Both change and delete the same few products.
            with server.client("grpc") as client:
                for step in range(seed, seed + 24):
                    product_id = f"p{step % 4}"
                    if step % 6 == 5:
                        client.delete(product_id)
                    else:
                        product = {"product_id": product_id, "name": f"Step {step}"}
                        client.upsert(
                            {**product, "category": "thing", "price": float(step)},
                            picture(step),
                        )

        try:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                list(pool.map(write, servers, (0, 100)))
        finally:
            changes.close()
        for server in servers:
            report = ask_for_check(server.triton.http_url, repair=False)
            assert report["differences"] == {}
            assert report["products_in_index"] == report["products_in_database"]
        for query in QUERIES:
            with own.client() as here, second.client() as there:
                mine, theirs = here.match(**query).matches, there.match(**query).matches
            assert [(item.product_id, item.product) for item in mine] == [
                (item.product_id, item.product) for item in theirs
            ]
            assert [item.score for item in mine] == pytest.approx(
                [item.score for item in theirs], abs=1e-4
            )


# Photos that were written last, and words; scores of equals are told apart by nothing.
QUERIES: list[dict[str, Any]] = [
    *({"images": picture(seed), "top_k": 4} for seed in (20, 23, 122, 123)),
    {"texts": "thing", "filter": {"category": "thing"}, "top_k": 4},
]


def test_a_damaged_index_is_found_out_and_repaired_through_the_running_server(
    bundle: Bundle,
    database: Database[Document],
    settings: Settings,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    live_catalogue(store, bundle).add(5)
    ids = sorted(item["_id"] for item in store.products.find({}, {"_id": 1}))
    folder = tmp_path / "snapshots"
    damage(ids, bundle, store, Settings(snapshot_folder=str(folder)))

    with serving(
        tmp_path / "triton",
        settings.mongodb_uri,
        settings.database,
        PRODUCT_MATCH_SNAPSHOT_FOLDER=str(folder),
    ) as running:
        url = running.triton.http_url
        log = running.triton.process.log.read_text()
        assert "the index took 5 products from a snapshot" in log
        console = Console(width=200)
        assert show_check(url, False, console) == 1
        shown = capsys.readouterr().out
        for word in ("missing", "gone", "other_revision", "other_fields"):
            assert word in shown
        assert "4 differ" in shown
        report = ask_for_check(url, repair=False)
        assert {item["product_id"]: item["kind"] for item in report["products"]} == {
            ids[0]: "missing",
            "ghost": "gone",
            ids[1]: "other_revision",
            ids[2]: "other_fields",
        }
        assert show_check(url, True, console) == 0
        assert "4 of them repaired" in capsys.readouterr().out
        assert show_check(url, False, console) == 0
        assert "nothing differs" in capsys.readouterr().out
        with pytest.raises(BadRequestError, match="operation: 'destroy'"):
            send(url, {"operation": np.array([b"destroy"], np.object_)}, model=PRODUCT_INDEX)
        with pytest.raises(BadRequestError, match="image_vector: missing"):
            send(url, {"top_k": np.ones(1, np.int32)}, model=PRODUCT_INDEX)


def damage(ids: list[str], bundle: Bundle, store: Store, settings: Settings) -> None:
    """Leave a snapshot of an index that differs from the database in every way."""
    generation = IndexGeneration(settings, bundle, store, None)
    index, follower = generation.index, generation.follower
    follower.start(60)
    index.remove(ids[0])
    wrong = [
        IndexedProduct(
            product_id,
            "0" * 32,
            {"name": "?"},
            unit(np.ones((1, bundle.image_dim))),
            unit(np.ones((1, bundle.text_dim))),
        )
        for product_id in ("ghost", ids[1])
    ]
    index.upsert(wrong)
    index.refresh({ids[2]: {"price": -1.0}})
    # Its last snapshot, with the damage, is written although no event says that anything changed.
    follower._changes += 1
    follower.stop()
