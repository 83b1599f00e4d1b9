"""Fetching linked pictures: a few at once, with limits, and only what has changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import aiohttp
from yarl import URL

from seed.pictures.addresses import PublicResolver, check_link
from seed.records import BadRowError
from seed.retries import Sleep

AT_ONCE = 4
LARGEST_PICTURE = 32 * 1024 * 1024
LONGEST_S = 60.0
REDIRECTS = 5
REDIRECTED = frozenset({301, 302, 303, 307, 308})
# What a shop's server may do better a moment later, and how long that is given.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
WAITS_S = (1.0, 5.0)
HEADERS = {"User-Agent": "product-match-importer", "Accept": "image/*"}
BLOCK = 65536


def default_cache() -> Path:
    """Where fetched pictures are kept from one import to the next."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    place = next((folder for folder in (base, *base.parents) if folder.is_dir()), base)
    # In a container the home may be read-only, or there may be none.
    if not base.is_absolute() or not os.access(place, os.W_OK):
        base = Path(tempfile.gettempdir())
    return base / "product-match" / "pictures"


class LinkedPictures:
    """Fetches pictures into a folder, from which they are sent.

    A picture that is there already is asked for by its ETag or date, and kept if it is the same.

    Args:
        cache: the folder; None: `default_cache`.
        allow_private: whether links may lead into private networks.
        sleep: waits before a picture is asked for again.
    """

    def __init__(
        self,
        cache: Path | None = None,
        *,
        allow_private: bool = False,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._cache = cache or default_cache()
        self._allow_private = allow_private
        self._sleep = sleep
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> LinkedPictures:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str) -> Path:
        """The file of a linked picture.

        Raises:
            BadRowError: it cannot be fetched, is too large, or is no picture.
        """
        async with self._turns:
            for wait_s in (*WAITS_S, None):
                try:
                    return await self._fetch(url)
                except _PassingError as error:
                    problem = str(error)
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    cause = error.__cause__ if isinstance(error, aiohttp.ClientError) else None
                    raise BadRowError(f"the picture {url[:300]}: {cause or error}") from error
                if wait_s is not None:
                    await self._sleep(wait_s)
        raise BadRowError(f"the picture {url[:300]}: {problem}")

    async def _fetch(self, url: str) -> Path:
        key = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        file, about = self._cache / key, self._cache / f"{key}.json"
        headers = {**HEADERS, **(_conditions(about) if file.is_file() else {})}
        address = URL(url.strip())
        for _ in range(REDIRECTS + 1):
            check_link(address, self._allow_private)
            try:
                async with self._opened().get(
                    address, headers=headers, allow_redirects=False
                ) as answer:
                    if answer.status in REDIRECTED and "Location" in answer.headers:
                        address = address.join(URL(answer.headers["Location"]))
                        continue
                    if answer.status == 304 and file.is_file():
                        return file
                    _check_answer(answer)
                    await self._store(answer, file)
                    about.write_text(json.dumps(_kept(answer.headers, url)), encoding="utf-8")
                    return file
            except (TimeoutError, aiohttp.ServerDisconnectedError) as error:
                raise _PassingError(f"no answer within {LONGEST_S:.0f} s") from error
        raise BadRowError(f"the picture {url[:300]}: over {REDIRECTS} redirects")

    async def _store(self, answer: aiohttp.ClientResponse, file: Path) -> None:
        """Write the body beside the file and put it in its place, so that none is half written."""
        self._cache.mkdir(parents=True, exist_ok=True)
        size = 0
        with tempfile.NamedTemporaryFile(dir=self._cache, delete=False) as part:
            try:
                async for block in answer.content.iter_chunked(BLOCK):
                    size += len(block)
                    if size > LARGEST_PICTURE:
                        raise ValueError(f"over {LARGEST_PICTURE} bytes")
                    part.write(block)
                if not size:
                    raise ValueError("an empty answer")
                part.close()
                # First, so that a file without it is never taken for the one it describes.
                (self._cache / f"{file.name}.json").unlink(missing_ok=True)
                os.replace(part.name, file)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = None if self._allow_private else PublicResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=AT_ONCE, resolver=resolver),
                timeout=aiohttp.ClientTimeout(total=LONGEST_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


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
        raise ValueError(f"{answer.content_length} bytes; expected at most {LARGEST_PICTURE}")


def _kept(headers: Mapping[str, str], url: str) -> dict[str, str]:
    """What is kept about a picture, to ask whether it has changed."""
    names = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
    return {"url": url} | {ask: headers[said] for ask, said in names.items() if said in headers}


def _conditions(about: Path) -> dict[str, str]:
    try:
        kept = json.loads(about.read_text(encoding="utf-8"))
        return {name: str(kept[name]) for name in kept if name.startswith("If-")}
    except (OSError, ValueError, TypeError):
        return {}  # asked for anew
