"""What the tools are told when they are started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from product_match_client.client import DEFAULT_TIMEOUT_S, DEFAULT_URL

LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = (LOOPBACK, "localhost", "::1")


@dataclass(frozen=True)
class Options:
    """How the tools run.

    Attributes:
        url: the product matching server, as for `AsyncProductMatchClient`.
        timeout_s: seconds for a call of it.
        headers: sent with matches, which change nothing.
        ingest_headers: sent with writes; None: there are no writes.
        photos: a folder below which agents may name files; None: they may name none.
        port: of streamable HTTP; None: stdio.
        host: where that port is.
        token: what callers over HTTP must bring; empty: nothing.
    """

    url: str = DEFAULT_URL
    timeout_s: float = DEFAULT_TIMEOUT_S
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ingest_headers: Mapping[str, str] | None = field(default=None, repr=False)
    photos: Path | None = None
    port: int | None = None
    host: str = LOOPBACK
    token: str = field(default="", repr=False)
