"""The two collections in Milvus that have the vectors of a bundle under a metric."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from bls_models.errors import IndexUnavailableError
from bls_models.milvus.connection import MilvusConnection

PREFIX = "pm_"

# Fields of a row, which is one vector of a product.
ID = "id"
PRODUCT_ID = "product_id"
WRITE_ID = "write_id"
VERSION = "version"
# How many rows the product's write has in both collections, told by the first of them; else 0.
ROWS = "rows"
FIELDS = "fields"
# Whether the product has no vectors of the other kind: a search knows from it what a row can tell.
ALONE = "alone"
VECTOR = "vector"

# In bytes; an id of a product has at most 128 characters.
MAX_PRODUCT_ID = 512
MAX_WRITE_ID = 128
MAX_ID = MAX_WRITE_ID + 16
# Of the JSON in a row.
MAX_FIELDS = 65_536

METRIC_TYPE = "IP"
INDEX_TYPE = "IVF_SQ8"
# Of a segment, which has up to 512 MB: 100,000 vectors of 1280 numbers. For fewer Milvus makes
# fewer by itself.
NLIST = 1024

# For what is done once a collection: a large one takes so long to load.
SETUP_SECONDS = 120.0
POLL_SECONDS = 0.1
# Whoever asks has other things to do.
ASK_SECONDS = 1.0


@dataclass(frozen=True)
class Collections:
    """The collections of a bundle's vectors as a metric has them.

    Attributes:
        images: name of the one with products' views.
        texts: name of the one with products' texts.
        image_dim: length of image vectors.
        text_dim: length of text vectors.
    """

    images: str
    texts: str
    image_dim: int
    text_dim: int

    @classmethod
    def of(cls, fingerprint: str, metric: str, image_dim: int, text_dim: int) -> Collections:
        """Those of a bundle and a metric's version.

        Args:
            fingerprint: the bundle's.
            metric: the version, or ``NONE``.
            image_dim: length of image vectors.
            text_dim: length of text vectors.
        """
        name = PREFIX + re.sub(r"[^A-Za-z0-9]", "_", f"{fingerprint}_{metric}")
        return cls(f"{name}_images", f"{name}_texts", image_dim, text_dim)

    @property
    def dims(self) -> dict[str, int]:
        """The length of vectors by collection."""
        return {self.images: self.image_dim, self.texts: self.text_dim}


def create(connection: MilvusConnection, collections: Collections) -> None:
    """Have both collections there, with their indexes, loaded; also when some of it was done.

    Raises:
        IndexUnavailableError: Milvus does not answer in time, or what it has under these names
            has vectors of another length.
    """
    for name, dim in collections.dims.items():
        with connection.errors(f"making the collection {name}"):
            _make(connection, name, dim)
            connection.client.load_collection(name, timeout=SETUP_SECONDS, _async=True)
    for name in collections.dims:
        with connection.errors(f"loading the collection {name}"):
            _wait_loaded(connection, name)


def drop(connection: MilvusConnection, name: str) -> None:
    """Remove a collection; one that is not there is no error.

    Raises:
        IndexUnavailableError: Milvus does not answer in time.
    """
    with connection.errors(f"removing the collection {name}"):
        connection.client.drop_collection(name, timeout=SETUP_SECONDS)


def ask(connection: MilvusConnection, collections: Collections) -> None:
    """Have Milvus look into both collections, as a search does.

    Raises:
        IndexUnavailableError: it does not answer in time, or they are not loaded.
    """
    for name in collections.dims:
        with connection.errors(f"looking into the collection {name}"):
            connection.client.query(
                name,
                filter=f'{ID} == ""',
                output_fields=[ID],
                consistency_level="Eventually",
                timeout=min(connection.seconds, ASK_SECONDS),
            )


def existing(connection: MilvusConnection) -> list[str]:
    """Names of all collections of this project, of whatever bundle and metric.

    Raises:
        IndexUnavailableError: Milvus does not answer in time.
    """
    with connection.errors("listing collections"):
        names = connection.client.list_collections(timeout=connection.seconds)
    return sorted(name for name in names if name.startswith(PREFIX))


def _make(connection: MilvusConnection, name: str, dim: int) -> None:
    from pymilvus import DataType, MilvusClient

    client: Any = connection.client
    if not client.has_collection(name, timeout=connection.seconds):
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ID, DataType.VARCHAR, is_primary=True, max_length=MAX_ID)
        schema.add_field(PRODUCT_ID, DataType.VARCHAR, max_length=MAX_PRODUCT_ID)
        schema.add_field(WRITE_ID, DataType.VARCHAR, max_length=MAX_WRITE_ID)
        schema.add_field(VERSION, DataType.INT64)
        schema.add_field(ROWS, DataType.INT64)
        schema.add_field(FIELDS, DataType.JSON)
        schema.add_field(ALONE, DataType.BOOL)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
        # Two servers that make the same one at the same time both succeed.
        client.create_collection(name, schema=schema, timeout=SETUP_SECONDS)
    fields = client.describe_collection(name, timeout=connection.seconds)["fields"]
    (vector,) = (field for field in fields if field["name"] == VECTOR)
    if int(vector["params"]["dim"]) != dim:
        raise IndexUnavailableError(
            f"the collection {name} in Milvus has vectors of {vector['params']['dim']} numbers, "
            f"expected {dim}; it is not this bundle's: remove it"
        )
    if not client.list_indexes(name, timeout=connection.seconds):
        index = MilvusClient.prepare_index_params()
        index.add_index(
            VECTOR, index_type=INDEX_TYPE, metric_type=METRIC_TYPE, params={"nlist": NLIST}
        )
        # It need not wait for the index of what is there already.
        client.create_index(name, index, timeout=SETUP_SECONDS, sync=False)


def _wait_loaded(connection: MilvusConnection, name: str) -> None:
    client: Any = connection.client
    deadline = time.monotonic() + SETUP_SECONDS
    while client.get_load_state(name, timeout=connection.seconds)["state"].name != "Loaded":
        if time.monotonic() > deadline:
            raise IndexUnavailableError(
                f"Milvus has not loaded the collection {name} within {SETUP_SECONDS:.0f} s; check "
                "that its nodes have the memory for it, then try again"
            )
        time.sleep(POLL_SECONDS)
