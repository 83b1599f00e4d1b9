"""Products' pictures, fetched from the server and put into the page itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from cachetools import LRUCache

from product_match_client import AsyncProductMatchClient
from product_match_client.errors import ClientError

SIZE = 320
MOST_BYTES = 64 * 2**20
AT_ONCE = 6
NO_PICTURE = "no picture"


@dataclass(frozen=True)
class Picture:
    """What there is to show of a picture.

    Attributes:
        url: the picture itself, as a ``data:`` URL; empty where there is none.
        reason: why there is none.
    """

    url: str = ""
    reason: str = NO_PICTURE

    def html(self, alt: str) -> str:
        """An ``<img>``, or a placeholder with the reason as its title."""
        if self.url:
            return f'<img class="pm-picture" src="{escape(self.url)}" alt="{escape(alt)}">'
        return (
            f'<span class="pm-picture pm-no-picture" role="img" aria-label="{escape(alt)}: '
            f'{escape(self.reason)}" title="{escape(self.reason)}"></span>'
        )


class Pictures:
    """A bounded cache of pictures by their sha256 and size; failures are not kept.

    Args:
        most_bytes: of the kept ``data:`` URLs together.
        at_once: pictures that are fetched at the same time, for all visitors together.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, at_once: int = AT_ONCE) -> None:
        self._kept: LRUCache[tuple[str, int], str] = LRUCache(most_bytes, getsizeof=len)
        self._turns = asyncio.Semaphore(at_once)

    async def fetch(
        self, client: AsyncProductMatchClient, sha256s: Iterable[str | None], size: int = SIZE
    ) -> dict[str | None, Picture]:
        """Pictures by their sha256, each fetched once; None stands for a product without any.

        Args:
            client: that may read pictures.
            sha256s: of stored pictures.
            size: longest side in pixels.
        """
        wanted = list(dict.fromkeys(sha256s))
        found = await asyncio.gather(*(self._picture(client, sha256, size) for sha256 in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _picture(
        self, client: AsyncProductMatchClient, sha256: str | None, size: int
    ) -> Picture:
        if sha256 is None:
            return Picture()
        url = self._kept.get((sha256, size))
        if url is None:
            try:
                async with self._turns:
                    picture = await client.picture(sha256=sha256, size=size)
            except ClientError as error:
                return Picture(reason=str(error))
            data = base64.b64encode(picture.data).decode()
            url = f"data:{picture.content_type};base64,{data}"
            # One that is larger than the whole cache is shown and not kept.
            if len(url) <= self._kept.maxsize:
                self._kept[sha256, size] = url
        return Picture(url, "")
