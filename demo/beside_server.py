"""The local server that a page without another one belongs to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from bls_models.errors import SetupError
from local_server.options import PROJECT, Options
from local_server.running import find_running
from product_match_client import ProductMatchClient

LOOK_SECONDS = 0.5
STOP_SECONDS = 60


@contextlib.contextmanager
def local_url() -> Iterator[str]:
    """Where the local server of `STATE` answers; it is started if none runs, and then stopped too.

    Raises:
        SetupError: it cannot be started; its own output says why.
    """
    state = Options.from_environment().state_folder
    running = find_running(state)
    if running is not None:
        yield running.http_url
        return
    command = [sys.executable, "-m", "local_server", "run"]
    # A session of its own: Ctrl-C is for the page, which then stops the server.
    process = subprocess.Popen(command, cwd=PROJECT, start_new_session=True)
    try:
        while True:
            running = find_running(state)
            if running is not None and _answers(running.http_url):
                break
            if process.poll() is not None:
                raise SetupError("the server did not start; see above")
            time.sleep(LOOK_SECONDS)
        yield running.http_url
    finally:
        end(process, STOP_SECONDS)


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a process that leads a group to end, and kill the group if it does not in time."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    with ProductMatchClient(url, timeout_s=5) as client:
        return client.is_ready()
