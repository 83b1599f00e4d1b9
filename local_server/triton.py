"""The real tritonserver, from the nvidia-pytriton wheel."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bls_models.bundle import Bundle
from bls_models.errors import SetupError
from local_server.options import PROJECT
from local_server.processes import LOOPBACK, ManagedProcess, check_port_free, free_port

START_SECONDS = 300.0
STOP_SECONDS = 40.0
PROBE_SECONDS = 2.0
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Ports:
    """Triton's three ports; 0 asks for a free one."""

    http: int
    grpc: int
    metrics: int

    def resolved(self) -> Ports:
        """With every 0 replaced, and the others checked to be free."""
        for name, port in (("http", self.http), ("grpc", self.grpc), ("metrics", self.metrics)):
            if port:
                check_port_free(port, f"Triton's {name} endpoint", f"--{name}-port")
        return Ports(
            self.http or free_port(), self.grpc or free_port(), self.metrics or free_port()
        )


@dataclass(frozen=True)
class TritonServer:
    """A running server."""

    process: ManagedProcess
    ports: Ports

    @property
    def http_url(self) -> str:
        """Base URL of the HTTP endpoint."""
        return f"http://{LOOPBACK}:{self.ports.http}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus finds the metrics."""
        return f"http://{LOOPBACK}:{self.ports.metrics}/metrics"

    @property
    def grpc_url(self) -> str:
        """Address of the gRPC endpoint, as the client takes it."""
        return f"grpc://{LOOPBACK}:{self.ports.grpc}"


def _wheel_folder() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(
            "tritonserver is missing: install the wheel with `pip install -e '.[local]'`"
        )
    return Path(spec.submodule_search_locations[0])


def prepare_backends(state: Path) -> Path:
    """A backend directory with the Python backend and the stub of the running Python.

    The wheel keeps the stubs of all Python versions apart from the backend; Triton wants the one
    it runs beside it.
    """
    server = _wheel_folder() / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise SetupError(
            f"this tritonserver has no Python backend for Python {version}; use Python 3.11"
        )
    folder = state / "backends"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(server / "backends" / "python", folder / "python")
    shutil.copy2(stub, folder / "python")
    return folder


def triton_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: its libraries, this Python for its stubs, and the settings."""
    environment = dict(os.environ)
    libraries = [
        str(_wheel_folder().parent / "nvidia_pytriton.libs"),
        str(sysconfig.get_config_var("LIBDIR")),
        environment.get("LD_LIBRARY_PATH", ""),
    ]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    # The stub takes its packages from the first python3 on the PATH.
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", "")]
    )
    environment["PYTHONPATH"] = str(PROJECT)
    # numpy's own products here are tiny, and its idle threads would spin on the engines' CPUs.
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    return environment | dict(settings)


def _remove_shared_memory(prefix: str) -> None:
    """Regions of a server that ended are nobody's; a crash leaves them behind."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=PROBE_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def running_triton(
    repository: Path,
    state: Path,
    ports: Ports,
    settings: Mapping[str, str],
    profile: str = "cpu",
) -> Iterator[TritonServer]:
    """Run tritonserver with the models of the repository's bundle until the end of the block.

    Models can be unloaded and loaded while it runs, through Triton's repository API.

    Args:
        repository: the built model repository.
        state: folder for the backend directory and the log.
        ports: where to listen, on loopback only.
        settings: environment variables of ``bls_models.settings``.
        profile: which ``configs/<profile>.pbtxt`` the engines use.

    Raises:
        SetupError: a port is taken, or the server does not become ready.
        BundleError: the repository is not built.
    """
    models = Bundle.read(repository).models
    server = _wheel_folder() / "tritonserver" / "bin" / "tritonserver"
    ports = ports.resolved()
    prefix = f"product_match_{uuid.uuid4().hex[:12]}_"
    with _plain_paths(models=repository, backends=prepare_backends(state)) as paths:
        process = ManagedProcess(
            "tritonserver",
            [
                str(server),
                f"--model-repository={paths / 'models'}",
                "--model-control-mode=explicit",
                *(f"--load-model={model}" for model in models),
                f"--model-config-name={profile}",
                f"--backend-directory={paths / 'backends'}",
                f"--backend-config=python,shm-region-prefix-name={prefix}",
                *(f"--{name}-address={LOOPBACK}" for name in ("http", "grpc", "metrics")),
                f"--http-port={ports.http}",
                f"--grpc-port={ports.grpc}",
                f"--metrics-port={ports.metrics}",
                "--exit-timeout-secs=20",
            ],
            state / "logs" / "triton.log",
            triton_environment(settings),
            STOP_SECONDS,
        )
        running = TritonServer(process, ports)
        try:
            process.wait_until(lambda: _is_ready(running.http_url), START_SECONDS)
            yield running
        finally:
            process.stop()
            _remove_shared_memory(prefix)


@contextlib.contextmanager
def _plain_paths(**folders: Path) -> Iterator[Path]:
    """A folder with links to ``folders``, whose own path has no space or quote.

    The Python backend starts its stubs through a shell without quoting their paths.
    """
    with tempfile.TemporaryDirectory(prefix="product-match-") as plain:
        for name, folder in folders.items():
            (Path(plain) / name).symlink_to(folder.resolve(), target_is_directory=True)
        yield Path(plain)
