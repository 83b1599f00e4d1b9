"""Snapshots of the index on disk: each complete or not there at all.

A snapshot is a folder ``snapshot-<number>`` with the index's own files in ``index/``, the products
that were left out, and a manifest that says what it is a snapshot of and where the change stream
goes on. It is written under another name, flushed and renamed; the one before it stays until then.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bson import json_util

from bls_models.database.change_stream import Token
from bls_models.errors import SnapshotError
from bls_models.files import atomic_write, sync
from bls_models.index.snapshot.files import checksum, json_with_checksum
from bls_models.replication.product_loader import LeftOut

logger = logging.getLogger(__name__)

# Another number for every change of the layout; snapshots of another one are ignored.
FOLDER_FORMAT = 3
COMPLETE = "snapshot-"
UNFINISHED = "writing-"
MANIFEST = "manifest.json"
LEFT_OUT = "left_out.json"
INDEX = "index"
LOCK = "lock"


@dataclass(frozen=True)
class Position:
    """What a snapshot is of, and up to where.

    Attributes:
        fingerprint: the bundle's.
        metric: version of the metric that its image vectors went through.
        identity: the catalogue's (``Store.identity``).
        token: every change up to here is in the index, and perhaps some after it, which the
            change stream then brings once more.
        time: when the token was the newest.
    """

    fingerprint: str
    metric: str
    identity: str
    token: Token
    time: datetime


@dataclass(frozen=True)
class Snapshot:
    """What was read from disk beside the index itself."""

    position: Position
    left_out: dict[str, LeftOut]


class SnapshotFolder:
    """A folder of snapshots, written by one process; others may read it.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None
        # What was restored or written last.
        self._present: Path | None = None

    def acquire(self) -> bool:
        """Become the one process that writes here, and clear away what a crash has left.

        Returns:
            False where another process is it already.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        for unfinished in self._folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return True

    def release(self) -> None:
        """Let another process write here."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def make_room(self, size: int, limit: int) -> bool:
        """Remove snapshots that a further one does not fit beside.

        Args:
            size: bytes of the one that is to be written.
            limit: bytes that the folder may hold.

        Returns:
            Whether it fits now.
        """
        if size > limit:
            return False
        for path in [*self._complete()][::-1]:
            if size + sum(_bytes_of(item) for item in self._complete()) <= limit:
                break
            shutil.rmtree(path)
            if path == self._present:
                self._present = None
        return True

    @property
    def holds_one(self) -> bool:
        """Whether what was restored or written last is there."""
        return self._present is not None

    def write(
        self, position: Position, left_out: Mapping[str, LeftOut], save: Callable[[Path], None]
    ) -> None:
        """Write a snapshot and remove the ones before it.

        Args:
            position: no newer than what ``save`` writes.
            left_out: products that the index leaves out at that position.
            save: writes the index into a folder (``ProductIndex.save``).

        Raises:
            OSError: it could not be written; nothing of it is left, and the one before it is.
        """
        older = list(self._complete())
        name = str(time.time_ns())
        unfinished = self._folder / f"{UNFINISHED}{name}"
        try:
            unfinished.mkdir()
            save(unfinished / INDEX)
            rows = {product_id: asdict(item) for product_id, item in left_out.items()}
            (unfinished / LEFT_OUT).write_text(json.dumps(rows), encoding="utf-8")
            _write_manifest(unfinished / MANIFEST, position)
            for path in [*unfinished.rglob("*"), unfinished]:
                sync(path)
            complete = unfinished.rename(self._folder / f"{COMPLETE}{name}")
            sync(self._folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        self._present = complete
        for path in older:
            shutil.rmtree(path, ignore_errors=True)

    def advance(self, position: Position) -> None:
        """Note a later position in what was restored or written last: nothing changed since.

        Raises:
            OSError: it could not be written; the snapshot stays as it was.
        """
        assert self._present is not None
        _write_manifest(self._present / MANIFEST, position)

    def restore(
        self, fingerprint: str, metric: str, identity: str, restore: Callable[[Path], None]
    ) -> Snapshot | None:
        """Read the newest snapshot that fits; one that does not is ignored with a log line.

        Args:
            fingerprint: of the bundle that is served.
            metric: version of the metric that is served.
            identity: of the catalogue that is served.
            restore: reads the index from a folder; on ``SnapshotError`` it stays empty.
        """
        for path in self._complete():
            try:
                snapshot = _read(path, fingerprint, metric, identity)
                restore(path / INDEX)
            except (SnapshotError, OSError) as error:
                logger.warning("snapshot %s of the index is ignored: %s", path, error)
            else:
                self._present = path
                return snapshot
        return None

    def _complete(self) -> Iterator[Path]:
        """Complete snapshots, the newest first."""
        found = [
            path
            for path in self._folder.glob(f"{COMPLETE}*")
            if path.name.removeprefix(COMPLETE).isdigit()
        ]
        yield from sorted(found, key=lambda path: int(path.name.removeprefix(COMPLETE)))[::-1]


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_manifest(path: Path, position: Position) -> None:
    facts = {
        "format": FOLDER_FORMAT,
        **asdict(position),
        # A token may hold what only BSON has.
        "token": json_util.dumps(position.token),
        "time": position.time.isoformat(),
    }
    with atomic_write(path, durable=True) as stream:
        stream.write(json_with_checksum(facts).encode())


def _read(path: Path, fingerprint: str, metric: str, identity: str) -> Snapshot:
    """Everything of a snapshot but the index, checked.

    Raises:
        SnapshotError: it is damaged, or not of this bundle, metric and catalogue.
        OSError: a file cannot be read.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest.pop("sha256") != checksum(manifest):
            raise SnapshotError(f"its {MANIFEST} is damaged")
        if manifest["format"] != FOLDER_FORMAT:
            raise SnapshotError(
                f"it has format {manifest['format']}, and this server {FOLDER_FORMAT}"
            )
        position = Position(
            manifest["fingerprint"],
            manifest["metric"],
            manifest["identity"],
            json_util.loads(manifest["token"]),
            datetime.fromisoformat(manifest["time"]),
        )
        if position.fingerprint != fingerprint:
            raise SnapshotError(f"it is of bundle {position.fingerprint}, not of {fingerprint}")
        if position.metric != metric:
            raise SnapshotError(f"it is of metric {position.metric}, not of {metric}")
        if position.identity != identity:
            raise SnapshotError(f"it is of database {position.identity}, not of {identity}")
        rows = json.loads((path / LEFT_OUT).read_text(encoding="utf-8"))
        return Snapshot(position, {key: LeftOut(**row) for key, row in rows.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"it is damaged: {type(error).__name__} {error}") from error
