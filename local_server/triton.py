"""The real tritonserver: from the nvidia-pytriton wheel, or as NVIDIA's image has it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bls_models.bundle import Bundle
from bls_models.cpus import cpu_count
from bls_models.engines.precisions import int8_support
from bls_models.errors import SetupError
from bls_models.settings import AUTO, CPU, CPU_PRECISION, FP32, INT8, PROFILE
from bls_models.telemetry.request_ids import HEADER
from local_server.model_processes import dead_model_processes
from local_server.options import PROJECT
from local_server.processes import (
    LOOPBACK,
    STOP_HURT_SECONDS,
    ManagedProcess,
    answers_ok,
    check_port_free,
    free_ports,
)

START_SECONDS = 300.0
STOP_SECONDS = 40.0
PROBE_SECONDS = 2.0
SHARED_MEMORY = Path("/dev/shm")
# A picture of 2 million pixels. Smaller ones, which are most, are cheaper on the heap.
LARGE_BYTES = 8 * 2**20
LOG_QUEUE_FOLDER = "PRODUCT_MATCH_LOG_QUEUE_FOLDER"
# The status of a program that lacks a library.
NOT_LOADED = 127
# Where NVIDIA's image has its tritonserver.
IMAGE_FOLDER = Path("/opt/tritonserver")


@dataclass(frozen=True)
class Ports:
    """Triton's three ports; 0 asks for a free one."""

    http: int
    grpc: int
    metrics: int

    def resolved(self) -> Ports:
        """With every 0 replaced, and the others checked to be free.

        Raises:
            SetupError: one is taken, or given twice.
        """
        given = [port for port in (self.http, self.grpc, self.metrics) if port]
        if len(set(given)) < len(given):
            raise SetupError(
                f"Triton's ports are {self.http} (http), {self.grpc} (grpc) and {self.metrics} "
                "(metrics); expected three different ones (0: any free port)"
            )
        for name, port in (("http", self.http), ("grpc", self.grpc), ("metrics", self.metrics)):
            if port:
                check_port_free(port, f"Triton's {name} endpoint", f"--{name}-port")
        http, grpc, metrics = free_ports(3)
        return Ports(self.http or http, self.grpc or grpc, self.metrics or metrics)


class TritonServer:
    """A tritonserver of this machine, which can be started again on the same ports.

    Args:
        command: its program and flags.
        environment: its whole environment.
        log: file for its output; the one of the run before is kept beside it.
        ports: where it listens, no 0 among them.
        shared_memory: what the names of its shared-memory regions begin with.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        ports: Ports,
        shared_memory: str,
    ) -> None:
        self.ports = ports
        self.log = log
        self._command = command
        self._environment = environment
        self._shared_memory = shared_memory
        self.process = self._started()

    def wait(self) -> None:
        """Wait until it serves.

        Raises:
            SetupError: it ended, or took too long.
        """
        url = f"{self.http_url}/v2/health/ready"
        self.process.wait_until(lambda: answers_ok(url, PROBE_SECONDS), START_SECONDS)

    def stop(self) -> None:
        """Stop it: in order, or at once where a model's process has died.

        Triton would wait for such a process until its time limit.
        """
        hurt = self.alive and dead_model_processes(self.process.pid)
        self.process.stop(STOP_HURT_SECONDS if hurt else None)
        remove_shared_memory(self._shared_memory)

    def restart(self) -> None:
        """Stop it, if it still runs, without much patience, and start it again.

        Raises:
            SetupError: it does not start.
        """
        self.process.stop(STOP_HURT_SECONDS)
        remove_shared_memory(self._shared_memory)
        self.log.replace(self.log.with_suffix(".previous.log"))
        self.process = self._started()
        self.wait()

    def _started(self) -> ManagedProcess:
        return ManagedProcess(
            "tritonserver", self._command, self.log, self._environment, STOP_SECONDS
        )

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.alive

    @property
    def shared_memory(self) -> int:
        """Bytes of shared memory that its models' requests have taken so far."""
        regions = SHARED_MEMORY.glob(f"{self._shared_memory}*")
        return sum(region.stat().st_size for region in regions)

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


@dataclass(frozen=True)
class Installation:
    """A tritonserver that can be started.

    Attributes:
        program: its executable.
        backends: its backend directory.
        libraries: folders of libraries that it needs beside the system's.
    """

    program: Path
    backends: Path
    libraries: tuple[Path, ...] = ()


def find_installation(state: Path) -> Installation:
    """The wheel's server, else that of NVIDIA's image.

    Args:
        state: folder for the backend directory that the wheel lacks.

    Raises:
        SetupError: there is neither, or the wheel does not fit this Python.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is not None and spec.submodule_search_locations:
        return _wheel_installation(Path(spec.submodule_search_locations[0]), state)
    if (IMAGE_FOLDER / "bin" / "tritonserver").is_file():
        return Installation(IMAGE_FOLDER / "bin" / "tritonserver", IMAGE_FOLDER / "backends")
    raise SetupError("tritonserver is missing: install the wheel with `pip install -e '.[local]'`")


def _wheel_installation(package: Path, state: Path) -> Installation:
    """The wheel keeps the stubs of all Pythons apart from the backend; Triton wants them together.

    This makes a backend directory with the Python backend and the stub of the running Python.
    """
    server = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise SetupError(
            f"this tritonserver has no Python backend for Python {version}; use Python 3.11"
        )
    libraries = (
        package.parent / "nvidia_pytriton.libs",
        Path(str(sysconfig.get_config_var("LIBDIR"))),
    )
    _check_libraries(stub, libraries)
    folder = state / "backends"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(server / "backends" / "python", folder / "python")
    shutil.copy2(stub, folder / "python")
    return Installation(server / "bin" / "tritonserver", folder, libraries)


def _check_libraries(stub: Path, folders: Sequence[Path]) -> None:
    """Refuse a stub that cannot run: Triton would say nothing and wait for it for minutes."""
    done = subprocess.run(
        [str(stub)],
        env=os.environ | {"LD_LIBRARY_PATH": _library_path(folders)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NOT_LOADED:
        said = done.stderr.strip()
        remedy = "Install the library"
        if "libpython" in said:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            remedy += (
                f" (on Debian and Ubuntu: apt-get install libpython{version}), or use a Python "
                "that was built with --enable-shared"
            )
        raise SetupError(f"Triton's Python backend cannot run here: {said}. {remedy}.")


def _library_path(folders: Sequence[Path]) -> str:
    return os.pathsep.join(
        filter(None, [*map(str, folders), os.environ.get("LD_LIBRARY_PATH", "")])
    )


def server_flags(
    models: Path, backends: Path, profile: str, shared_memory: str, ports: Ports, address: str
) -> list[str]:
    """The flags that tritonserver has wherever it runs.

    Args:
        models: the model repository.
        backends: the backend directory.
        profile: which ``configs/<profile>.pbtxt`` the engines use.
        shared_memory: what the names of its shared-memory regions begin with.
        ports: where it listens, no 0 among them.
        address: the address that it listens on.

    Raises:
        BundleError: the repository is not built.
    """
    return [
        f"--model-repository={models}",
        # Only what the bundle has is loaded; a model whose process died can be loaded again.
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in Bundle.read(models).models),
        f"--model-config-name={profile}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory}",
        *(f"--{name}-address={address}" for name in ("http", "grpc", "metrics")),
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
        # Its own log lines are text; these times are those of the models' lines of JSON.
        "--log-format=ISO8601",
        *(f"--{name}-header-forward-pattern=(?i){HEADER}" for name in ("http", "grpc")),
    ]


def triton_environment(
    installation: Installation, settings: Mapping[str, str], state: Path, profile: str
) -> dict[str, str]:
    """The server's environment: its libraries, this Python for its stubs, and the settings.

    The CPU is looked at here, once, so that not every model has to load OpenVINO for it.

    Args:
        installation: the server.
        settings: environment variables that win over those of this process.
        state: the state folder, where log entries wait unless the settings say otherwise.
        profile: what runs the engines.
    """
    environment = os.environ | {PROFILE: profile}
    if profile == CPU and (environment | dict(settings)).get(CPU_PRECISION, AUTO) in ("", AUTO):
        environment[CPU_PRECISION] = INT8 if int8_support().exact else FP32
    if not environment.get(LOG_QUEUE_FOLDER):
        environment[LOG_QUEUE_FOLDER] = str(state / "log-queue")
    environment["LD_LIBRARY_PATH"] = _library_path(installation.libraries)
    # The stub takes its packages from the first python3 on the PATH.
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", "")]
    )
    environment["PYTHONPATH"] = str(PROJECT)
    # numpy's own products here are tiny, and its idle threads would spin on the engines' CPUs.
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is larger goes back to the system when it is freed. By itself glibc would soon keep what
    # each thread has decoded: several times what PRODUCT_MATCH_DECODE_BYTES allows.
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(LARGE_BYTES))
    # So much each thread may keep, as by itself it would; else the first setting takes that away.
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(2 * LARGE_BYTES))
    # OpenMP, and with it FAISS, knows nothing of cgroups' quotas.
    environment.setdefault("OMP_NUM_THREADS", str(cpu_count()))
    return environment | dict(settings)


def remove_shared_memory(prefix: str) -> None:
    """Remove the regions of a server that has ended; a crash leaves them behind."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


@contextlib.contextmanager
def running_triton(
    repository: Path,
    state: Path,
    ports: Ports,
    settings: Mapping[str, str],
    flags: Sequence[str] = (),
    installation: Installation | None = None,
) -> Iterator[TritonServer]:
    """Run tritonserver on the CPU, with the models of the bundle, until the end of the block.

    Models can be unloaded and loaded while it runs, through Triton's repository API.

    Args:
        repository: the built model repository.
        state: folder for the backend directory and the log.
        ports: where to listen, on loopback only.
        settings: environment variables of ``bls_models.settings``.
        flags: further flags of tritonserver.
        installation: what ``find_installation`` found; None: it is looked for here.

    Raises:
        SetupError: a port is taken, or the server does not become ready.
        BundleError: the repository is not built.
    """
    installation = installation or find_installation(state)
    ports = ports.resolved()
    prefix = f"product_match_{uuid.uuid4().hex[:12]}_"
    with _plain_paths(models=repository, backends=installation.backends) as paths:
        running = TritonServer(
            [
                str(installation.program),
                *server_flags(paths / "models", paths / "backends", CPU, prefix, ports, LOOPBACK),
                "--exit-timeout-secs=20",
                *flags,
            ],
            triton_environment(installation, settings, state, CPU),
            state / "logs" / "triton.log",
            ports,
            prefix,
        )
        try:
            running.wait()
            yield running
        finally:
            running.stop()


@contextlib.contextmanager
def _plain_paths(**folders: Path) -> Iterator[Path]:
    """A folder with links to ``folders``, whose own path has no space or quote.

    The Python backend starts its stubs through a shell without quoting their paths.
    """
    with tempfile.TemporaryDirectory(prefix="product-match-") as plain:
        for name, folder in folders.items():
            (Path(plain) / name).symlink_to(folder.resolve(), target_is_directory=True)
        yield Path(plain)
