"""Pictures that rows link to, asked for again where the shop's server is busy."""

from __future__ import annotations

import asyncio
from pathlib import Path

from product_match_client import BadRequestError, ServiceUnavailableError, links
from seed.records import BadRowError
from seed.retries import Sleep

# Waits before a picture is asked for again, in seconds.
WAITS_S = (1.0, 5.0)


class LinkedPictures:
    """Fetches pictures into a folder, from which they are sent; an async context manager.

    Args:
        cache: the folder; None: the client's.
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
        self._pictures = links.LinkedPictures(cache, allow_private=allow_private)
        self._sleep = sleep

    async def __aenter__(self) -> LinkedPictures:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._pictures.__aexit__(*exception)

    async def fetch(self, url: str) -> Path:
        """The file of a linked picture.

        Raises:
            BadRowError: it cannot be fetched, is too large, or is no picture.
        """
        try:
            for wait_s in WAITS_S:
                try:
                    return await self._pictures.fetch(url)
                except ServiceUnavailableError:
                    await self._sleep(wait_s)
            return await self._pictures.fetch(url)
        except (BadRequestError, ServiceUnavailableError) as error:
            raise BadRowError(str(error)) from error
