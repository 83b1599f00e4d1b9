"""Matches without captions beside a stream of requests that want one."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.http_load import Address, PacedLoad
from loadtest.match_wire import request_from_photo
from loadtest.measurements import Contestant, Measurement
from loadtest.photos import Photo
from loadtest.workers import Worker


class CaptionStream:
    """Requests for captions at a fixed rate, while it is told to.

    Args:
        address: the server's host and port.
        photos: what captions are asked for.
        rate: requests a second.
    """

    def __init__(self, address: Address, photos: Sequence[Photo], rate: float) -> None:
        self._address = address
        self._requests = [request_from_photo(item.data, address, "always") for item in photos]
        self._rate = rate

    def start(self) -> None:
        """Begin."""
        self._load = PacedLoad(self._address, self._requests, self._rate)

    def stop(self) -> int:
        """End; see ``PacedLoad.close``."""
        return self._load.close()


class BesideCaptions:
    """``product_match`` under its usual load, while captions are asked for at a fixed rate.

    Args:
        matches: the contestant whose requests want no captions.
        stream: sends those that do.
    """

    name = "beside_captions"

    def __init__(self, matches: Contestant, stream: Worker[CaptionStream]) -> None:
        self._matches = matches
        self._stream = stream
        self.captions = 0

    def first_matches(self) -> list[str]:
        """See ``loadtest.measurements.Contestant``."""
        return self._matches.first_matches()

    def measure(self, clients: int, seconds: float) -> Measurement:
        """Load the matches; see ``loadtest.measurements.Contestant``."""
        self._stream.call(CaptionStream.start)
        try:
            return self._matches.measure(clients, seconds)
        finally:
            self.captions += self._stream.call(CaptionStream.stop)
