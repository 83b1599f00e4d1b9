"""Matches without captions beside a stream of requests that want one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from loadtest.http_load import Address, PacedLoad
from loadtest.match_wire import request_from_photo
from loadtest.measurements import Contestant, Measurement
from loadtest.photos import Photo

NAME = "beside_captions"


class BesideCaptions:
    """``product_match`` under its usual load, while captions are asked for at a fixed rate.

    Args:
        matches: the contestant whose requests want no captions.
        address: the server's host and port.
        photos: what captions are asked for.
        rate: caption requests a second.
        streamer: the process that sends them.
    """

    name = NAME

    def __init__(
        self,
        matches: Contestant,
        address: Address,
        photos: Sequence[Photo],
        rate: float,
        streamer: ProcessPoolExecutor,
    ) -> None:
        self._matches = matches
        self._address = address
        self._requests = [request_from_photo(item.data, address, "always") for item in photos]
        self._rate = rate
        self._streamer = streamer
        self.captions = 0

    def first_matches(self) -> list[str]:
        """See ``loadtest.measurements.Contestant``."""
        return self._matches.first_matches()

    def measure(self, clients: int, seconds: float) -> Measurement:
        """Load the matches; see ``loadtest.measurements.Contestant``."""
        self._streamer.submit(_start, self._address, self._requests, self._rate).result()
        try:
            return self._matches.measure(clients, seconds)
        finally:
            self.captions += self._streamer.submit(_stop).result()


# The one stream of the process that sends it.
_streams: list[PacedLoad] = []


def _start(address: Address, requests: Sequence[bytes], rate: float) -> None:
    _streams.append(PacedLoad(address, requests, rate))


def _stop() -> int:
    return _streams.pop().close()
