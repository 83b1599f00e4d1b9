"""How long a search takes beside what else an index does: long filters, changes, snapshots.

The searches and the work beside them run in one process, in turns of the same length.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bls_models.background import Background
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexQuery
from bls_models.product import json_bytes

# Conditions of one kilobyte-sized filter, each on another name: the most that a filter may have.
HOSTILE_CONDITIONS = 250
CHANGES_A_SECOND = 200
CHANGES_AT_ONCE = 10
TURN_SECONDS = 5.0
# A user's search is followed by a pause, as requests do not come without end.
PAUSE_SECONDS = 0.002


def hostile_filter(products: int) -> dict[str, Any]:
    """A filter of as many conditions as are allowed, all over the catalogue's names."""
    step = products / HOSTILE_CONDITIONS
    names = [f"product {round(number * step):08d}" for number in range(HOSTILE_CONDITIONS)]
    return {"$or": [{"name": {"$gt": name}} for name in names]}


def stalls(
    index: ProductIndex, queries: Sequence[IndexQuery], some: Sequence[IndexedProduct]
) -> dict[str, dict[str, float]]:
    """Measure single searches alone and beside other work.

    Args:
        index: a filled index.
        queries: plain searches.
        some: products of it, for changes.

    Returns:
        By what runs beside: ``p50_ms`` and ``p99_ms`` of the searches, and how often a second the
        work beside them was done (``times_a_second``).
    """
    hostile = replace(queries[0], filter=json_bytes(hostile_filter(index.info()["products"])))
    deep = replace(queries[0], offset=1000)
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()
        beside: dict[str, Callable[[], object]] = {
            "nothing": lambda: time.sleep(TURN_SECONDS),
            "a hostile filter": lambda: index.answers([hostile]),
            "a page past 500": lambda: index.answers([deep]),
            "200 changes/s": lambda: _changed(index, some),
            "a snapshot": lambda: index.save(Path(folder) / str(next(numbers) % 2)),
        }
        return {name: _beside(index, queries, work) for name, work in beside.items()}


def _changed(index: ProductIndex, some: Sequence[IndexedProduct]) -> None:
    start = time.monotonic()
    for at in range(0, len(some), CHANGES_AT_ONCE):
        index.upsert(some[at : at + CHANGES_AT_ONCE])
        due = start + (at + CHANGES_AT_ONCE) / CHANGES_A_SECOND
        time.sleep(max(0.0, due - time.monotonic()))


def _beside(
    index: ProductIndex, queries: Sequence[IndexQuery], work: Callable[[], object]
) -> dict[str, float]:
    done = 0
    over = threading.Event()

    def repeat() -> None:
        nonlocal done
        while not over.is_set():
            work()
            done += 1

    thread = Background("beside", repeat)
    thread.start()
    times = []
    begin = time.perf_counter()
    for query in itertools.cycle(queries):
        start = time.perf_counter()
        if start - begin > TURN_SECONDS:
            break
        index.search([query])
        times.append((time.perf_counter() - start) * 1e3)
        time.sleep(PAUSE_SECONDS)
    seconds = time.perf_counter() - begin
    over.set()
    thread.close()
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return {
        "p50_ms": round(p50, 2),
        "p99_ms": round(p99, 2),
        "times_a_second": round(done / seconds, 2),
    }
