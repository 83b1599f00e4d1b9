"""Whether searches see changes, many of them asked for by one search."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from bls_models.background import Background
from bls_models.bundle import Bundle
from bls_models.index.engine import SearchableIndex
from bls_models.index.query import IndexQuery
from bls_models.product import json_bytes
from bls_models.vectors import FloatArray
from loadtest.catalogue_changes import PROBE_SECONDS, PROBE_TIMEOUT_SECONDS, Change
from loadtest.measurements import LoadError

# How often is looked whether somebody waits.
IDLE_SECONDS = 0.1


@dataclass(frozen=True)
class _Asked:
    """A change that somebody waits for.

    Attributes:
        product_id: its product.
        number: see ``Change.number``.
        seen: whether a search finds it.
    """

    product_id: str
    number: int
    seen: Future[bool] = field(default_factory=Future)


class SharedSight:
    """Searches for changed products, one search after the other, in a ``with`` block.

    A search with a filter takes Milvus long, and would take longer beside others: so one asks for
    all changes that anybody waited for when it began.

    Args:
        search: the index.
        bundle: of the vectors in it.

    Attributes:
        search_ms: how long each search took.
    """

    def __init__(self, search: SearchableIndex, bundle: Bundle) -> None:
        self._search = search
        self._image: FloatArray = np.zeros((0, bundle.image_dim), np.float32)
        self._text: FloatArray = np.zeros((1, bundle.text_dim), np.float32)
        self._text[0, 0] = 1
        self._waiting: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        self._thread = Background("sight", self._run)
        self.search_ms: list[float] = []

    def __enter__(self) -> SharedSight:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.close()

    def sees(self, product_id: str, number: int) -> bool:
        """Whether a search that begins from now on finds a change; for any thread."""
        asked = _Asked(product_id, number)
        self._waiting.put(asked)
        return asked.seen.result()

    def wait_until_seen(self, change: Change) -> None:
        """Wait for a change, and so for all before it.

        Raises:
            LoadError: it is not seen in time.
        """
        deadline = time.monotonic() + PROBE_TIMEOUT_SECONDS
        while not self.sees(change.product_id, change.number):
            if time.monotonic() > deadline:
                raise LoadError(f"{change} was not seen in {PROBE_TIMEOUT_SECONDS:.0f} s")
            time.sleep(PROBE_SECONDS)

    def _run(self) -> None:
        while not self._thread.stopping:
            try:
                asked = [self._waiting.get(timeout=IDLE_SECONDS)]
            except queue.Empty:
                continue
            while not self._waiting.empty():
                asked.append(self._waiting.get())
            try:
                found = self._found([item.number for item in asked])
            except Exception as error:
                for item in asked:
                    item.seen.set_exception(error)
            else:
                for item in asked:
                    item.seen.set_result(item.product_id in found)

    def _found(self, numbers: Sequence[int]) -> set[str]:
        """The products whose last change is one of these."""
        query = IndexQuery(
            self._image,
            np.zeros(0, np.float32),
            self._text,
            np.ones(1, np.float32),
            top_k=len(numbers),
            filter=json_bytes({"attributes.change": {"$in": list(numbers)}}),
        )
        start = time.perf_counter()
        (answer,) = self._search.answers([query])
        self.search_ms.append((time.perf_counter() - start) * 1e3)
        if answer.refusal is not None:
            raise answer.refusal
        return {match.product_id for match in answer.matches}
