"""A server of its own whose parts can be broken: a database, Triton, and who brings them back."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pymongo import MongoClient
from pymongo.database import Database

from bls_models.database.store import Document
from bls_models.errors import SetupError
from bls_models.replication.milvus_generation import INDEXES
from bls_models.settings import INDEX_ENGINE, MILVUS, Settings
from loadtest.faults.milvus import RealMilvus, milvus_server
from loadtest.faults.stale_secondary import stale_replica_set
from local_server.database import local_database
from local_server.model_processes import model_processes
from local_server.options import PROJECT
from local_server.processes import free_port
from local_server.supervisor import Supervisor
from local_server.temporary_stack import NO_FIT, fill, started
from local_server.triton import Ports, TritonServer, running_triton
from reporting.progress import Report

SAMPLE = PROJECT / "seed" / "sample"


class KillableDatabase:
    """A local database that can be killed and started on the same port and folder."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._port = free_port()
        self._running = contextlib.ExitStack()
        self.pid = 0
        self.uri = ""

    def start(self) -> None:
        """Start it and wait until it answers."""
        database = local_database(self._state, self._port)
        self.uri, self.pid = started(lambda: self._running.enter_context(database))

    def stop(self) -> None:
        """Stop it in order."""
        self._running.close()

    def kill(self) -> None:
        """Kill it as it stands."""
        os.kill(self.pid, signal.SIGKILL)
        self._running.close()


class BreakableServer:
    """A database, a Triton with the sample catalogue, and a supervisor as in ``make run``.

    Attributes:
        database: may be killed and started.
        triton: is brought back by the supervisor.
        products: the collections.
        stale_reads: commands that a secondary which lags has answered.
    """

    def __init__(
        self,
        database: KillableDatabase,
        triton: TritonServer,
        products: Database[Document],
        stale_reads: Sequence[str],
        milvus: RealMilvus | None = None,
    ) -> None:
        self.database = database
        self.triton = triton
        self.products = products
        self.stale_reads = stale_reads
        self._milvus = milvus

    @property
    def milvus(self) -> RealMilvus:
        """What has the index of a server that was started with Milvus."""
        assert self._milvus is not None
        return self._milvus

    def take_lease(self) -> None:
        """Take the lease on the index in Milvus for another server, which does nothing.

        Raises:
            SetupError: nobody has it.
        """
        taken = self.products[INDEXES].update_one(
            {"renewed": {"$exists": True}},
            {
                "$set": {"holder": "another"},
                "$inc": {"fence": 1},
                "$currentDate": {"renewed": True},
            },
        )
        if not taken.matched_count:
            raise SetupError("no server has the lease on the index in Milvus; see its log")

    def kill_model(self, model: str) -> None:
        """Kill one process of a model."""
        pids = model_processes(self.triton.process.pid)
        os.kill(next(pid for pid, name in pids.items() if name == model), signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Triton and the processes of its models, by process id."""
        triton = self.triton.process.pid
        return {triton: "tritonserver", **model_processes(triton)}

    def kill_triton(self) -> None:
        """Kill Triton; its models' processes live on until the supervisor ends them."""
        os.kill(self.triton.process.pid, signal.SIGKILL)

    def metric(self, name: str) -> float:
        """The sum of a metric over its series, since Triton's last start; 0 where there is none."""
        with urllib.request.urlopen(self.triton.metrics_url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name}{{", f"{name} "))
        )


@contextlib.contextmanager
def breakable_server(
    report: Report,
    repository: Path,
    settings: Mapping[str, str] | None = None,
    lagging: bool = False,
    in_milvus: bool = False,
) -> Iterator[BreakableServer]:
    """Start all parts on free ports, with their files in a temporary folder.

    Args:
        report: called with what the supervisor says.
        repository: the built models.
        settings: environment variables of ``bls_models.settings``.
        lagging: the database has a secondary without any of the writes, which the server's address
            prefers.
        in_milvus: the index lies in a Milvus of its own.

    Raises:
        SetupError: a part does not start, or the catalogue does not get in.
        ClientError: the server answered with an error while it was filled.
    """
    stop = threading.Event()
    with contextlib.ExitStack() as parts:
        state = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="product-match-")))
        database = KillableDatabase(state)
        database.start()
        parts.callback(database.stop)
        members = parts.enter_context(stale_replica_set(database.uri))
        uri = members.uri if lagging else database.uri
        environment = {**NO_FIT, **(settings or {}), "MONGODB_URI": uri}
        # Not where other servers of this machine leave theirs.
        environment["PRODUCT_MATCH_LOG_QUEUE_FOLDER"] = str(state / "log-queue")
        milvus = None
        if in_milvus:
            (state / "milvus").mkdir()
            milvus = parts.enter_context(milvus_server(state / "milvus"))
            environment |= {INDEX_ENGINE: MILVUS, "MILVUS_URI": milvus.uri}
        triton = parts.enter_context(running_triton(repository, state, Ports(0, 0, 0), environment))
        fill(triton.http_url, SAMPLE)
        client: MongoClient[Document] = MongoClient(database.uri, tz_aware=True)
        parts.callback(client.close)
        supervisor = Supervisor(triton, report)
        watching = threading.Thread(target=supervisor.watch, args=(stop,), daemon=True)
        watching.start()
        try:
            # Triton's, which inherits this environment.
            name = Settings.from_environment().database
            yield BreakableServer(database, triton, client[name], members.reads, milvus)
        finally:
            # Not before the block ends: a Triton that the thread started ends with it.
            stop.set()
            watching.join()
