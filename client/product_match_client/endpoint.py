"""The address of a server."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from product_match_client.arguments import text_argument
from product_match_client.errors import BadRequestError

SCHEMES = {"http": False, "https": True, "grpc": False, "grpcs": True}


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens.

    Attributes:
        url: the whole URL, for messages.
        protocol: ``http`` or ``grpc``.
        secure: whether TLS is used.
        address: ``host:port``, for HTTP with the base path; what tritonclient calls its url.
    """

    url: str
    protocol: str
    secure: bool
    address: str


def endpoint_from_url(url: str) -> Endpoint:
    """Read ``http://``, ``https://``, ``grpc://`` and ``grpcs://``; no scheme means HTTP.

    Raises:
        BadRequestError: the URL is no text, or has another scheme, no host, or parts that have no
            meaning.
    """
    if "://" not in text_argument("url", url):
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadRequestError(f"url {url!r}: {error}") from error
    path = parts.path.rstrip("/")
    if parts.scheme not in SCHEMES:
        raise BadRequestError(
            f"url {url!r}: the scheme is {parts.scheme!r}; expected one of {', '.join(SCHEMES)}"
        )
    if not parts.hostname:
        raise BadRequestError(f"url {url!r}: there is no host; expected e.g. http://127.0.0.1:8000")
    if "@" in parts.netloc:
        raise BadRequestError("the url holds a user name; send credentials with headers=")
    if parts.query or parts.fragment:
        raise BadRequestError(f"url {url!r}: a query or fragment has no meaning here")
    protocol = parts.scheme.removesuffix("s")
    if protocol == "grpc" and (path or port is None):
        raise BadRequestError(
            f"url {url!r}: gRPC takes a host and a port, e.g. grpc://127.0.0.1:8001"
        )
    return Endpoint(url, protocol, SCHEMES[parts.scheme], parts.netloc + path)
