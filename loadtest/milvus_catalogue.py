"""A made-up catalogue in a real Milvus and its database, followed by a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pymongo

from bls_models.bundle import Bundle
from bls_models.database.connection import connect
from bls_models.database.embeddings import IMAGE, TEXT, StoredVectors
from bls_models.database.store import PAGE_SECONDS, Document, Store
from bls_models.errors import SetupError
from bls_models.index.engine import IndexedProduct
from bls_models.milvus.collections import Collections
from bls_models.milvus.connection import MilvusConnection
from bls_models.milvus.search import MilvusSearch, MilvusSearchOptions
from bls_models.milvus.vectors import ProductVectors
from bls_models.replication.milvus_generation import INDEXES, MilvusGeneration
from bls_models.settings import MILVUS, Settings
from bls_models.vectors import binary_from_vector
from loadtest.faults.milvus import milvus_server
from loadtest.workers import Worker
from local_server.database import local_database
from local_server.temporary_stack import started

DATABASE = "milvus_scale"
LOAD_SECONDS = 4 * 3600.0
SETTLE_SECONDS = 600.0
# What takes longer than a server waits for is told by the figures, not by a run that breaks off.
PATIENT_MS = 20_000
# So long nothing may have changed in what Milvus has loaded.
STILL_SECONDS = 10.0


class Follower:
    """A server's index, which follows the database.

    Args:
        settings: database and Milvus.
        bundle: whose vectors they have.
    """

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        self._database = connect(settings)
        store = Store(self._database, settings.log_days)
        self._generation = MilvusGeneration(settings, bundle, store, None)
        self._generation.start()

    def wait_loaded(self) -> None:
        """Wait until Milvus has the whole catalogue.

        Raises:
            SetupError: it has not in hours.
        """
        if not self._generation.wait_loaded(LOAD_SECONDS):
            raise SetupError(f"Milvus has not taken up the catalogue in {LOAD_SECONDS:.0f} s")

    def close(self) -> None:
        """Stop following."""
        self._generation.close()
        self._database.client.close()


class CountedVectors(ProductVectors):
    """Vectors from the database, and of how many products they were asked for.

    Attributes:
        products: that was.
    """

    products = 0

    def of(self, write_ids: Iterable[str]) -> dict[str, StoredVectors]:
        """See ``ProductVectors``."""
        found = super().of(write_ids)
        self.products += len(found)
        return found


@dataclass(frozen=True)
class MilvusCatalogue:
    """A database and a Milvus, and what writes to the one and searches the other.

    Attributes:
        settings: where they are.
        bundle: whose vectors they have.
        store: the database.
        connection: to Milvus.
        process: Milvus's.
        folder: Milvus's files.
    """

    settings: Settings
    bundle: Bundle
    store: Store
    connection: MilvusConnection
    process: psutil.Process
    folder: Path

    def insert(self, products: Sequence[IndexedProduct]) -> list[IndexedProduct]:
        """Store products in the database; returns them with the writes that they are stored by."""
        products = [replace(item, write_id=f"w{item.product_id}") for item in products]
        fingerprint = self.bundle.fingerprint
        # A database that writes its files may stand still for longer than a request may wait.
        with pymongo.timeout(PAGE_SECONDS):
            self.store.insert_embeddings(
                [document for item in products for document in _embeddings(item, fingerprint)]
            )
            self.store.products.insert_many(
                [
                    {**item.fields, "_id": item.product_id, "write_id": item.write_id}
                    | {"fingerprint": fingerprint, "revision": 1}
                    for item in products
                ],
                ordered=False,
            )
        return products

    @contextlib.contextmanager
    def followed(self) -> Iterator[Callable[[], None]]:
        """Follow the database in a process of its own.

        Yields:
            What waits until Milvus has the whole catalogue.
        """
        with Worker(Follower, self.settings, self.bundle) as follower:
            try:
                yield lambda: follower.call(Follower.wait_loaded)
            finally:
                follower.call(Follower.close)

    @cached_property
    def collections(self) -> Collections:
        """What the follower has made."""
        made = self.store.database[INDEXES].find_one({})
        assert made is not None
        return Collections(
            made["images"], made["texts"], self.bundle.image_dim, self.bundle.text_dim
        )

    def vectors(self) -> CountedVectors:
        """Vectors from the database, none of them in memory yet."""
        return CountedVectors(self.store, self.bundle, None, self.settings.milvus_cache_bytes)

    def search(self, vectors: ProductVectors, consistency: str) -> MilvusSearch:
        """What searches Milvus, as a server does it."""
        settings = self.settings
        options = MilvusSearchOptions(
            consistency, True, settings.max_filter_bytes, None, settings.milvus_proof
        )
        return MilvusSearch(self.connection, self.collections, self.store, vectors, options)

    def settle(self) -> None:
        """Have Milvus close its segments, and wait until it searches them by their lists.

        Raises:
            SetupError: it does not in time.
        """
        names = list(self.collections.dims)
        for name in names:
            self.connection.client.flush(name, timeout=SETTLE_SECONDS)
        deadline = time.monotonic() + SETTLE_SECONDS
        seen: Any = None
        still_since = time.monotonic()
        while time.monotonic() - still_since < STILL_SECONDS:
            if time.monotonic() > deadline:
                raise SetupError(f"Milvus has not come to rest in {SETTLE_SECONDS:.0f} s: {seen}")
            now = [self._state(name) for name in names]
            if now != seen or not all(whole for whole, _ in now):
                seen, still_since = now, time.monotonic()
            time.sleep(0.5)

    def _state(self, name: str) -> tuple[bool, list[tuple[int, int]]]:
        """Whether all rows have their index, and the loaded segments with their rows."""
        client: Any = self.connection.client
        (index,) = client.list_indexes(name)
        told = client.describe_index(name, index)
        segments = client.list_loaded_segments(name)
        return told["state"] == "Finished" and not told["pending_index_rows"], sorted(
            (item.segment_id, item.num_rows) for item in segments
        )

    def memory_bytes(self) -> int:
        """Resident memory of Milvus now."""
        return int(self.process.memory_info().rss)

    def disk_bytes(self) -> int:
        """What Milvus's files take now: vectors, codes, and its logs of what was written."""
        return sum(file.stat().st_blocks * 512 for file in self.folder.rglob("*") if file.is_file())


@contextlib.contextmanager
def milvus_catalogue(bundle: Bundle) -> Iterator[MilvusCatalogue]:
    """Start an empty database and an empty Milvus; their files are in a temporary folder.

    Raises:
        SetupError: one does not start, or the packages for it are missing.
    """
    for package in ("milvus", "pymilvus"):
        if importlib.util.find_spec(package) is None:
            raise SetupError(
                f"the package {package} is missing; install what the tests need with "
                "`pip install -e '.[test]'`"
            )
    with contextlib.ExitStack() as parts:
        state = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="product-match-")))
        folder = state / "milvus"
        folder.mkdir()
        address, pid = started(lambda: parts.enter_context(milvus_server(folder)).uri)
        uri = parts.enter_context(local_database(state, 0))
        settings = Settings.from_environment().model_copy(
            update={
                "mongodb_uri": uri,
                "database": DATABASE,
                "index_engine": MILVUS,
                "milvus_uri": address,
                "milvus_timeout_ms": PATIENT_MS,
                "mongodb_timeout_ms": PATIENT_MS,
            }
        )
        database = connect(settings)
        parts.callback(database.client.close)
        store = Store(database, settings.log_days)
        store.ensure_indexes()
        connection = MilvusConnection(settings)
        parts.callback(connection.close)
        yield MilvusCatalogue(settings, bundle, store, connection, psutil.Process(pid), folder)


def _embeddings(product: IndexedProduct, fingerprint: str) -> list[Document]:
    vectors = [(IMAGE, vector) for vector in product.image_vectors]
    vectors += [(TEXT, vector) for vector in product.text_vectors]
    return [
        {
            "_id": f"{product.write_id}:{kind}:{number}",
            "product_id": product.product_id,
            "write_id": product.write_id,
            "revision": 1,
            "fingerprint": fingerprint,
            "kind": kind,
            "vector": binary_from_vector(vector),
        }
        for number, (kind, vector) in enumerate(vectors)
    ]
