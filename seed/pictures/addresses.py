"""Which addresses links may lead to: none of this machine's own network unless that is allowed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

# IPv4 addresses that a network of IPv6 alone translates (NAT64).
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


class ForbiddenAddressError(OSError):
    """A link leads to an address that is not public."""


def is_public(address: str) -> bool:
    """Whether an IP address is reachable for everyone; False for what is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in TRANSLATED:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def check_link(url: URL, allow_private: bool) -> None:
    """Check what an address says by itself; names are checked when they are resolved.

    Args:
        url: as it will be fetched; another parser may see another host.
        allow_private: whether hosts in private networks are allowed.

    Raises:
        ForbiddenAddressError: it is no http(s) address of a host, or that of a private one.
    """
    host = url.raw_host
    if url.scheme not in ("http", "https") or not host:
        raise ForbiddenAddressError(f"{str(url)[:200]} is no http or https address")
    if allow_private:
        return
    try:
        # As the system reads it, which also takes 127.1 and 2130706433.
        host = socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        if ":" not in host:
            return  # a name
    if not is_public(host):
        raise private_address(host)


def private_address(host: str) -> ForbiddenAddressError:
    """The error for a host within a private network."""
    return ForbiddenAddressError(
        f"{host} is a private address; --allow-private-links fetches from there as well"
    )


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses alone.

    The connection goes to the very address that was checked, so that a name which changes
    between check and use leads nowhere else.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            ForbiddenAddressError: one of them is private.
            OSError: the name is not known.
        """
        found: list[Any] = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family
        )
        results = []
        for kind, _, protocol, _, address in found:
            if not is_public(address[0]):
                raise private_address(f"{host} ({address[0]})")
            results.append(
                ResolveResult(
                    hostname=host,
                    host=address[0],
                    port=address[1],
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """There is nothing to close."""
