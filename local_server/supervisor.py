"""Brings back what dies in a local server: a model's process, or Triton itself."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import threading
import time
import urllib.error
import urllib.request

from bls_models.errors import SetupError
from bls_models.specs import PRODUCT_MATCH
from local_server.model_processes import model_processes
from local_server.probe import LIVE, problem
from local_server.triton import TritonServer
from reporting.progress import Report

CHECK_SECONDS = 0.5
# A match is asked for this often, and waited for so long. After so many failures in a row Triton
# is started again.
PROBE_EVERY_SECONDS = 5.0
PROBE_SECONDS = 10.0
FAILURES = 3
LOAD_SECONDS = 120.0
# Where it dies more often than that, a further restart does not help.
MOST_RESTARTS = 5
RESTARTS_WITHIN_SECONDS = 600.0


class Supervisor:
    """Watches a Triton and mends it.

    - A model whose process has ended is unloaded and loaded again; the others go on.
    - A Triton that has ended, that cannot load a model again, or that does not answer matches for
      three probes in a row, is started again. So is one of whose ``product_match`` a process has
      ended: it would never answer the requests that this had taken, and keep them waiting.

    Args:
        triton: what to watch.
        report: called with a line on each step.
    """

    def __init__(self, triton: TritonServer, report: Report) -> None:
        self._triton = triton
        self._report = report
        self._seen: dict[int, str] = {}
        self._failures = 0
        self._probe_at = time.monotonic() + PROBE_EVERY_SECONDS
        self._restarts: collections.deque[float] = collections.deque(maxlen=MOST_RESTARTS)

    def watch(self, stop: threading.Event) -> None:
        """Watch until told to stop.

        Raises:
            SetupError: Triton cannot be started again, or ends again and again.
        """
        while not stop.wait(CHECK_SECONDS):
            self.check()

    def check(self) -> None:
        """Look once, and mend what is found.

        Raises:
            SetupError: see ``watch``.
        """
        living = model_processes(self._triton.process.pid)
        # In this order: when Triton dies its models' processes follow.
        if not self._triton.alive:
            self._restart("tritonserver ended by itself")
            return
        dead = {model for pid, model in self._seen.items() if pid not in living}
        self._seen = living
        if PRODUCT_MATCH.name in dead:
            self._restart("a process of product_match has ended, and clients wait for its answers")
            return
        for model in sorted(dead):
            if not self._load_again(model):
                return
        if time.monotonic() >= self._probe_at:
            self._probe()
            self._probe_at = time.monotonic() + PROBE_EVERY_SECONDS

    def _probe(self) -> None:
        reason = problem(self._triton.http_url, LIVE, PROBE_SECONDS)
        if not reason:
            self._failures = 0
            return
        self._failures += 1
        self._report(f"no match ({self._failures} of {FAILURES}): {reason}")
        if self._failures >= FAILURES:
            self._restart("tritonserver answers no matches")

    def _load_again(self, model: str) -> bool:
        """Load a model anew whose process has ended; False if all of Triton had to start again."""
        self._report(f"a process of {model} has ended; loading the model again")
        # Triton forgets, but does not end, the others of a model of which one has died.
        for pid, name in model_processes(self._triton.process.pid).items():
            if name == model:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        start = time.monotonic()
        try:
            self._change(model, "unload")
            while self._is_ready(model):
                if time.monotonic() > start + LOAD_SECONDS:
                    raise TimeoutError(f"{model} was not unloaded in {LOAD_SECONDS:.0f} s")
                time.sleep(CHECK_SECONDS / 5)
            self._change(model, "load")
        except OSError as error:
            self._restart(f"{model} could not be loaded again ({error})")
            return False
        self._seen = model_processes(self._triton.process.pid)
        self._report(f"{model} is loaded again, after {time.monotonic() - start:.1f} s")
        return True

    def _change(self, model: str, action: str) -> None:
        url = f"{self._triton.http_url}/v2/repository/models/{model}/{action}"
        request = urllib.request.Request(url, data=b"{}", method="POST")
        with urllib.request.urlopen(request, timeout=LOAD_SECONDS):
            pass

    def _is_ready(self, model: str) -> bool:
        url = f"{self._triton.http_url}/v2/models/{model}/ready"
        try:
            with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False

    def _restart(self, reason: str) -> None:
        now = time.monotonic()
        many = len(self._restarts) == MOST_RESTARTS
        if many and now - self._restarts[0] < RESTARTS_WITHIN_SECONDS:
            raise SetupError(
                f"{reason}, after {MOST_RESTARTS} restarts in "
                f"{RESTARTS_WITHIN_SECONDS / 60:.0f} minutes; its log {self._triton.log} ends "
                f"with:\n{self._triton.process.log_tail()}"
            )
        self._restarts.append(now)
        self._report(f"{reason}; starting it again")
        self._triton.restart()
        self._seen = model_processes(self._triton.process.pid)
        self._failures = 0
        self._report(f"tritonserver serves again, after {time.monotonic() - now:.1f} s")
