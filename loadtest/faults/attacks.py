"""Clients that send the worst that a request may hold, without a pause."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
import threading
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from bls_models.settings import Settings
from loadtest.faults.server import SAMPLE
from loadtest.photos import read_any_photos, with_serial
from loadtest.search_stalls import hostile_filter
from product_match_client import ClientError
from product_match_client.calls import Call, match_call, upsert_call
from product_match_client.transports import blocking_transport

CLIENTS = 4
# More than all that may be worked on and wait.
MANY_CLIENTS = 200
TIMEOUT_S = 60.0
# Of products that the attack writes again and again.
PRODUCTS = 20
# As many as a product may have.
ATTRIBUTES = 64
NAMES = 1000
# Pictures of a match.
BOMBS = 4
PNG_END_BYTES = 12

Calls = Callable[[int], Call[Any]]


def filter_call(number: int) -> Call[Any]:
    """A match under as many conditions as are allowed, on one field or on two in turn."""
    if number % 2:
        conditions = [
            {"name": {"$gt": f"product {at:04d}"}, "price": {"$gte": at}} for at in range(120)
        ]
        return match_call((), "red mug", filter={"$or": conditions}, caption="never")
    return match_call((), "red mug", filter=hostile_filter(NAMES), caption="never")


def photo_call(number: int) -> Call[Any]:
    """A match like any other, with a photo that was never sent."""
    photos = _photos()
    return match_call(bytes(with_serial(photos[number % len(photos)], uuid.uuid4().int >> 64)))


@functools.cache
def _photos() -> list[bytes]:
    return read_any_photos(SAMPLE / "images", 0)


def pixels_call(number: int) -> Call[Any]:
    """A match with small files of as many pixels as are allowed; none was ever sent before."""
    pictures = [_with_note(_pixel_bomb(), uuid.uuid4().bytes) for _ in range(BOMBS)]
    return match_call(pictures, caption="never")


@functools.cache
def _pixel_bomb() -> bytes:
    # One colour with transparency: the mode that takes the most of what decoding may take.
    buffer = io.BytesIO()
    side = math.isqrt(Settings().max_image_pixels)
    Image.new("P", (side, side)).save(buffer, "PNG", transparency=0)
    return buffer.getvalue()


def _with_note(png: bytes, note: bytes) -> bytes:
    """The file with a further chunk before its end, so that it is another file."""
    text = b"tEXtnote\0" + note.hex().encode()
    chunk = (len(text) - 4).to_bytes(4) + text + zlib.crc32(text).to_bytes(4)
    return png[:-PNG_END_BYTES] + chunk + png[-PNG_END_BYTES:]


def attribute_call(number: int) -> Call[Any]:
    """A product whose attributes have keys that no other product ever had."""
    attributes = {uuid.uuid4().hex: "x" for _ in range(ATTRIBUTES)}
    product = {"product_id": f"attack-{number % PRODUCTS}", "name": "Attack", "category": "attack"}
    return upsert_call({**product, "attributes": attributes})


class Attack:
    """Threads that send such calls until they are stopped; the answers are counted.

    Args:
        url: the server.
        calls: makes the call of a number, which counts up.
        clients: threads.

    Attributes:
        outcomes: how often each kind of answer came: ``ok``, or the error's status.
    """

    def __init__(self, url: str, calls: Calls, clients: int = CLIENTS) -> None:
        self._url = url
        self._calls = calls
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._send_on) for _ in range(clients)]

    @contextlib.contextmanager
    def running(self) -> Iterator[Attack]:
        """Send until the block ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _send_on(self) -> None:
        with contextlib.closing(blocking_transport(self._url, TIMEOUT_S)) as transport:
            while not self._stop.is_set():
                outcome = "ok"
                try:
                    transport.send(self._calls(next(self._numbers)))
                except ClientError as error:
                    outcome = str(error.status)
                self.outcomes[outcome] += 1
