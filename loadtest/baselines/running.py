"""Baselines as running services, and as contestants of the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bls_models.errors import SetupError
from loadtest.baselines import tuned
from loadtest.baselines.parts import REPOSITORY_VARIABLE
from loadtest.http_load import Address, HttpAnswer
from loadtest.photos import Photo
from loadtest.processes import ProcessTrees
from loadtest.served import AnswerFacts, ServedContestant
from local_server.options import PROJECT
from local_server.processes import LOOPBACK, ManagedProcess, answers_ok, free_port
from local_server.temporary_stack import SERVING, Stack

START_SECONDS = 60.0
PROBE_SECONDS = 2.0

BASELINES = ("usual", "tuned")


@contextlib.contextmanager
def baseline(
    name: str,
    stack: Stack,
    repository: Path,
    photos: Sequence[Photo],
    generator: ProcessPoolExecutor,
) -> Iterator[ServedContestant]:
    """Run a baseline on the products that a server has stored.

    Args:
        name: one of ``BASELINES``.
        stack: the server, whose database it reads.
        repository: the built model repository whose graph it runs.
        photos: the queries.
        generator: the process that sends the load.

    Raises:
        SetupError: the database is not known, or the service does not start.
    """
    if not stack.mongodb_uri:
        raise SetupError(
            f"the baseline {name!r} reads the running server's products: name its database with "
            "--mongodb-uri or MONGODB_URI, or leave the baselines out with --contestants raw"
        )
    with running_baseline(name, stack.mongodb_uri, repository) as (address, process):
        trees = ProcessTrees({**_others(stack), SERVING: process.pid})
        requests = [request_from_photo(photo.data, address) for photo in photos]
        yield ServedContestant(name, address, requests, facts_from_answer, trees, generator)


@contextlib.contextmanager
def running_baseline(
    name: str, mongodb_uri: str, repository: Path
) -> Iterator[tuple[Address, ManagedProcess]]:
    """Run a baseline on a free port.

    Yields:
        Its address and its process.

    Raises:
        SetupError: it does not start.
    """
    address = (LOOPBACK, free_port())
    with tempfile.TemporaryDirectory(prefix=f"product-match-{name}-") as folder:
        process = ManagedProcess(
            f"the baseline {name!r}",
            [
                *(sys.executable, "-m", "uvicorn", "--factory"),
                f"loadtest.baselines.{name}:create_app",
                *("--host", address[0], "--port", str(address[1])),
                *("--workers", str(tuned.worker_count() if name == "tuned" else 1)),
                *("--loop", "uvloop", "--http", "httptools"),
                *("--no-access-log", "--log-level", "warning"),
            ],
            Path(folder) / "uvicorn.log",
            {
                **os.environ,
                "PYTHONPATH": str(PROJECT),
                "MONGODB_URI": mongodb_uri,
                REPOSITORY_VARIABLE: str(repository.resolve()),
            },
        )
        try:
            url = f"http://{address[0]}:{address[1]}/openapi.json"
            process.wait_until(lambda: answers_ok(url, PROBE_SECONDS), START_SECONDS)
            yield address, process
        finally:
            process.stop()


def request_from_photo(photo: bytes, address: Address) -> bytes:
    """The request that a client sends for one photo, head and body."""
    head = (
        "POST /match HTTP/1.1\r\n"
        f"Host: {address[0]}:{address[1]}\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Content-Length: {len(photo)}\r\n\r\n"
    )
    return head.encode("ascii") + photo


def facts_from_answer(answer: HttpAnswer) -> AnswerFacts:
    """What the benchmark looks at in an answer of status 200."""
    matches = json.loads(answer.body)["matches"]
    return AnswerFacts(matches[0]["product_id"] if matches else "", {})


def _others(stack: Stack) -> dict[str, int]:
    return {name: pid for name, pid in stack.roots.items() if name != SERVING}
