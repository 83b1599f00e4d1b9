"""Keeps an index's candidate lists in step with its rows, in the background.

Whatever takes long is done without the index's lock, a few rows at a time, so neither searches nor
changes wait for it. Until there are lists, and for rows that they do not hold yet, searches score
the vectors themselves; such rows stay few, because one thread gives them places while another may
make new lists, and changes that come faster than that wait.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Mapping

import numpy as np

from bls_models.background import Background
from bls_models.index.lists.candidates import TRAINING_ROWS_PER_LIST, CandidateIndex, list_count
from bls_models.index.lists.device import FaissDevice
from bls_models.index.storage.frozen_rows import NONE, FrozenRows
from bls_models.index.storage.readers import Readers
from bls_models.index.storage.rows import VectorRows
from bls_models.vectors import FloatArray, IntArray

logger = logging.getLogger(__name__)

# Rows that wait for a place in the lists before they get one: they are scored one by one.
MAX_DELTA = 1024
# With so many, further changes wait.
FULL_DELTA = 8 * MAX_DELTA
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
# How often a change that waits for room looks for it.
ROOM_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 10.0


class IndexUpkeep:
    """Threads that start when they have something to do for the first time.

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
        # Makes new lists, one kind at a time.
        self._renewal: Background | None = None
        self._failed = False

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

    def wait_for_room(self) -> None:
        """Wait while so many rows have no place in the lists that searches would feel it.

        Not for ever: where lists cannot be made, changes still must get in.
        """
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while any(
            rows.main is not None and rows.delta_count > FULL_DELTA
            for rows in list(self._kinds.values())
        ):
            if self._thread.wait(ROOM_SECONDS) or time.monotonic() > deadline:
                return

    def wait_for_lists(self, seconds: float) -> bool:
        """Wait until there is nothing left to do.

        Returns:
            Whether that is so; False if the time is up.
        """
        return self._idle.wait(seconds)

    @property
    def has_first_lists(self) -> bool:
        """Whether every kind that lists are for has some; also where they could not be made."""
        with self._lock:
            return self._failed or all(
                rows.main is not None or len(rows) < self._flat_rows
                for rows in self._kinds.values()
            )

    def stop(self) -> None:
        """End after the step that is under way; a training is not waited for."""
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
                waits = self._renewing
                if not any(map(self._has_work, self._kinds.values())) and not waits:
                    self._idle.set()
            if waits:
                self._thread.wait(ROOM_SECONDS)

    @property
    def _renewing(self) -> bool:
        return self._renewal is not None and self._renewal.running

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
        """Do what is due for one kind; new lists are made by another thread."""
        with self._lock:
            renew, count = self._wants_other_lists(rows), len(rows)
        if renew and count < self._flat_rows:
            with self._lock:
                rows.set_main(None)
            logger.info("product_index scores all %d %s vectors again", count, kind)
        elif renew and not self._renewing:
            self._renewal = Background("index-training", lambda: self._renew(kind, rows, count))
            self._renewal.start()
        main = rows.main
        if main is None:
            return
        while rows.delta_count > MAX_DELTA and not self._thread.stopping:
            with self._readers.reading(self._lock, rows.frozen) as frozen:
                self._add(frozen, main, frozen.delta)
            with self._lock:
                rows.lists_grew()
        if self._too_stale(rows, main):
            rows.remove_stale()
            with self._lock:
                rows.release_stale()

    def _renew(self, kind: str, rows: VectorRows, count: int) -> None:
        """Make lists for the rows that there are now."""
        try:
            self._train_and_fill(kind, rows, count)
        except Exception:
            logger.exception("product_index could not make lists for its %s vectors", kind)
            with self._lock:
                rows.end_building(use=False)
                self._failed = True
            self._thread.wait(PROGRESS_SECONDS)

    def _train_and_fill(self, kind: str, rows: VectorRows, count: int) -> None:
        begin = time.monotonic()
        sample = self._sample(rows)
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
            rows.begin_building(index)
        with self._readers.reading(self._lock, rows.frozen) as frozen:
            missing = np.concatenate([np.zeros(0, np.int32), *frozen.living()])
        told = time.monotonic()
        for at in range(0, len(missing), READER_STEPS * STEP_ROWS):
            with self._readers.reading(self._lock, rows.frozen) as frozen:
                self._add(frozen, index, missing[at : at + READER_STEPS * STEP_ROWS])
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                logger.info(
                    "product_index: %d of %d %s vectors in %s",
                    index.row_count,
                    len(rows),
                    kind,
                    index.type,
                )
        while not self._thread.stopping:
            with self._readers.reading(self._lock, rows.frozen) as frozen:
                came = rows.came_since()
                self._add(frozen, index, came)
            with self._lock:
                rows.lists_grew()
                if len(came) <= STEP_ROWS:
                    break
        with self._lock:
            rows.end_building(use=not self._thread.stopping)
        # The old lists' memory, in pieces of which the C library would keep most.
        ctypes.CDLL(None).malloc_trim(0)
        logger.info(
            "product_index searches %d %s vectors with %s, made in %.0f s",
            index.row_count,
            kind,
            index.type,
            time.monotonic() - begin,
        )

    def _sample(self, rows: VectorRows) -> FloatArray:
        """Living vectors (s, dim), as many as a training needs."""
        with self._readers.reading(self._lock, rows.frozen) as frozen:
            living = np.concatenate([np.zeros(0, np.int32), *frozen.living()])
            wanted = TRAINING_ROWS_PER_LIST * list_count(len(living))
            if len(living) > wanted:
                living = np.sort(np.random.default_rng(0).choice(living, wanted, replace=False))
            return frozen.take(living)

    def _add(self, frozen: FrozenRows, index: CandidateIndex, rows: IntArray) -> None:
        """Give these rows (r,) places in the lists, those of them that live and have none."""
        for at in range(0, len(rows), STEP_ROWS):
            if self._thread.stopping:
                return
            step = rows[at : at + STEP_ROWS]
            # One that came after ``frozen`` is left for the next time.
            step = step[step < frozen.total]
            step = step[(frozen.owners[step] != NONE) & ~index.holds(step)]
            vectors = frozen.take(step)
            if len(step):
                index.add(step, vectors, index.assign(vectors))
