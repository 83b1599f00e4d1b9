"""Serving the tools: over stdio, or over streamable HTTP."""

from __future__ import annotations

import hmac
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import ConfigDict
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from product_match_client.agent_tools import descriptions
from product_match_client.agent_tools.options import Options
from product_match_client.agent_tools.tools import ReadingTools, WritingTools
from product_match_client.client import AsyncProductMatchClient

NAME = "product-match"
# What the gateway takes of a request, unless it is told otherwise: two of the largest pictures.
LARGEST_BODY = 32 * 2**20

# What takes links reaches the open world.
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
READS_LINKS = ToolAnnotations(read_only_hint=True, open_world_hint=True)
# What is added takes the place of a product with the same id.
WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)


async def serve(options: Options) -> None:
    """Serve until the agent or a signal ends it.

    Raises:
        BadRequestError: the url, the time limit or a key cannot be used.
    """
    # Over stdio, stdout is the protocol's.
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    async with AsyncExitStack() as stack:
        reader = AsyncProductMatchClient(options.url, options.timeout_s, options.headers)
        tools = reading_tools(ReadingTools(await stack.enter_async_context(reader), options.photos))
        if options.ingest_headers is not None:
            writer = AsyncProductMatchClient(options.url, options.timeout_s, options.ingest_headers)
            await stack.enter_async_context(writer)
            tools += writing_tools(WritingTools(writer, options.photos))
        server = MCPServer(NAME, instructions=descriptions.INSTRUCTIONS, tools=tools)
        if options.port is None:
            # Python's own handler would wait for the thread that reads stdin.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            await server.run_stdio_async()
        else:
            await _serve_http(server, options, options.port)


def reading_tools(tools: ReadingTools) -> list[Tool]:
    """The tools that every key may use."""
    return [
        strict_tool(tools.match_product, descriptions.MATCH_PRODUCT, READS_LINKS),
        strict_tool(tools.more_like_this, descriptions.MORE_LIKE_THIS, READS),
        strict_tool(tools.get_product, descriptions.GET_PRODUCT, READS),
    ]


def writing_tools(tools: WritingTools) -> list[Tool]:
    """The tools that need a key which may write, where keys are asked for."""
    return [strict_tool(tools.add_product, descriptions.ADD_PRODUCT, WRITES)]


def strict_tool(
    function: Callable[..., Any], description: str, annotations: ToolAnnotations
) -> Tool:
    """A tool that refuses arguments it does not know, which the SDK would pass over in silence."""
    tool = Tool.from_function(function, description=description, annotations=annotations)
    known: Any = tool.fn_metadata.arg_model

    class Arguments(known):  # type: ignore[misc]
        model_config = ConfigDict(extra="forbid", title=known.__name__)

    tool.fn_metadata.arg_model = Arguments
    tool.parameters = Arguments.model_json_schema(by_alias=True)
    return tool


class BearerToken:
    """Lets those requests pass that bring the token, before anything of their body is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with 401."""
        if scope["type"] == "http" and not self._passes(scope):
            refusal = PlainTextResponse(
                "send the token as: Authorization: Bearer <token>",
                status_code=401,
                headers={"WWW-Authenticate": "Bearer"},
            )
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _passes(self, scope: Scope) -> bool:
        sent = Headers(scope=scope).get("authorization", "")
        # As it was on the wire.
        return hmac.compare_digest(sent.encode("latin-1"), self._expected)


async def _serve_http(server: MCPServer, options: Options, port: int) -> None:
    # Stateless, so that a client survives a restart; plain JSON, as there is nothing to stream and
    # clients bound the size of events.
    app = server.streamable_http_app(
        host=options.host,
        stateless_http=True,
        json_response=True,
        max_request_body_size=LARGEST_BODY,
    )
    if options.token:
        app.add_middleware(BearerToken, token=options.token)
    # The logging that is there goes to stderr.
    config = uvicorn.Config(app, host=options.host, port=port, log_config=None)
    await uvicorn.Server(config).serve()
