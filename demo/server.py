"""The page's connections to the server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from product_match_client import AsyncProductMatchClient
from product_match_client.credentials import API_KEY_HEADER

TIMEOUT_S = 60.0


class Server:
    """The server that the page is of, reached as any client reaches it.

    It belongs to the event loop of the page.

    Args:
        url: the server or its gateway, as the client takes it.
        api_key: the page's own key; empty: none is sent.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = url
        self._api_key = api_key
        self._client = self._open(api_key)

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

    async def close(self) -> None:
        """Close the page's own connections."""
        await self._client.close()
