"""The served ``product_match``: started with its database, filled, and put under load."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bls_models.errors import SetupError
from loadtest.http_load import (
    Address,
    HttpConnection,
    LoadResult,
    answer_from_bytes,
    run_load,
)
from loadtest.match_wire import request_from_photo, result_from_answer
from loadtest.measurements import SERVING, LoadError, Measurement
from loadtest.photos import Photo
from local_server.database import local_database
from local_server.triton import Ports, running_triton
from product_match_client import AsyncProductMatchClient, ProductMatchClient
from seed.importer import ImportCounts, import_catalog
from seed.records import CatalogRow
from seed.rows import read_catalog

DATABASE = "database"
LOAD_GENERATOR = "load gen."
IMPORT_TIMEOUT_S = 120.0
INDEX_SECONDS = 30.0


class ServerProcesses:
    """CPU time of a server's processes.

    Args:
        roots: process ids by the name of the part; each counts with all its descendants.
    """

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._trees = {
            name: [root, *root.children(recursive=True)]
            for name, root in ((name, psutil.Process(pid)) for name, pid in roots.items())
        }

    def cpu_ms(self) -> dict[str, float]:
        """User and system time so far, milliseconds, by part."""
        return {
            name: sum(time.user + time.system for time in (item.cpu_times() for item in tree)) * 1e3
            for name, tree in self._trees.items()
        }


class ServedMatch:
    """A running ``product_match`` as a contestant.

    Use as given by ``served_match``.
    """

    name = "product_match"

    def __init__(
        self,
        generator: ProcessPoolExecutor,
        address: Address,
        photos: Sequence[Photo],
        processes: ServerProcesses,
    ) -> None:
        self._generator = generator
        self._address = address
        self._requests = [request_from_photo(photo.data, address) for photo in photos]
        self._processes = processes

    def first_matches(self) -> list[str]:
        """The product found first for each photo; empty text where there is none.

        Raises:
            LoadError: a request was not answered.
        """
        found = []
        with contextlib.closing(HttpConnection(self._address)) as connection:
            for request in self._requests:
                answer = answer_from_bytes(connection.send(request))
                if answer.status != 200:
                    message = answer.body.decode(errors="replace")
                    raise LoadError(f"the server answered {answer.status}: {message}")
                matches = result_from_answer(answer).matches
                found.append(matches[0].product_id if matches else "")
        return found

    def measure(self, clients: int, seconds: float) -> Measurement:
        """Load it; see ``loadtest.measurements.Contestant``."""
        before = self._processes.cpu_ms()
        load: LoadResult = self._generator.submit(
            run_load, self._address, self._requests, clients, seconds
        ).result()
        after = self._processes.cpu_ms()
        return Measurement(
            latencies_ms=load.latencies_ms,
            seconds=load.seconds,
            cpu_ms={
                **{name: after[name] - before[name] for name in before},
                LOAD_GENERATOR: load.cpu_ms,
            },
            stages_ms=[result_from_answer(item).details["milliseconds"] for item in load.kept],
        )


@contextlib.contextmanager
def served_match(
    url: str, repository: Path, catalog: Path, photos: Sequence[Photo]
) -> Iterator[ServedMatch]:
    """Put ``product_match`` under load.

    Args:
        url: HTTP address of a running server that holds the catalogue; empty: one is started
            with its database on free ports, its files in a temporary folder.
        repository: the built model repository to serve.
        catalog: the products to import.
        photos: the queries.

    Raises:
        SetupError: the server does not start, or the catalogue does not get in.
    """
    with contextlib.ExitStack() as stack:
        roots: dict[str, int] = {}
        if not url:
            url = stack.enter_context(_local_server(repository, catalog, roots))
        generator = stack.enter_context(
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        )
        yield ServedMatch(generator, address_from_url(url), photos, ServerProcesses(roots))


def address_from_url(url: str) -> Address:
    """Host and port of an ``http://`` address.

    Raises:
        SetupError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise SetupError(f"--url {url!r} is not of the form http://host:port")
    return parts.hostname, parts.port or 80


@contextlib.contextmanager
def _local_server(repository: Path, catalog: Path, roots: dict[str, int]) -> Iterator[str]:
    """Start and fill a server; yields its address and enters its processes in ``roots``."""
    with contextlib.ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="product-match-")))
        uri = _started(DATABASE, lambda: stack.enter_context(local_database(state, 0)), roots)
        server = stack.enter_context(
            running_triton(repository, state, Ports(0, 0, 0), {"MONGODB_URI": uri})
        )
        roots[SERVING] = server.process.pid
        counts = asyncio.run(_import(server.http_url, catalog))
        if counts.failed or not counts.accepted:
            raise SetupError(f"{catalog} was not imported: {counts}")
        _wait_for_index(server.http_url, counts.accepted)
        yield server.http_url


def _started(name: str, start: Callable[[], str], roots: dict[str, int]) -> str:
    """Start a part that does not tell its process id, and note it in ``roots``."""
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    result = start()
    (roots[name],) = {child.pid for child in me.children()} - before
    return result


def _wait_for_index(url: str, products: int) -> None:
    """Wait until the index, which follows the database, holds the products."""
    deadline = time.monotonic() + INDEX_SECONDS
    with ProductMatchClient(url) as client:
        while client.match(texts="anything").details["index"]["products"] < products:
            if time.monotonic() > deadline:
                raise SetupError(f"the index did not take up {products} products in time")
            time.sleep(0.1)


async def _import(url: str, catalog: Path) -> ImportCounts:
    # Products whose pictures are not there are no matter of the benchmark.
    rows = (row for row in read_catalog(catalog) if isinstance(row, CatalogRow))
    async with AsyncProductMatchClient(url, IMPORT_TIMEOUT_S) as client:
        return await import_catalog(rows, client)
