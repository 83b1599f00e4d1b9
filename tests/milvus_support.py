"""Milvus Lite for the tests, in this process; ``loadtest.faults.milvus`` has a whole server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def milvus_lite(folder: Path) -> Iterator[str]:
    """Run Milvus Lite in this process.

    Args:
        folder: an empty one for its file.

    Yields:
        Its address.
    """
    from milvus_lite.server_manager import server_manager_instance

    path = str(folder / "lite.db")
    try:
        yield path
    finally:
        server_manager_instance.release_server(path)
