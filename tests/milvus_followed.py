"""An index in Milvus that follows a shop's database, as the one in memory does."""

from __future__ import annotations

from uuid import uuid4

from follower_support import Followed
from serving_support import SMALL_BUNDLE

from bls_models.bundle import Bundle
from bls_models.database.connection import connect
from bls_models.database.lease import Lease
from bls_models.database.store import Store
from bls_models.index.engine import IndexedProduct
from bls_models.milvus import collections
from bls_models.milvus.collections import Collections
from bls_models.milvus.connection import MilvusConnection
from bls_models.milvus.product_rows import rows_of
from bls_models.milvus.search import MilvusSearch, MilvusSearchOptions
from bls_models.milvus.vectors import ProductVectors
from bls_models.milvus.writer import MilvusWriter
from bls_models.replication.follower import IndexFollower
from bls_models.replication.milvus_checkpoints import MilvusCheckpoints
from bls_models.replication.milvus_generation import INDEXES, LEFT_OUT
from bls_models.settings import Settings

# Nobody else wants it, and a busy machine may take long to renew it.
LEASE_SECONDS = 600.0


class MilvusFollowed(Followed):
    """The same over collections of its own in a Milvus Lite.

    Args:
        settings: of the database.
        uri: of the Milvus Lite.
        bundle: whose vectors are searched.
    """

    def __init__(self, settings: Settings, uri: str, bundle: Bundle = SMALL_BUNDLE) -> None:
        self.database = connect(settings)
        self.store = Store(self.database, 30)
        self._connection = MilvusConnection(
            settings.model_copy(update={"milvus_uri": uri, "milvus_timeout_ms": 20_000})
        )
        self._collections = Collections.of(uuid4().hex, "none", bundle.image_dim, bundle.text_dim)
        collections.create(self._connection, self._collections)
        lease = Lease(self.database[INDEXES], bundle.fingerprint, LEASE_SECONDS)
        assert lease.take()
        self.index = MilvusWriter(self._connection, self._collections, self.store, lease)
        self.searched = MilvusSearch(
            self._connection,
            self._collections,
            self.store,
            ProductVectors(self.store, bundle, None, 2**20),
            MilvusSearchOptions("Strong", False, 1000, None, False),
        )
        self.follower = IndexFollower(
            self.index,
            self.store,
            bundle,
            MilvusCheckpoints(lease, self.database[LEFT_OUT], bundle.fingerprint, "a catalogue"),
        )

    def put_by_hand(self, *products: IndexedProduct) -> None:
        """Past the writer, which looks at what is stored."""
        self.index.remove(*(item.product_id for item in products))
        self.insert_rows(*products)

    def insert_rows(self, *products: IndexedProduct, begin: int = 0) -> None:
        """Add the rows of products, in each collection from the n-th on, beside what is there."""
        for item in products:
            for name, rows in zip(self._collections.dims, rows_of(item, 1), strict=True):
                if rows[begin:]:
                    self._connection.client.insert(name, rows[begin:])

    def close(self) -> None:
        super().close()
        for name in self._collections.dims:
            collections.drop(self._connection, name)
        self._connection.close()
