"""A Docker engine of the tests' own, on a Unix socket in a folder of theirs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving_support import ROOT

from local_server.processes import ManagedProcess

PROGRAMS = ("dockerd", "containerd", "runc", "iptables")
INSTALL = "apt-get install --no-install-recommends docker.io iptables"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
LOCK = Path(tempfile.gettempdir(), "product-match-containers.lock")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class Engine:
    """A running engine.

    Args:
        folder: an empty one, with a short path, as a socket's may have 107 bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plugins = folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(Path(sys.executable).with_name("docker-compose"))
        self.environment = os.environ | {
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "DOCKER_CONFIG": str(folder / "config"),
            # For clients that have it without buildx.
            "DOCKER_BUILDKIT": "1",
        }
        self.log = folder / "dockerd.log"
        self._process = ManagedProcess(
            "dockerd",
            [
                "dockerd",
                *("--host", f"unix://{folder}/docker.sock"),
                *("--data-root", str(folder / "root")),
                *("--exec-root", str(folder / "exec")),
                *("--pidfile", str(folder / "docker.pid")),
                # Another engine may have the usual bridge; Compose makes its own.
                *("--bridge", "none"),
                "--ip6tables=false",
            ],
            self.log,
            self.environment,
            STOP_SECONDS,
        )
        try:
            self._process.wait_until(self._answers, START_SECONDS)
            self.environment["PATH"] = self._path()
        except BaseException:
            self._process.stop()
            raise

    def _answers(self) -> bool:
        done = self._run(["docker", "version"])
        return done.returncode == 0

    def _path(self) -> str:
        """The PATH with a client of Docker's first that can build here, of those on it."""
        path, said = os.environ["PATH"], "docker is missing"
        for folder in path.split(os.pathsep):
            if Path(folder, "docker").is_file():
                first = f"{folder}{os.pathsep}{path}"
                done = subprocess.run(
                    [str(ROOT / "docker" / "check-engine.sh")],
                    env=self.environment | {"PATH": first},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode == 0:
                    return first
                said = done.stderr
        raise AssertionError(f"{said}; {INSTALL}")

    def docker(self, *arguments: str, seconds: float | None = None) -> str:
        """The output of a command of Docker's.

        Raises:
            AssertionError: it failed; the message is what it said.
        """
        done = self._run(["docker", *arguments], seconds)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout

    def _run(
        self, command: Sequence[str], seconds: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def run(self, command: Sequence[str], folder: Path, log: Path) -> None:
        """Run a command that takes long; its output goes to a file.

        Raises:
            AssertionError: it failed; the message is the end of what it said.
        """
        began = time.monotonic()
        with log.open("a", encoding="utf-8") as output:
            output.write(f"$ {' '.join(command)}\n")
            output.flush()
            done = subprocess.run(
                command,
                cwd=folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        print(f"{time.monotonic() - began:.0f} s: {' '.join(command)[:100]}")
        said = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}\n{said}"

    def stop(self) -> None:
        """End it, with all containers and networks."""
        try:
            containers = self.docker("ps", "--all", "--quiet").split()
            if containers:
                self.docker("rm", "--force", *containers)
            self.docker("network", "prune", "--force")
        finally:
            self._process.stop()


def _run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return done.stdout


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """An engine until the end of the block; the machine's forwarding is then as it was.

    Raises:
        AssertionError: this is not root, or programs are missing.
    """
    assert os.geteuid() == 0, "Docker's engine needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    assert not missing, f"{', '.join(missing)} missing; install: {INSTALL}"
    with LOCK.open("w") as lock:
        # Each would take the other's rules away.
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = Path(tempfile.mkdtemp(prefix="containers-"))
        forwarding = FORWARDING.read_text(encoding="utf-8")
        policy = _run("iptables", "--list-rules", "FORWARD").splitlines()[0].split()
        try:
            engine = Engine(folder)
            try:
                yield engine
            finally:
                engine.stop()
        finally:
            # The engine leaves its rules, and a policy that drops what others forward.
            rules = _run("iptables-save").splitlines(keepends=True)
            kept = "".join(line for line in rules if "DOCKER" not in line)
            _run("iptables-restore", text=kept)
            _run("iptables", *policy)
            FORWARDING.write_text(forwarding, encoding="utf-8")
            shutil.rmtree(folder)
        left = _run("iptables-save")
        assert "DOCKER" not in left, left
