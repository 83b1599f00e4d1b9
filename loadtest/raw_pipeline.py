"""The raw pipeline: decode, encode and search in one plain Python process, without a server.

It is what the served ``product_match`` is measured against, so it is as fast as it can honestly
be made: the graph is compiled to one stream a CPU with one thread each (for a single client, to
one stream with all CPUs), and every client is a thread with an infer request of its own.
Decoding and inference both leave the interpreter's lock, so pictures are decoded while others
are encoded. Of the variants tried on two CPUs this one was the fastest: OpenVINO's latency hint
with two client threads reached 0.6 of it; batches of 4 to 16, decoded by two threads and encoded
by all CPUs, 0.5 to 0.8, also with the next batch decoded meanwhile. Two threads on one picture
cost 1.3 to 1.5 times the CPU time of one thread.

Nothing is read from a database, no documents are returned and nothing is logged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bls_models.bundle import Bundle
from bls_models.cpus import cpu_count
from bls_models.engines.precisions import graph_on_cpu
from bls_models.images.decoding import ImageLimits, decode_pixels
from bls_models.settings import Settings
from bls_models.specs import IMAGE_ENCODER
from bls_models.vectors import FloatArray, Pixels
from loadtest.baselines.parts import VectorSearch, compiled_by_streams
from loadtest.measurements import Measurement
from loadtest.photos import Photo
from loadtest.processes import ProcessTrees, peak_memory
from loadtest.workers import Worker
from local_server.temporary_stack import SERVING
from seed.rows import read_products

TOP_K = 5


class Pipeline:
    """Everything loaded in this process.

    Args:
        repository: a built model repository, for its image graph and manifest.
        catalog: the products to search.
        photos: the queries.
    """

    def __init__(self, repository: Path, catalog: Path, photos: Sequence[Photo]) -> None:
        import faiss

        settings = Settings.from_environment()
        bundle = Bundle.read(repository)
        self._photos = photos
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._preprocess = bundle.preprocess
        graph = graph_on_cpu(repository, IMAGE_ENCODER.name)
        self._compiled = compiled_by_streams(graph, cpu_count())
        # Searching a small index takes less than waking other threads for it.
        faiss.omp_set_num_threads(1)
        request = self._infer_request(1)
        vectors, owners = [], []
        for row in read_products(catalog):
            for path in row.images:
                vectors.append(self._encode(request, self._decode(path.read_bytes())))
                owners.append(row.product["product_id"])
        self._search = VectorSearch(owners, np.concatenate(vectors))

    def _infer_request(self, clients: int) -> Any:
        return self._compiled[1 if clients == 1 else cpu_count()].create_infer_request()

    def _decode(self, data: bytes) -> Pixels:
        return decode_pixels(data, "image", self._limits, self._preprocess)[0]

    def _encode(self, request: Any, pixels: Pixels) -> FloatArray:
        request.infer({"image": pixels[np.newaxis]}, share_inputs=True)
        vector: FloatArray = request.get_tensor("image_embedding").data.copy()
        return vector  # (1, D)

    def first_matches(self) -> list[str]:
        """The product found first for each photo."""
        request = self._infer_request(1)
        found = []
        for photo in self._photos:
            best = self._search(self._encode(request, self._decode(photo.data)), TOP_K)
            found.append(best[0][0])
        return found

    def run(self, clients: int, seconds: float) -> Measurement:
        """Load the pipeline from ``clients`` threads of this process."""
        cpu_start, start = time.process_time(), time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            latencies = list(
                pool.map(lambda at: self._client(at, clients, start + seconds), range(clients))
            )
        elapsed = time.perf_counter() - start
        return Measurement(
            latencies_ms=[value for mine in latencies for value in mine],
            seconds=elapsed,
            cpu_ms={SERVING: (time.process_time() - cpu_start) * 1e3},
        )

    def _client(self, number: int, clients: int, end: float) -> list[float]:
        latencies: list[float] = []
        request = self._infer_request(clients)
        while (begin := time.perf_counter()) < end:
            data = self._photos[number % len(self._photos)].data
            self._search(self._encode(request, self._decode(data)), TOP_K)
            latencies.append((time.perf_counter() - begin) * 1e3)
            number += clients
        return latencies


class RawPipeline:
    """The raw pipeline as a contestant, in a process of its own.

    Use as given by ``raw_pipeline``.
    """

    name = "raw"

    def __init__(self, worker: Worker[Pipeline]) -> None:
        self._worker = worker
        self._trees = ProcessTrees({SERVING: worker.pid})

    def first_matches(self) -> list[str]:
        """The product found first for each photo."""
        return self._worker.call(Pipeline.first_matches)

    def measure(self, clients: int, seconds: float) -> Measurement:
        """Load it; see ``loadtest.measurements.Contestant``."""
        with peak_memory(self._trees) as memory:
            measured = self._worker.call(Pipeline.run, clients, seconds)
        return dataclasses.replace(measured, memory_mb=memory)


@contextlib.contextmanager
def raw_pipeline(repository: Path, catalog: Path, photos: Sequence[Photo]) -> Iterator[RawPipeline]:
    """Load the raw pipeline in a process of its own; see ``Pipeline`` for the arguments."""
    with Worker(Pipeline, repository, catalog, photos) as worker:
        yield RawPipeline(worker)
