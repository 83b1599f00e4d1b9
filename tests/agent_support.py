"""An agent's side of the tools: the SDK's own client, over stdio and over streamable HTTP."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ImageContent, TextContent
from serving_support import CALL_SECONDS, ROOT, WAIT_SECONDS

from local_server.processes import LOOPBACK, ManagedProcess, free_port

MODULE = "product_match_client.agent_tools"
READING = ["match_product", "more_like_this", "get_product"]
TOKEN_VARIABLE = "PRODUCT_MATCH_MCP_TOKEN"

Result = TypeVar("Result")


def environment(url: str, settings: dict[str, str]) -> dict[str, str]:
    """What the tools are started with; nothing of the settings here is theirs."""
    kept = {name: value for name, value in os.environ.items() if "PRODUCT_MATCH" not in name}
    own = {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "PRODUCT_MATCH_URL": url}
    return kept | own | settings


def over_stdio(
    ask: Callable[[Client], Awaitable[Result]], url: str, log: Path, *flags: str, **settings: str
) -> Result:
    """What an agent gets that starts the tools for itself."""

    async def run() -> Result:
        command = ["-m", MODULE, f"--timeout={CALL_SECONDS:.0f}", *flags]
        parameters = StdioServerParameters(
            command=sys.executable, args=command, env=environment(url, settings)
        )
        with log.open("a", encoding="utf-8") as stream:
            async with Client(stdio_client(parameters, stream)) as client:
                return await ask(client)

    return asyncio.run(run())


@contextmanager
def tools_over_http(
    url: str, folder: Path, *flags: str, **settings: str
) -> Iterator[tuple[str, ManagedProcess]]:
    """Run the tools on a port of this machine; gives the address of the endpoint."""
    port = free_port()
    command = [sys.executable, "-m", MODULE, f"--http={port}", *flags]
    process = ManagedProcess("tools", command, folder / "tools.log", environment(url, settings))
    try:
        process.wait_until(lambda: _listens(port), WAIT_SECONDS)
        yield f"http://{LOOPBACK}:{port}/mcp", process
    finally:
        process.stop()


def over_http(ask: Callable[[Client], Awaitable[Result]], endpoint: str, token: str = "") -> Result:
    """What an agent gets of tools that run already."""

    async def run() -> Result:
        async with _http_agent(endpoint, token) as client:
            return await ask(client)

    return asyncio.run(run())


def told(result: CallToolResult) -> str:
    """The texts of a result."""
    return "\n".join(item.text for item in result.content if isinstance(item, TextContent))


def shown(result: CallToolResult) -> list[bytes]:
    """The pictures of a result."""
    return [
        base64.b64decode(item.data) for item in result.content if isinstance(item, ImageContent)
    ]


def answered(result: CallToolResult) -> dict[str, Any]:
    """The structured content of a call that did not fail."""
    assert not result.is_error, told(result)
    assert result.structured_content is not None
    return result.structured_content


def found(result: CallToolResult) -> list[str]:
    """The ids of the matches."""
    return [match["product_id"] for match in answered(result)["matches"]]


@asynccontextmanager
async def _http_agent(endpoint: str, token: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with AsyncExitStack() as stack:
        http = httpx2.AsyncClient(headers=headers, timeout=CALL_SECONDS)
        await stack.enter_async_context(http)
        transport = streamable_http_client(endpoint, http_client=http)
        yield await stack.enter_async_context(Client(transport))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
