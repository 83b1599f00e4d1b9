"""A server of its own for tests and load tools: Triton and a database on free ports, filled.

It needs psutil, which the extras `loadtest` and `test` bring.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bls_models.errors import SetupError
from bls_models.settings import METRIC
from local_server.database import local_database
from local_server.triton import Ports, running_triton
from product_match_client import (
    AsyncProductMatchClient,
    ProductMatchClient,
    ServiceUnavailableError,
)
from seed.importer import ImportCounts, import_catalog
from seed.rows import read_products

# The parts whose CPU time and memory are told apart.
SERVING = "serving"
DATABASE = "database"

IMPORT_TIMEOUT_S = 120.0
INDEX_SECONDS = 30.0
# No metric is fitted behind the back of what is tested or measured.
NO_FIT = {METRIC: "manual"}


@dataclass(frozen=True)
class Stack:
    """A server that holds a catalogue.

    Attributes:
        http_url: its HTTP address.
        grpc_url: its gRPC address.
        mongodb_uri: its database; empty where that is not known.
        roots: process ids by part; empty where they cannot be seen.
    """

    http_url: str
    grpc_url: str = ""
    mongodb_uri: str = ""
    roots: Mapping[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def local_stack(
    repository: Path, catalog: Path, settings: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Start Triton with a database on free ports, their files in a temporary folder, and fill it.

    Args:
        repository: the built model repository to serve.
        catalog: the products to import.
        settings: environment variables of ``bls_models.settings``.

    Raises:
        SetupError: the server does not start, or the catalogue does not get in.
        ClientError: the server answered with an error while it was filled.
    """
    with contextlib.ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="product-match-")))
        uri, database = started(lambda: stack.enter_context(local_database(state, 0)))
        environment = {**NO_FIT, **(settings or {}), "MONGODB_URI": uri}
        server = stack.enter_context(running_triton(repository, state, Ports(0, 0, 0), environment))
        roots = {DATABASE: database, SERVING: server.process.pid}
        fill(server.http_url, catalog)
        yield Stack(server.http_url, server.grpc_url, uri, roots)


def started(start: Callable[[], str]) -> tuple[str, int]:
    """Start a part that does not tell its process id.

    Returns:
        What ``start`` gives, and the id of the process that it has started.
    """
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    result = start()
    (pid,) = {
        child.pid
        for child in me.children()
        if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE
    }
    return result, pid


def fill(url: str, catalog: Path) -> None:
    """Import a catalogue's products into a server, and wait until searches find them.

    Raises:
        SetupError: not all of them get in.
        ClientError: the server answered with an error.
    """
    counts = asyncio.run(_import(url, catalog))
    if counts.failed or not counts.accepted:
        raise SetupError(f"{catalog} was not imported: {counts}")
    wait_for_index(url, counts.accepted)


async def _import(url: str, catalog: Path) -> ImportCounts:
    # Rows that cannot be read are left out: they do not matter to the load.
    async with AsyncProductMatchClient(url, IMPORT_TIMEOUT_S) as client:
        return await import_catalog(read_products(catalog), client)


def wait_for_index(url: str, products: int, seconds: float = INDEX_SECONDS) -> None:
    """Wait until the index, which follows the database, holds the products.

    Raises:
        SetupError: it does not in time.
        ClientError: the server answered with an error.
    """
    deadline = time.monotonic() + seconds
    with ProductMatchClient(url) as client:
        while _products(client) < products:
            if time.monotonic() > deadline:
                raise SetupError(f"the index did not take up {products} products in time")
            time.sleep(0.1)


def _products(client: ProductMatchClient) -> int:
    """How many products the index holds; none while it loads."""
    try:
        products: int = client.match(texts="anything").details["index"]["products"]
    except ServiceUnavailableError:
        return 0
    return products
