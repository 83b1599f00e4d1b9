"""Load in which every request has an id, and what became of it is kept."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from loadtest.photos import with_serial
from product_match_client import ClientError, IngestResult, MatchResult
from product_match_client.calls import Call, delete_call, match_call, upsert_call
from product_match_client.transports import BlockingTransport, blocking_transport

Result = TypeVar("Result", MatchResult, IngestResult)

# Longer than any wait that the server itself allows.
TIMEOUT_S = 30.0
# A little rest, so that a closed loop does not take all of a small machine.
PAUSE_S = 0.02
WRITE_PAUSE_S = 0.1
WORDS = ("red mug", "blue ball", "a lamp", "something for the kitchen", "striped", "toy")

# Of Triton's own errors: the name of a process, a queue that is full, a wait that was too long.
OF_TRITON = ("product_match_", "maximum queue size", "timeout expired")

ANSWERED = "answered"
DEGRADED = "degraded"
REFUSED = "refused"
FAILED = "failed"
MATCH = "match"


@dataclass(frozen=True)
class Sent:
    """One request and its outcome.

    Attributes:
        operation: ``match``, ``upsert`` or ``delete``.
        request_id: its own.
        began: by ``time.monotonic``.
        ended: likewise.
        outcome: ``answered``; ``degraded`` (a part of the answer is missing); ``refused`` (the
            model answered with an error); ``failed`` (no answer, or an error of Triton's own, as of
            a full queue).
        note: the degraded parts, or the error.
    """

    operation: str
    request_id: str
    began: float
    ended: float
    outcome: str
    note: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether a model answered it, so that it must be in the log."""
        return self.outcome != FAILED


class Traffic:
    """Threads that match photos and words, and one that writes and deletes products of its own.

    Args:
        url: the server, ``http://`` or ``grpc://``.
        photos: as ``read_any_photos`` gives them; each is sent with a number of its own.
        clients: threads that match.
        captions: the share of the photos for which a caption is asked.
        seed: of the choices.
    """

    def __init__(
        self, url: str, photos: Sequence[bytes], clients: int, captions: float, seed: int = 0
    ) -> None:
        self._url = url
        self._photos = photos
        self._captions = captions
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.sent: list[Sent] = []
        # What the writer's products must be: the revision, None for one that is deleted.
        # Products of writes without an answer are in neither state for certain.
        self.products: dict[str, int | None] = {}
        self.uncertain: set[str] = set()
        self._prefix = uuid.uuid4().hex[:12]
        self._threads = [
            threading.Thread(target=self._match_on, args=(random.Random(seed + number),))
            for number in range(clients)
        ]
        self._threads.append(threading.Thread(target=self._write_on, args=(random.Random(seed),)))

    def __enter__(self) -> Traffic:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the requests under way end, and stop."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(
        self, transport: BlockingTransport, operation: str, call: Call[Result]
    ) -> Result | None:
        """Send a call with an id of its own, note what became of it; None if it failed."""
        request_id, began = self._next_id(), time.monotonic()
        result = None
        try:
            answer = result = transport.send(replace(call, request_id=request_id))
            note = ", ".join(answer.details.get("degraded", ()))
            outcome = DEGRADED if note else ANSWERED
        except ClientError as error:
            outcome, note = _outcome(error), str(error)
        ended = time.monotonic()
        with self._lock:
            self.sent.append(Sent(operation, request_id, began, ended, outcome, note))
        return result

    def _next_id(self) -> str:
        return f"{self._prefix}-{uuid.uuid4().hex[:12]}"

    def _photo(self, choice: random.Random) -> bytes:
        return bytes(with_serial(choice.choice(self._photos), choice.getrandbits(63)))

    @contextlib.contextmanager
    def _transport(self) -> Iterator[BlockingTransport]:
        with contextlib.closing(blocking_transport(self._url, TIMEOUT_S)) as transport:
            yield transport

    def _match_on(self, choice: random.Random) -> None:
        with self._transport() as transport:
            while not self._stop.wait(PAUSE_S):
                photo = [self._photo(choice)] if choice.random() < 0.8 else []
                words = [] if photo and choice.random() < 0.7 else [choice.choice(WORDS)]
                caption = "always" if photo and choice.random() < self._captions else "never"
                self._send(transport, MATCH, match_call(photo, words, caption=caption))

    def _write_on(self, choice: random.Random) -> None:
        with self._transport() as transport:
            while not self._stop.wait(WRITE_PAUSE_S):
                known = [key for key, revision in self.products.items() if revision]
                kind = choice.random()
                if known and kind < 0.2:
                    self._write(transport, "delete", choice.choice(known), choice)
                elif known and kind < 0.5:
                    self._write(transport, "upsert", choice.choice(known), choice)
                else:
                    self._write(transport, "upsert", f"load-{self._next_id()}", choice)

    def _write(
        self,
        transport: BlockingTransport,
        operation: str,
        product_id: str,
        choice: random.Random,
    ) -> None:
        if operation == "delete":
            call = delete_call(product_id)
        else:
            product = {
                "product_id": product_id,
                "name": f"Load {choice.getrandbits(32):08x}",
                "category": "load",
                "price": round(choice.uniform(1, 99), 2),
            }
            call = upsert_call(product, self._photo(choice))
        result = self._send(transport, operation, call)
        if result is None:
            self.uncertain.add(product_id)
        else:
            self.products[product_id] = result.revision or None
            self.uncertain.discard(product_id)


def _outcome(error: ClientError) -> str:
    """Triton answers for a model that is gone, and where too many wait, without asking the model.

    What a model itself refuses it answers with 503.
    """
    own = "cannot answer now" in str(error) and not any(word in str(error) for word in OF_TRITON)
    return REFUSED if own and error.status in ("503", "StatusCode.UNAVAILABLE") else FAILED
