"""The page's connections to the server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from demo.pictures import Pictures
from product_match_client import AsyncProductMatchClient
from product_match_client.credentials import API_KEY_HEADER

TIMEOUT_S = 60.0


class Server:
    """The server that the page is of, reached as any client reaches it.

    It belongs to the event loop of the page.

    Args:
        url: the server or its gateway, as the client takes it.
        api_key: the page's own key; empty: none is sent.
        shown_url: how visitors reach it, for what they copy; empty: as the page does.

    Attributes:
        pictures: products' pictures, kept for all visitors.
    """

    def __init__(self, url: str, api_key: str = "", shown_url: str = "") -> None:
        self.url = url
        self.shown_url = shown_url or url
        self._api_key = api_key
        self._client = self._open(api_key)
        self.pictures = Pictures()

    def _open(self, key: str) -> AsyncProductMatchClient:
        headers = {API_KEY_HEADER: key} if key else {}
        return AsyncProductMatchClient(self.url, timeout_s=TIMEOUT_S, headers=headers)

    @property
    def needs_key(self) -> bool:
        """Whether requests carry a key, as those to a gateway do."""
        return bool(self._api_key)

    @contextlib.asynccontextmanager
    async def client(self, typed_key: str = "") -> AsyncIterator[AsyncProductMatchClient]:
        """A client with the page's own key, or with one that somebody typed.

        A typed key has a client of its own, closed with the block, so that no key outlives what it
        was typed for.

        Raises:
            BadRequestError: the key cannot stand in a header.
        """
        key = typed_key.strip()
        if not key or key == self._api_key:
            yield self._client
            return
        async with self._open(key) as client:
            yield client

    def separate_client(self, typed_key: str = "") -> AsyncProductMatchClient:
        """A client as of `client`, for another event loop, where the caller closes it.

        Raises:
            BadRequestError: the key cannot stand in a header.
        """
        return self._open(typed_key.strip() or self._api_key)

    async def close(self) -> None:
        """Close the page's own connections."""
        await self._client.close()
