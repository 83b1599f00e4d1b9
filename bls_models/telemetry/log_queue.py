"""A bounded queue of log entries on disk, which survives the process that filled it.

SQLite keeps it, in a file of each process, so that no process waits for another one's lock.
``append`` returns when the kernel has the data, so nothing is lost when the process dies. A power
cut may lose what came since the last checkpoint (a few seconds), and damages nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

# More processes than a server has; further ones would find no free queue.
MAX_SLOTS = 64
PAGE_BYTES = 4096


class LogQueue:
    """Entries in order, in a file that this process alone uses. Any thread may call.

    Files of one folder and name are numbered. A process takes the first that no living process
    holds, with what the one before it left there.

    Args:
        path: the file; made where it is not there.
        lock: the open file whose lock makes it this process's; closed with the queue.
        max_bytes: how large the file may become.

    Raises:
        sqlite3.Error: the file cannot be opened, or the disk is full.
    """

    def __init__(self, path: Path, lock: IO[str], max_bytes: int) -> None:
        self.path = path
        self._lock_file = lock
        self._lock = threading.Lock()
        self._file = self._open(max_bytes)
        # Checkpoints wait for the disk, so they have a connection of their own and are not made
        # within a request.
        self._checkpoints = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        (self.count,) = self._file.execute("SELECT count(*) FROM entries").fetchone()

    @property
    def slot(self) -> str:
        """The number of the file among those of its name."""
        return self.path.stem.rpartition("-")[2]

    def append(self, entries: Sequence[bytes]) -> None:
        """Add entries at the end, all or none.

        Args:
            entries: at least one; more than a few thousand do not fit a statement.

        Raises:
            sqlite3.Error: the queue is full, or the disk is, or it failed.
        """
        # One statement is a transaction of its own.
        rows = ", ".join(["(?)"] * len(entries))
        with self._lock:
            self._file.execute(f"INSERT INTO entries (entry) VALUES {rows}", entries)
            self.count += len(entries)

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The oldest entries with their numbers, which rise; those of removed ones come again.

        Args:
            after: only entries of a larger number.
            limit: most entries wanted.
        """
        with self._lock:
            return self._file.execute(
                "SELECT number, entry FROM entries WHERE number > ? ORDER BY number LIMIT ?",
                (after, limit),
            ).fetchall()

    def remove(self, last: int) -> None:
        """Remove all entries up to the number ``last``.

        Raises:
            sqlite3.Error: the disk is full, or the file failed; nothing is removed.
        """
        with self._lock:
            done = self._file.execute("DELETE FROM entries WHERE number <= ?", (last,))
            self.count -= done.rowcount

    def checkpoint(self) -> None:
        """Move what was written from SQLite's log into its file, so that the log stays short."""
        with contextlib.suppress(sqlite3.Error):
            self._checkpoints.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Let another process open the file, with what it holds."""
        with self._lock:
            self._checkpoints.close()
            self._file.close()
            self._lock_file.close()

    def _open(self, max_bytes: int) -> sqlite3.Connection:
        file = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            for pragma in (
                f"page_size = {PAGE_BYTES}",
                "journal_mode = WAL",
                "synchronous = NORMAL",
                "wal_autocheckpoint = 0",
                f"max_page_count = {max(max_bytes // PAGE_BYTES, 4)}",
            ):
                file.execute(f"PRAGMA {pragma}").fetchall()
            file.execute(
                "CREATE TABLE IF NOT EXISTS entries "
                "(number INTEGER PRIMARY KEY, entry BLOB NOT NULL)"
            )
        except sqlite3.Error:
            file.close()
            raise
        return file


def open_queue(folder: Path, name: str, max_bytes: int) -> LogQueue:
    """The first queue of a name that no living process holds.

    Raises:
        OSError: the folder cannot be written.
        sqlite3.Error: the file cannot be made, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(MAX_SLOTS):
        queue = _take(folder / f"{name}-{slot}.sqlite3", max_bytes)
        if queue is not None:
            return queue
    raise OSError(f"{MAX_SLOTS} processes hold log queues in {folder}")


def abandoned_queues(folder: Path, name: str, max_bytes: int) -> Iterator[LogQueue]:
    """Further queues of a name that hold entries and that no living process holds.

    Raises:
        sqlite3.Error: a file cannot be opened.
    """
    for path in sorted(folder.glob(f"{name}-*.sqlite3")):
        queue = _take(path, max_bytes)
        if queue is None:
            continue
        if queue.count:
            yield queue
        else:
            queue.close()


def _take(path: Path, max_bytes: int) -> LogQueue | None:
    """A queue, unless another process holds it."""
    lock = path.with_suffix(".lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    try:
        return _open_or_set_aside(path, lock, max_bytes)
    except BaseException:
        lock.close()
        raise


def _open_or_set_aside(path: Path, lock: IO[str], max_bytes: int) -> LogQueue:
    """A queue; a damaged file, as a failing disk leaves one, is kept aside and begun anew."""
    try:
        return LogQueue(path, lock, max_bytes)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        damaged = path.with_suffix(".damaged")
        path.replace(damaged)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        logger.error("log queue %s is damaged (%s) and was kept as %s", path, error, damaged)
        return LogQueue(path, lock, max_bytes)
