"""``tuned``: the best that could be made of FastAPI and uvicorn with the same parts.

- The handler only waits: a photo is decoded, encoded and searched in a thread, and all three
  leave the interpreter's lock, so that one photo is decoded while others are encoded.
- The graph has one stream a CPU with one thread each; a photo that comes alone gets all CPUs.
  Batches of photos were slower on a CPU (see ``loadtest.raw_pipeline``).
- Documents are batched in the handler: while one find is under way, the ids of all requests that
  wait are collected for the next, which is one round trip for all of them.
- On many CPUs uvicorn runs several worker processes, as one interpreter would limit them.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pymongo.collection import Collection

from bls_models.cpus import cpu_count
from bls_models.database.store import Document
from bls_models.errors import ImageError
from loadtest.baselines.parts import (
    DEFAULT_TOP_K,
    Match,
    Parts,
    answer_from_matches,
    compiled_by_streams,
)

CPUS_A_WORKER = 8
# More than one, so that decoding fills the CPUs while other photos wait for a stream.
THREADS_A_CPU = 4


def worker_count() -> int:
    """How many worker processes uvicorn runs."""
    return max(1, cpu_count() // CPUS_A_WORKER)


class Finder:
    """Photos to product ids, each call in a thread of its own.

    Args:
        parts: what the baselines share.
        cpus: CPUs of this worker.
    """

    def __init__(self, parts: Parts, cpus: int) -> None:
        self._parts = parts
        self._streams = cpus
        self._compiled = compiled_by_streams(parts.graph, cpus)
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._under_way = 0

    def __call__(self, data: bytes, top_k: int) -> list[Match]:
        """The best products of a photo.

        Raises:
            ImageError: it cannot be read.
        """
        with self._lock:
            self._under_way += 1
            streams = 1 if self._under_way == 1 else self._streams
        try:
            request = self._infer_request(streams)
            request.infer({"image": self._parts.decode(data)}, share_inputs=True)
            return self._parts.search(request.get_tensor("image_embedding").data, top_k)
        finally:
            with self._lock:
                self._under_way -= 1

    def _infer_request(self, streams: int) -> Any:
        requests: dict[int, Any] = self._of_thread.__dict__.setdefault("requests", {})
        if streams not in requests:
            requests[streams] = self._compiled[streams].create_infer_request()
        return requests[streams]


class DocumentReader:
    """Reads products for the requests of one event loop, one find at a time.

    Args:
        products: their collection.
    """

    def __init__(self, products: Collection[Document]) -> None:
        self._products = products
        self._thread = ThreadPoolExecutor(1)
        self._ids: set[str] = set()
        self._next: asyncio.Task[dict[str, Document]] | None = None
        self._one_find = asyncio.Lock()

    async def __call__(self, ids: list[str]) -> dict[str, Document]:
        """The documents of these ids by id, among others; ids without one are left out."""
        self._ids.update(ids)
        if self._next is None:
            self._next = asyncio.create_task(self._read())
        # Shielded: the others need it also where one client has gone.
        return await asyncio.shield(self._next)

    async def _read(self) -> dict[str, Document]:
        async with self._one_find:
            ids, self._ids, self._next = list(self._ids), set(), None
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, ids)

    def _find(self, ids: list[str]) -> dict[str, Document]:
        return {item["_id"]: item for item in self._products.find({"_id": {"$in": ids}})}


def create_app() -> FastAPI:
    """The application, with everything loaded."""
    faiss.omp_set_num_threads(1)
    cpus = max(1, cpu_count() // worker_count())
    parts = Parts()
    finder = Finder(parts, cpus)
    reader = DocumentReader(parts.products)
    pool = ThreadPoolExecutor(cpus * THREADS_A_CPU)
    app = FastAPI()

    @app.post("/match")
    async def match(request: Request, top_k: int = DEFAULT_TOP_K) -> JSONResponse:
        data = await request.body()
        loop = asyncio.get_running_loop()
        try:
            matches = await loop.run_in_executor(pool, finder, data, top_k)
        except ImageError as error:
            raise HTTPException(400, str(error)) from error
        documents = await reader([product_id for product_id, _ in matches])
        return JSONResponse(answer_from_matches(matches, documents))

    return app
