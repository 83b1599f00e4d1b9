"""Many clients at once that ask for everything a match can be asked, or go before their answer."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from bls_models.specs import SORTS
from loadtest.addresses import address_from_url
from loadtest.match_wire import request_from_photo
from loadtest.photos import scenes_from_photos, with_serial
from loadtest.traffic.mix import FACETS
from product_match_client import BadRequestError, ClientError, ServiceUnavailableError
from product_match_client.calls import Call, match_call
from product_match_client.transports import BlockingTransport, blocking_transport

# Far longer than any wait that the server itself allows.
TIMEOUT_S = 90.0
MOST_PHOTOS = 4
# Within which a client that gives up has gone: before, while or after its request is worked on.
GIVE_UP_SECONDS = 0.3

ANSWERED = "answered"
REFUSED = "refused"
BAD = "bad request"
GIVEN_UP = "given up"


class Storm:
    """Threads that send matches of all kinds until they are stopped; each answer is judged.

    Args:
        urls: the server's, HTTP first, then gRPC.
        photos: as ``read_any_photos`` gives them; each is sent with a number of its own.
        clients: threads.
        seed: of the choices.

    Attributes:
        outcomes: how often each kind of request came to what, as ``caption answered``. A refusal
            (503) is an answer.
        unanswered: requests without an answer, or with another than they must have.
    """

    def __init__(
        self, urls: tuple[str, str], photos: Sequence[bytes], clients: int, seed: int = 0
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.unanswered: list[str] = []
        self._photos = photos
        self._scenes = scenes_from_photos(photos)
        self._address = address_from_url(urls[0])
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._send_on, args=(urls[number % 2], random.Random(seed + number))
            )
            for number in range(clients)
        ]

    def __enter__(self) -> Storm:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send_on(self, url: str, choice: random.Random) -> None:
        with (
            contextlib.closing(blocking_transport(url, TIMEOUT_S)) as transport,
            contextlib.closing(blocking_transport(url, GIVE_UP_SECONDS)) as hasty,
        ):
            while not self._stop.is_set():
                kind = choice.choice(tuple(KINDS))
                if kind != GIVEN_UP:
                    photo = self._scene if kind == "objects" else self._photo
                    self._ask(transport, kind, KINDS[kind](choice, photo))
                elif choice.random() < 0.5:
                    self._hang_up(choice)
                else:
                    with contextlib.suppress(ClientError):
                        hasty.send(_photos_call(choice, self._photo))
                    self._count(kind)

    def _ask(self, transport: BlockingTransport, kind: str, call: Call[Any]) -> None:
        """Send one and judge its answer; ``failing`` ones must be told that they are."""
        outcome, note = ANSWERED, ""
        try:
            transport.send(call)
        except ServiceUnavailableError as error:
            # Without a status there was no answer.
            outcome, note = REFUSED, "" if error.status else str(error)
        except BadRequestError as error:
            outcome, note = BAD, str(error)
        except ClientError as error:
            outcome, note = type(error).__name__, str(error)
        expected = {BAD, REFUSED} if kind == "failing" else {ANSWERED, REFUSED}
        self._count(f"{kind} {outcome}")
        if outcome not in expected or (outcome == REFUSED and note):
            with self._lock:
                self.unanswered.append(f"{kind}: {outcome} {note}")

    def _hang_up(self, choice: random.Random) -> None:
        """Send one over HTTP and close the connection before its answer."""
        photo = self._photo(choice)
        with contextlib.suppress(OSError), socket.create_connection(self._address, TIMEOUT_S) as at:
            at.sendall(request_from_photo(photo, self._address, choice.choice(("never", "always"))))
            time.sleep(choice.uniform(0, GIVE_UP_SECONDS))
        self._count(GIVEN_UP)

    def _photo(self, choice: random.Random) -> bytes:
        return bytes(with_serial(choice.choice(self._photos), choice.getrandbits(63)))

    def _scene(self, choice: random.Random) -> bytes:
        return bytes(with_serial(choice.choice(self._scenes), choice.getrandbits(63)))

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1


Photo = Callable[[random.Random], bytes]


def _photos_call(choice: random.Random, photo: Photo) -> Call[Any]:
    photos = [photo(choice) for _ in range(choice.randint(2, MOST_PHOTOS))]
    weights = [choice.uniform(-0.5, 1) for _ in photos[1:]]
    return match_call(photos, "mug", image_weights=[1.0, *weights], caption="never")


def _objects_call(choice: random.Random, photo: Photo) -> Call[Any]:
    mode, most = choice.choice(("auto", "always")), choice.randint(1, 20)
    return match_call(photo(choice), caption="never", objects=mode, max_objects=most)


def _failing_call(choice: random.Random, photo: Photo) -> Call[Any]:
    if choice.random() < 0.5:
        return match_call([photo(choice), b"no picture"])
    return match_call(photo(choice), filter={"price": {"$near": 1}})


# What each kind asks for; one that gives up asks for photos.
KINDS: dict[str, Callable[[random.Random, Photo], Call[Any]]] = {
    "browsing": lambda choice, photo: match_call(
        photo(choice), facets=FACETS, sort=choice.choice(SORTS), caption="never"
    ),
    "caption": lambda choice, photo: match_call(photo(choice), caption="always"),
    "filter": lambda choice, photo: match_call(
        photo(choice), filter={"price": {"$lt": choice.uniform(5, 50)}}, caption="never"
    ),
    "objects": _objects_call,
    "photos": _photos_call,
    "words": lambda choice, photo: match_call((), f"mug {choice.randint(0, 9)}"),
    "failing": _failing_call,
    GIVEN_UP: _photos_call,
}
