"""Addresses of servers that run already, as ``--url`` names them."""

from __future__ import annotations

from urllib.parse import urlsplit

from bls_models.errors import SetupError
from loadtest.http_load import Address


def address_from_url(url: str) -> Address:
    """Host and port of an ``http://`` address.

    Raises:
        SetupError: it is none.
    """
    return _host_and_port(url, "http", 80)


def grpc_address_from_url(url: str) -> str:
    """``host:port`` of a ``grpc://`` address.

    Raises:
        SetupError: it is none.
    """
    host, port = _host_and_port(url, "grpc", 8001)
    return f"{host}:{port}"


def _host_and_port(url: str, scheme: str, default_port: int) -> Address:
    parts = urlsplit(url)
    if parts.scheme != scheme or not parts.hostname:
        raise SetupError(f"--url {url!r} is not of the form {scheme}://host:port")
    return parts.hostname, parts.port or default_port
