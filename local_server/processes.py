"""Child processes: started with a log file, waited for, stopped for certain."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bls_models.errors import SetupError

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.1
LOG_TAIL_LINES = 15
# What a server that misses a part gets to end: enough for most of the requests under way, while
# clients wait for those that nobody answers any more.
STOP_HURT_SECONDS = 1.0


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Different TCP ports that nobody listens on now."""
    with contextlib.ExitStack() as probes:
        # All at a time: one that was let go may be given again.
        found = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in found:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in found]


def answers_ok(url: str, seconds: float) -> bool:
    """Whether a GET of an address is answered with 200 in time."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def check_port_free(port: int, what: str, flag: str) -> None:
    """Fail early where another process has the port.

    Raises:
        SetupError: with the flag that chooses another port.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise SetupError(
                f"port {port} for {what} is taken or not allowed ({error.strerror}); stop what "
                f"uses it, or choose another with {flag} (0: any free port)"
            ) from error


class ManagedProcess:
    """A child process with its output in a log file.

    Args:
        name: what it is called in messages.
        command: program and arguments.
        log: file for its output; replaced at every start.
        environment: the child's whole environment.
        stop_seconds: time it gets to end by itself before it is killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        stop_seconds: float = 20.0,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_seconds = stop_seconds
        log.parent.mkdir(parents=True, exist_ok=True)
        # Also when this process is killed outright, the child must not stay behind.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=dict(environment),
                # Ctrl-C in the terminal is for the runner, which stops its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """The last lines of its output."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for ``ready``.

        Raises:
            SetupError: the process ended, or was not ready in time.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise SetupError(
                    f"{self.name} ended with status {self._process.returncode} while starting; "
                    f"its log {self.log} ends with:\n{self.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise SetupError(
                    f"{self.name} was not ready after {seconds:.0f} s; "
                    f"its log {self.log} ends with:\n{self.log_tail()}"
                )
            time.sleep(POLL_SECONDS)

    def stop(self, seconds: float | None = None) -> None:
        """Ask it to end, and kill its whole group if it does not.

        Args:
            seconds: time it gets to end by itself, if another than usual.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_seconds if seconds is None else seconds)
        # Triton's Python stubs are children of its own in the same group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
