"""``python -m local_server.watched_server COMMAND...``: a container's first process.

It runs tritonserver and hands it the container's signals. When a model's process has died it ends
the server, which would neither start that again nor answer what it had taken: the connections end,
so that clients can ask again, and whoever runs the container starts it anew.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from local_server.model_processes import dead_model_processes
from local_server.processes import STOP_HURT_SECONDS

CHECK_SECONDS = 0.5


def run(command: Sequence[str]) -> int:
    """Run a server until it ends; returns its status, 1 if a model's process died.

    Args:
        command: tritonserver with its flags.
    """
    server: subprocess.Popen[bytes] | None = None
    stopping = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = number
        if server is not None:
            server.send_signal(number)

    # Before the server, as a container's first process is not ended by a signal otherwise.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server = subprocess.Popen(command)
    if stopping:
        server.send_signal(stopping)
    dead: set[int] = set()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = server.wait(CHECK_SECONDS)
            # As shells have it for one that a signal ended.
            return status if status >= 0 else 128 - status
        # What Triton itself ends, as when it unloads a model, is seen once at most.
        before, dead = dead, set(dead_model_processes(server.pid))
        if before & dead and not stopping:
            break
    print("error: a model's process has ended; ending the server", file=sys.stderr, flush=True)
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(STOP_HURT_SECONDS)
    server.kill()
    server.wait()
    return 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
