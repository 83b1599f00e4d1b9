"""The local database: SecantusDB, a server of MongoDB's protocol, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from bls_models.errors import SetupError
from local_server.processes import LOOPBACK, ManagedProcess, check_port_free, free_port

START_SECONDS = 60.0
PROBE_MS = 500
# Log entries that it reads in a second, on a machine that has other things to do too.
MOST_REPORT_ENTRIES = 10_000


def answers(uri: str, timeout_ms: int = PROBE_MS) -> bool:
    """Whether a MongoDB server answers at ``uri``, as a replica set, which it is not at once."""
    client: MongoClient[dict[str, object]] = MongoClient(
        uri, serverSelectionTimeoutMS=timeout_ms, connectTimeoutMS=timeout_ms
    )
    try:
        return "setName" in client.admin.command("hello")
    except PyMongoError:
        return False
    finally:
        client.close()


def local_uri(port: int) -> str:
    """The address of a local database.

    Direct, because this server, while it starts, may answer as one without a replica set, and a
    client that follows replica sets then drops it for ever.
    """
    return f"mongodb://{LOOPBACK}:{port}/?directConnection=true"


@contextlib.contextmanager
def local_database(state: Path, port: int) -> Iterator[str]:
    """Run the local database; its files stay in ``state/database``.

    Yields:
        Its URI.

    Raises:
        SetupError: the port is taken, or the server does not start.
    """
    program = Path(sys.executable).with_name("secantusd-py")
    if not program.is_file():
        raise SetupError(
            f"{program} is missing; install the local database with "
            "`pip install -e '.[local]'`, or set MONGODB_URI to a MongoDB replica set"
        )
    if port:
        check_port_free(port, "the local database", "--mongodb-port")
    port = port or free_port()
    storage = state / "database"
    storage.mkdir(parents=True, exist_ok=True)
    process = ManagedProcess(
        "the local database",
        # An empty configuration of our own: otherwise one lying about on the machine is used.
        [
            *(sys.executable, str(program), "--config", str(_empty_configuration(state))),
            *("--host", LOOPBACK, "--port", str(port)),
            *("--storage-path", str(storage), "--log-level", "WARNING"),
        ],
        state / "logs" / "database.log",
        os.environ,
    )
    uri = local_uri(port)
    try:
        process.wait_until(lambda: answers(uri), START_SECONDS)
        yield uri
    finally:
        process.stop()


def _empty_configuration(state: Path) -> Path:
    path = state / "secantusd.toml"
    path.write_text("", encoding="utf-8")
    return path
