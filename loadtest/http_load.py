"""A load generator that takes as little of the machine as it can from what it measures.

Requests are complete bytes, made once; a client is a thread with a kept-alive socket that writes
them and reads answers up to their length, looking at the status alone. Of the request's photo only
the serial number is new each time, so that caches are met as often as is asked for.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from loadtest.measurements import LoadError
from loadtest.photos import SERIAL_PREFIX, with_serial

TIMEOUT_SECONDS = 30.0
READ_BYTES = 65536
# One answer in so many is kept whole, to be looked into after the measurement.
KEEP_EVERY = 16

Address = tuple[str, int]


@dataclass(frozen=True)
class HttpAnswer:
    """One answer.

    Attributes:
        status: HTTP status.
        headers: by lower-case name.
        body: the content.
    """

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class LoadResult:
    """A round of load.

    Attributes:
        latencies_ms: of each request, milliseconds.
        seconds: from the first request's start to the last answer's end.
        cpu_ms: of this process, milliseconds.
        kept: one answer in ``KEEP_EVERY``.
        sent: which request each was, as its place among those to send.
    """

    latencies_ms: list[float]
    seconds: float
    cpu_ms: float
    kept: list[HttpAnswer]
    sent: list[int]


class PacedLoad:
    """Requests at a fixed rate over one connection, until it is closed.

    A request whose turn comes while another is under way waits for it.

    Args:
        address: host and port.
        requests: whole HTTP requests, each with a photo of ``read_photos``, sent in turn.
        rate: requests a second.
    """

    def __init__(self, address: Address, requests: Sequence[bytes], rate: float) -> None:
        self._client = _Client(address, requests, repeat_every=0)
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        start, count = time.perf_counter(), 0
        while not self._stop.wait(max(0.0, start + count / self._rate - time.perf_counter())):
            self._client.run_one()
            count += 1

    def close(self) -> int:
        """Stop; returns how many requests were answered.

        Raises:
            LoadError: one was not.
        """
        self._stop.set()
        self._thread.join()
        self._client.close()
        if self._client.error is not None:
            raise self._client.error
        return len(self._client.latencies_ms)


class HttpConnection:
    """One kept-alive connection.

    Raises:
        LoadError: nobody answers at the address.
    """

    def __init__(self, address: Address) -> None:
        try:
            self._socket = socket.create_connection(address, TIMEOUT_SECONDS)
        except OSError as error:
            raise LoadError(f"no server at {address[0]}:{address[1]}: {error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, request: bytes | bytearray) -> bytes:
        """Send a request and read its answer.

        Returns:
            The answer as it came, head and body.

        Raises:
            LoadError: the connection failed or was silent for ``TIMEOUT_SECONDS``, or the
                answer has no length.
        """
        try:
            return self._exchange(request)
        except OSError as error:
            raise LoadError(f"the connection failed: {error}") from error

    def _exchange(self, request: bytes | bytearray) -> bytes:
        self._socket.sendall(request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        missing = end + 4 + content_length(received[:end]) - len(received)
        while missing > 0:
            part = self._receive()
            received += part
            missing -= len(part)
        return received

    def _receive(self) -> bytes:
        part = self._socket.recv(READ_BYTES)
        if not part:
            raise LoadError("the server closed the connection before the end of an answer")
        return part


def answer_from_bytes(received: bytes) -> HttpAnswer:
    """Take an answer apart."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    return HttpAnswer(int(first.split(" ", 2)[1]), headers, body)


def run_load(
    address: Address,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    repeat_every: int = 0,
) -> LoadResult:
    """Load a server from ``clients`` connections in a closed loop.

    Args:
        address: host and port.
        requests: whole HTTP requests, sent in turn; their photos are of ``read_photos``.
        clients: connections, each with one request under way.
        seconds: no request starts after that long.
        repeat_every: one photo in so many is one that was sent before; 0: none is.

    Raises:
        LoadError: an answer's status was not 200, or a connection failed.
    """
    total = len(requests)
    starts = first_places(total, clients)
    workers = [_Client(address, [*requests[at:], *requests[:at]], repeat_every) for at in starts]
    cpu_start, start = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda worker: worker.run(start + seconds), workers))
    elapsed = time.perf_counter() - start
    cpu_ms = (time.process_time() - cpu_start) * 1e3
    for worker in workers:
        if worker.error is not None:
            raise LoadError(f"a request failed: {worker.error}") from worker.error
    return LoadResult(
        latencies_ms=[value for worker in workers for value in worker.latencies_ms],
        seconds=elapsed,
        cpu_ms=cpu_ms,
        kept=[answer_from_bytes(data) for worker in workers for data in worker.kept],
        sent=[
            (at + count) % total
            for at, worker in zip(starts, workers, strict=True)
            for count in range(len(worker.latencies_ms))
        ],
    )


def first_places(total: int, clients: int) -> list[int]:
    """Where each client begins, so that they do not all send the same at the same time.

    One further each than at equal distances: in a mix those may all be of one kind.
    """
    return [(number * total // clients + number) % total for number in range(clients)]


class _Client:
    """One connection and what it saw."""

    def __init__(self, address: Address, requests: Sequence[bytes], repeat_every: int) -> None:
        self._requests = requests
        self._repeat_every = repeat_every
        # No two clients, nor two runs of one, count through the same numbers.
        self._serial = secrets.randbits(63)
        self._connection = HttpConnection(address)
        self.latencies_ms: list[float] = []
        self.kept: list[bytes] = []
        self.error: LoadError | None = None

    def run(self, end: float) -> None:
        """Send one request after another until the end, or until one fails."""
        while self.error is None and time.perf_counter() < end:
            self.run_one()
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def run_one(self) -> None:
        """Send a request and note its latency, or the error; after an error do nothing."""
        if self.error is not None:
            return
        count, begin = len(self.latencies_ms), time.perf_counter()
        try:
            received = self._connection.send(self._request(count))
            if received[9:12] != b"200":
                raise LoadError(received[:1000].decode("utf-8", "replace"))
        except LoadError as error:
            self.error = error
            return
        self.latencies_ms.append((time.perf_counter() - begin) * 1e3)
        if count % KEEP_EVERY == 0:
            self.kept.append(received)

    def _request(self, count: int) -> bytes | bytearray:
        request = self._requests[count % len(self._requests)]
        repeats = self._repeat_every and count % self._repeat_every == 0
        if repeats or SERIAL_PREFIX not in request:
            return request
        self._serial += 1
        return with_serial(request, self._serial)


def content_length(head: bytes) -> int:
    """The length of an answer's body.

    Raises:
        LoadError: its head does not say.
    """
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        raise LoadError(f"an answer without Content-Length: {head[:200]!r}")
    return int(head[at + 17 :].split(b"\r\n", 1)[0])
