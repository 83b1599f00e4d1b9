"""Real Milvus servers for the tests: 2.3.5, as one process, and Milvus Lite in this one."""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serving_support import ROOT, wait_for

from local_server.processes import LOOPBACK, answers_ok, free_port

# Milvus keeps one process id a machine, so only one may run, whoever started it.
LOCK = Path(tempfile.gettempdir()) / "product-match-milvus.lock"
# Where it leaves a file for each of its processes.
SERVER_FILES = Path("/tmp/milvus")
START_SECONDS = 180.0
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
        config = MilvusServerConfig(data_dir=str(folder), **{name: free_port() for name in PORTS})
        config.resolve()
        self._health_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://{LOOPBACK}:{config.get('proxy_port')}"

    def start(self) -> None:
        """Start it and wait until it answers."""
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
        with (self._folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, str(programs / "milvus"), "run", "standalone"],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(self._answers, "Milvus answers", START_SECONDS)

    def kill(self) -> None:
        """End it at once; one that does not run stays so."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (SERVER_FILES / f"server_id_{self._process.pid}").unlink(missing_ok=True)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "output.log").read_text()[-2000:]
        return answers_ok(f"http://{LOOPBACK}:{self._health_port}/healthz", 1)


def _programs() -> Path:
    """Where its programs are, which its package brings compressed; unpacked once a checkout."""
    import milvus

    folder = ROOT / "build" / "tools" / f"milvus-{milvus.__version__}"
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
