"""Keeps an index's candidate lists in step with its rows, in the background.

Whatever takes long is done without the index's lock, a few rows at a time, so neither searches nor
changes wait for it. Until there are lists, and for rows that they do not hold yet, searches score
the vectors themselves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from bls_models.background import Background
from bls_models.index.lists.candidates import TRAINING_ROWS_PER_LIST, CandidateIndex, list_count
from bls_models.index.lists.device import FaissDevice
from bls_models.index.storage.frozen_rows import FrozenRows
from bls_models.index.storage.readers import Readers
from bls_models.index.storage.rows import VectorRows
from bls_models.vectors import IntArray

logger = logging.getLogger(__name__)

# Rows that wait for a place in the lists before they get one: they are scored one by one.
MAX_DELTA = 1024
# Rows moved at a time, and steps of one reader.
STEP_ROWS = 2048
READER_STEPS = 32
# Dead rows are taken out of the lists above this share of their rows, and number.
MAX_STALE_SHARE = 0.1
MIN_STALE = 4096
# With so many times the rows that lists were made for, new ones are made.
RETRAIN_GROWTH = 4
# Lists are given up when the rows are fewer than this share of what makes them worthwhile.
KEEP_SHARE = 0.5
PROGRESS_SECONDS = 10.0
STOP_SECONDS = 5.0


class IndexUpkeep:
    """A thread that starts when it has something to do for the first time.

    Args:
        lock: of the index that the rows belong to.
        readers: of that index.
        flat_rows: rows of one kind from which on lists are made.
        device: where lists are searched.
    """

    def __init__(
        self, lock: threading.Lock, readers: Readers, flat_rows: int, device: FaissDevice
    ) -> None:
        self._lock = lock
        self._readers = readers
        self._flat_rows = flat_rows
        self._device = device
        self._kinds: dict[str, VectorRows] = {}
        self._idle = threading.Event()
        self._idle.set()
        self._thread = Background("index-upkeep", self._run)

    def look_after(self, kinds: Mapping[str, VectorRows]) -> None:
        """Take over these rows, in place of earlier ones; the caller holds the lock."""
        self._kinds = dict(kinds)

    def changed(self) -> None:
        """Rows came or went; the caller holds the lock."""
        if self._thread.stopping or not any(map(self._has_work, self._kinds.values())):
            return
        self._idle.clear()
        self._thread.start()
        self._thread.wake()

    def wait_for_lists(self, seconds: float) -> bool:
        """Wait until there is nothing left to do.

        Returns:
            Whether that is so; False if the time is up.
        """
        return self._idle.wait(seconds)

    def stop(self) -> None:
        """End the thread after the step that it is at; a training is not waited for."""
        self._thread.close(STOP_SECONDS)

    def _run(self) -> None:
        while True:
            with self._thread.changed:
                self._thread.changed.wait_for(
                    lambda: self._thread.stopping or not self._idle.is_set()
                )
            if self._thread.stopping:
                return
            try:
                for kind, rows in list(self._kinds.items()):
                    self._keep(kind, rows)
            except Exception:
                # Searches go on as they are; the next change tries again.
                logger.exception("product_index could not renew its lists")
                self._thread.wait(PROGRESS_SECONDS)
            with self._lock:
                if not any(map(self._has_work, self._kinds.values())):
                    self._idle.set()

    def _has_work(self, rows: VectorRows) -> bool:
        return self._wants_other_lists(rows) or (
            rows.main is not None
            and (rows.delta_count > MAX_DELTA or self._too_stale(rows, rows.main))
        )

    def _wants_other_lists(self, rows: VectorRows) -> bool:
        if rows.main is None:
            return len(rows) >= self._flat_rows
        return (
            len(rows) > RETRAIN_GROWTH * rows.main.trained_rows
            or len(rows) < KEEP_SHARE * self._flat_rows
        )

    @staticmethod
    def _too_stale(rows: VectorRows, main: CandidateIndex) -> bool:
        return len(rows.stale) > max(MIN_STALE, MAX_STALE_SHARE * main.row_count)

    def _keep(self, kind: str, rows: VectorRows) -> None:
        with self._lock:
            renew, count = self._wants_other_lists(rows), len(rows)
        if renew:
            self._renew(kind, rows, count)
        main = rows.main
        if main is None or self._thread.stopping:
            return
        if rows.delta_count > MAX_DELTA:
            self._move(rows, main)
        if self._too_stale(rows, main):
            with self._lock:
                stale = np.array(rows.stale, np.int32)
            main.remove(stale)
            with self._lock:
                rows.release_stale()

    def _renew(self, kind: str, rows: VectorRows, count: int) -> None:
        """Make lists for the rows that there are now, or give them up for few."""
        if count < self._flat_rows:
            with self._lock:
                rows.set_main(None)
            logger.info("product_index scores all %d %s vectors again", count, kind)
            return
        begin = time.monotonic()
        with self._reading(rows) as frozen:
            living = np.concatenate(list(frozen.living()))
            wanted = TRAINING_ROWS_PER_LIST * list_count(len(living))
            if len(living) > wanted:
                living = np.sort(np.random.default_rng(0).choice(living, wanted, replace=False))
            sample = frozen.take(living)
        logger.info("product_index trains lists for %d %s vectors", count, kind)
        index = CandidateIndex.train(count, sample, self._device)
        del sample
        logger.info(
            "product_index trained %s for %s vectors in %.0f s, filling it",
            index.type,
            kind,
            time.monotonic() - begin,
        )
        with self._lock:
            rows.building = index
        self._move(rows, index, kind)
        with self._lock:
            rows.building = None
            if self._thread.stopping:
                return
            rows.set_main(index)
        logger.info(
            "product_index searches %d %s vectors with %s, made in %.0f s",
            index.row_count,
            kind,
            index.type,
            time.monotonic() - begin,
        )

    def _move(self, rows: VectorRows, index: CandidateIndex, kind: str = "") -> None:
        """Give rows places in the lists until hardly any are left."""
        told = time.monotonic()
        while not self._thread.stopping:
            with self._reading(rows) as frozen:
                missing = frozen.delta if index is frozen.main else self._missing(frozen, index)
                for at in range(0, min(len(missing), READER_STEPS * STEP_ROWS), STEP_ROWS):
                    step = missing[at : at + STEP_ROWS]
                    vectors = frozen.take(step)
                    index.add(step, vectors, index.assign(vectors))
                    if self._thread.stopping:
                        break
            with self._lock:
                rows.main_grew()
            if kind and time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                logger.info(
                    "product_index: %d of %d %s vectors in %s",
                    index.row_count,
                    len(rows),
                    kind,
                    index.type,
                )
            if len(missing) <= READER_STEPS * STEP_ROWS:
                return

    @staticmethod
    def _missing(frozen: FrozenRows, index: CandidateIndex) -> IntArray:
        living = np.concatenate([np.zeros(0, np.int32), *frozen.living()])
        missing: IntArray = living[~index.holds(living)]
        return missing

    @contextmanager
    def _reading(self, rows: VectorRows) -> Iterator[FrozenRows]:
        """Frozen rows, none of which is given to others meanwhile."""
        with self._lock:
            reader = self._readers.begin()
            frozen = rows.frozen()
        try:
            yield frozen
        finally:
            with self._lock:
                self._readers.end(reader)
