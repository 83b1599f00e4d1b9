"""Where a local server runs: left in the state folder for the commands that need it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pymongo.database import Database

from bls_models.database.connection import connect
from bls_models.database.store import Document
from bls_models.errors import SetupError
from bls_models.settings import AUTO, Settings
from local_server.options import make_folder

STATE_FILE = "running.json"


# A report reads more than a request does.
REPORT_TIMEOUT_MS = 60_000


def connect_for_reports(uri: str, database: str) -> Database[Document]:
    """A database to read logs and lists from, with time for it."""
    return connect(
        Settings(mongodb_uri=uri, database=database, mongodb_timeout_ms=REPORT_TIMEOUT_MS)
    )


@dataclass(frozen=True)
class Running:
    """Addresses of a running local server.

    Attributes:
        http_url: Triton's HTTP endpoint.
        grpc_url: Triton's gRPC endpoint, as the client takes it.
        metrics_url: Triton's metrics.
        mongodb_uri: the database server.
        database: the database's name.
        metric: its ``PRODUCT_MATCH_METRIC``.
    """

    http_url: str
    grpc_url: str
    metrics_url: str
    mongodb_uri: str
    database: str
    metric: str = AUTO

    def connect(self) -> Database[Document]:
        """Its database."""
        return connect_for_reports(self.mongodb_uri, self.database)

    @property
    def database_address(self) -> str:
        """The database as it may stand on a screen, without a password and options."""
        hosts = self.mongodb_uri.rpartition("@")[2].removeprefix("mongodb://").partition("/")[0]
        return f"{hosts} / {self.database}"


@contextlib.contextmanager
def state_lock(state: Path) -> Iterator[None]:
    """Keep the state folder for this process.

    Raises:
        SetupError: another local server uses it, or it cannot be made.
    """
    make_folder(state, "--state")
    with (state / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SetupError(
                f"process {lock.read().strip() or 'unknown'} already serves from {state}; stop it "
                "first, or choose another folder with --state"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextlib.contextmanager
def announced(running: Running, state: Path) -> Iterator[None]:
    """Keep the running server's addresses in its state folder until the end of the block."""
    path = state / STATE_FILE
    # It may hold the database's password.
    path.touch(mode=0o600)
    path.write_text(json.dumps(asdict(running), indent=2) + "\n", encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(state: Path) -> Running | None:
    """The server that runs from a state folder, None if there is none."""
    try:
        found = Running(**json.loads((state / STATE_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        # A server that was killed leaves its file behind, but not its lock.
        with state_lock(state):
            return None
    except SetupError:
        return found


def read_running(state: Path) -> Running:
    """The server that runs from a state folder.

    Raises:
        SetupError: there is none.
    """
    running = find_running(state)
    if running is None:
        raise SetupError(f"no server runs from {state}; start it with `make run`")
    return running
