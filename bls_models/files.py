"""Writing a file so that a reader never finds half of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends, and not at all if it raises.

    A file that is there already is replaced as a whole: who has it open or mapped keeps the old
    content.

    Args:
        path: the file; its folder is made if it is not there.
        durable: return only when file and name are on the disk, so that neither is lost with
            the machine's power.

    Yields:
        A binary stream to write to. It is the file ``<name>.partial`` in the same folder, for
        writers that need a path.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        partial.replace(path)
        if durable:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file's content, or the names in a folder, to the disk.

    Raises:
        OSError: it is not there, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
