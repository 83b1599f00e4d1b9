"""Pictures by link: fetched where the caller is, with limits, and kept until they change.

aiohttp is imported where a picture is fetched, so that the other kinds of pictures go without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import os
import re
import socket
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urljoin, urlsplit

from product_match_client.errors import BadRequestError, ServiceUnavailableError

if TYPE_CHECKING:
    import aiohttp

AT_ONCE = 4
# The server's own limit, unless its settings say otherwise.
LARGEST_PICTURE = 10 * 2**20
LONGEST_S = 30.0
# Of the pictures of single calls together; those of imports stay, for they come again.
MOST_KEPT_BYTES = 256 * 2**20
MOST_REDIRECTS = 5
REDIRECTED = frozenset({301, 302, 303, 307, 308})
# What another server may do better a moment later.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
HEADERS = {"User-Agent": "product-match", "Accept": "image/*"}
BLOCK_BYTES = 65536
LINK = re.compile(r"\s*https?://", re.IGNORECASE)
# What a gateway translates into IPv4: the last 32 bits are the address.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_link(source: object) -> TypeGuard[str]:
    """Whether a picture is given as an http(s) address."""
    return isinstance(source, str) and LINK.match(source) is not None


def default_cache() -> Path:
    """Where fetched pictures are kept for the next time."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    place = next((folder for folder in (base, *base.parents) if folder.is_dir()), base)
    # In a container the home may be read-only, or there may be none.
    if not base.is_absolute() or not os.access(place, os.W_OK):
        base = Path(tempfile.gettempdir())
    return base / "product-match" / "pictures"


def calls_cache() -> Path:
    """Where pictures of single calls are kept, `MOST_KEPT_BYTES` of them."""
    return default_cache().with_name("pictures-of-calls")


def fetch_pictures(urls: Sequence[str], allow_private: bool = False) -> list[bytes]:
    """Fetch linked pictures, a few at once, and wait for them.

    Args:
        urls: http(s) addresses.
        allow_private: whether they may lead to this machine and into private networks.

    Raises:
        BadRequestError: one cannot be fetched, is too large, or is no picture.
        ServiceUnavailableError: one cannot be fetched now.
    """
    if not urls:
        return []

    cache = calls_cache()

    async def fetch() -> list[Path]:
        async with LinkedPictures(cache, allow_private=allow_private) as pictures:
            return await asyncio.gather(*(pictures.fetch(url) for url in urls))

    # In a thread, because this one may be running an event loop.
    with ThreadPoolExecutor(1) as thread:
        files = [path.read_bytes() for path in thread.submit(asyncio.run, fetch()).result()]
    forget_oldest(cache, MOST_KEPT_BYTES)
    return files


def forget_oldest(cache: Path, most_bytes: int) -> None:
    """Remove the files that were not asked for the longest, to so many bytes in the folder."""
    # Others may remove them at the same time.
    with contextlib.suppress(OSError):
        found = [(path.stat(), path) for path in cache.iterdir()]
        files = sorted((about.st_mtime, about.st_size, path) for about, path in found)
        taken = sum(size for _, size, _ in files)
        for _, size, path in files:
            if taken <= most_bytes:
                return
            path.unlink(missing_ok=True)
            taken -= size


class LinkedPictures:
    """Fetches pictures into a folder. Use it as an async context manager, in one event loop.

    A picture that is there already is asked for by its ETag or date, and kept if it is the same.
    Nothing is retried.

    Args:
        cache: the folder; None: `default_cache`.
        allow_private: whether links may lead to this machine and into private networks. Each
            redirect is checked too, and it is the address of the connection that is checked, so
            that a name which changes its address leads nowhere else.
    """

    def __init__(self, cache: Path | None = None, *, allow_private: bool = False) -> None:
        self._cache = cache or default_cache()
        self._allow_private = allow_private
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._opened: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> LinkedPictures:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def fetch(self, url: str) -> Path:
        """The file of a linked picture.

        Raises:
            BadRequestError: it cannot be fetched, is too large, or is no picture.
            ServiceUnavailableError: it cannot be fetched now: no answer within 30 s, or one that
                asks to come back.
        """
        import aiohttp

        try:
            async with self._turns:
                return await self._fetch(url.strip())
        except (TimeoutError, aiohttp.ServerDisconnectedError) as error:
            message = f"the picture {url[:300]}: no answer within {LONGEST_S:.0f} s; try again"
            raise ServiceUnavailableError(message, url=url) from error
        except _PassingError as error:
            message = f"the picture {url[:300]}: {error}; try again later"
            raise ServiceUnavailableError(message, url=url) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp's own text does not say why a connection failed.
            reason = error.__cause__ or error
            raise BadRequestError(f"the picture {url[:300]}: {reason}", url=url) from error

    async def _fetch(self, url: str) -> Path:
        key = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        file, about = self._cache / key, self._cache / f"{key}.json"
        headers = HEADERS | (_conditions(about) if file.is_file() else {})
        address = url
        for _ in range(MOST_REDIRECTS + 1):
            if not is_link(address) or not urlsplit(address).hostname:
                raise ValueError(f"{address[:200]} is no http or https address")
            async with self._session().get(
                address, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status in REDIRECTED and "Location" in answer.headers:
                    address = urljoin(address, answer.headers["Location"])
                    continue
                if answer.status == 304 and file.is_file():
                    # The newest, so that nobody forgets it before it is read.
                    file.touch()
                    return file
                _check_answer(answer)
                await self._store(answer, file)
                about.write_text(json.dumps(_kept(answer.headers)), encoding="utf-8")
                return file
        raise ValueError(f"over {MOST_REDIRECTS} redirects")

    async def _store(self, answer: aiohttp.ClientResponse, file: Path) -> None:
        """Write the body beside the file and put it in its place, so that none is half written."""
        self._cache.mkdir(parents=True, exist_ok=True)
        size = 0
        with tempfile.NamedTemporaryFile(dir=self._cache, delete=False) as part:
            try:
                async for block in answer.content.iter_chunked(BLOCK_BYTES):
                    size += len(block)
                    if size > LARGEST_PICTURE:
                        raise _too_large(f"over {LARGEST_PICTURE}")
                    part.write(block)
                if not size:
                    raise ValueError("an empty answer; expected the picture")
                part.close()
                # First, so that a file without it is never taken for the one it describes.
                file.with_name(f"{file.name}.json").unlink(missing_ok=True)
                os.replace(part.name, file)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise

    def _session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=AT_ONCE, socket_factory=None if self._allow_private else public_socket
                ),
                timeout=aiohttp.ClientTimeout(total=LONGEST_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._opened


def public_socket(address_info: Any) -> socket.socket:
    """A socket to connect to one address, which is refused unless it is public.

    Args:
        address_info: as ``socket.getaddrinfo`` gives it.

    Raises:
        ForbiddenAddressError: the address is this machine's, or a private network's.
    """
    family, kind, protocol, _, (host, *_) = address_info
    if not is_public(host):
        raise ForbiddenAddressError(
            f"{host} is a private address; expected a public one, unless private links are allowed"
        )
    return socket.socket(family, kind, protocol)


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
        if ip in NAT64:
            inner = ipaddress.IPv4Address(ip.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class _PassingError(Exception):
    """A failure that may not come again."""


def _check_answer(answer: aiohttp.ClientResponse) -> None:
    said = f"{answer.status} {answer.reason or ''}".strip()
    if answer.status in PASSING:
        raise _PassingError(said)
    if answer.status != 200:
        raise ValueError(f"{said}; expected the picture")
    if answer.content_type.startswith("text/"):
        raise ValueError(f"is {answer.content_type}, not a picture; does the page need a login?")
    if (answer.content_length or 0) > LARGEST_PICTURE:
        raise _too_large(str(answer.content_length))


def _too_large(size: str) -> ValueError:
    return ValueError(f"{size} bytes; expected at most {LARGEST_PICTURE}, so send a smaller copy")


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """What is kept about a picture, to ask whether it has changed."""
    names = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
    return {ask: headers[said] for ask, said in names.items() if said in headers}


def _conditions(about: Path) -> dict[str, str]:
    try:
        kept = json.loads(about.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in kept.items()}
    except (OSError, ValueError, AttributeError):
        return {}  # asked for anew
