"""A real Milvus 2.3.5, as one process, that can be killed: for faults and tests.

Its package is one of the test tools.
"""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bls_models.errors import SetupError
from local_server.options import PROJECT
from local_server.processes import LOOPBACK, answers_ok, free_ports

# Milvus keeps one process id a machine, so only one may run, whoever started it.
LOCK = Path(tempfile.gettempdir()) / "product-match-milvus.lock"
# Where it leaves a file for each of its processes.
SERVER_FILES = Path("/tmp/milvus")
START_SECONDS = 180.0
POLL_SECONDS = 0.1
PORTS = (
    "etcd_port",
    "proxy_port",
    "proxy_internal_port",
    "root_coord_port",
    "query_coord_port",
    "query_node_port",
    "index_coord_port",
    "index_node_port",
    "data_coord_port",
    "data_node_port",
)


class RealMilvus:
    """A Milvus 2.3.5 that can be killed and started on the same ports and folder.

    Args:
        folder: where its data and logs go.

    Attributes:
        uri: its address.
    """

    def __init__(self, folder: Path) -> None:
        from milvus import MilvusServerConfig

        self._folder = folder
        self._log = folder / "output.log"
        self._health_port, *ports = free_ports(1 + len(PORTS))
        config = MilvusServerConfig(data_dir=str(folder), **dict(zip(PORTS, ports, strict=True)))
        config.resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://{LOOPBACK}:{config.get('proxy_port')}"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            SetupError: it does not.
        """
        programs = _programs()
        environment = {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._health_port),
            "MILVUS_RUN_DIR": str(self._folder / "run"),
            "LD_LIBRARY_PATH": str(programs),
        }
        # Asked to end it stays for minutes, half dead: it is always killed.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, str(programs / "milvus"), "run", "standalone"],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise SetupError(f"Milvus does not answer after {START_SECONDS:.0f} s: {self._log}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End it at once; one that does not run stays so."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (SERVER_FILES / f"server_id_{self._process.pid}").unlink(missing_ok=True)
            self._process = None

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            said = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SetupError(f"Milvus ended while it started: {said}")
        return answers_ok(f"http://{LOOPBACK}:{self._health_port}/healthz", 1)


def _programs() -> Path:
    """Where its programs are, which its package brings compressed; unpacked once a checkout."""
    import milvus

    folder = PROJECT / "build" / "tools" / f"milvus-{milvus.__version__}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        packed = Path(milvus.__file__).parent / "data" / "bin"
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
            own = Path(unfinished) / "bin"
            own.mkdir()
            for file in packed.glob("*.lzma"):
                with lzma.open(file) as source, (own / file.stem).open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
                (own / file.stem).chmod(0o755)
            own.rename(folder)
    return folder


@contextlib.contextmanager
def milvus_server(folder: Path) -> Iterator[RealMilvus]:
    """Run a Milvus 2.3.5; another one on this machine is waited for.

    Args:
        folder: an empty one for its data.
    """
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = RealMilvus(folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()
