"""The ``product-match-mcp`` command."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from product_match_client.agent_tools.options import LOOPBACK, LOOPBACK_HOSTS, Options
from product_match_client.client import DEFAULT_TIMEOUT_S, DEFAULT_URL
from product_match_client.credentials import (
    API_KEY_HEADER,
    API_KEY_VARIABLE,
    headers_from_environment,
)
from product_match_client.errors import BadRequestError
from product_match_client.terminal import printable

INGEST_KEY_VARIABLE = "PRODUCT_MATCH_INGEST_KEY"
TOKEN_VARIABLE = "PRODUCT_MATCH_MCP_TOKEN"

EXIT_OK = 0
EXIT_INPUT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the tools until the agent or a signal ends them.

    Args:
        argv: the arguments; None takes the process's own.

    Returns:
        0 at the end, 2 where they cannot be served as they were asked for.
    """
    arguments = build_parser().parse_args(argv)
    if importlib.util.find_spec("mcp") is None:
        return _refuse(
            "the package mcp is missing; install this project with its extra agents: "
            "python -m pip install -c constraints.txt -e '.[agents]' in its checkout"
        )
    from product_match_client.agent_tools.serving import serve

    try:
        asyncio.run(serve(options_from_arguments(arguments)))
    except BadRequestError as error:
        return _refuse(printable(error))
    except KeyboardInterrupt:
        pass  # how a person ends it
    return EXIT_OK


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="product-match-mcp",
        description="Tools for agents over the Model Context Protocol: find products, look at "
        f"them, add them. A gateway's keys are read from ${API_KEY_VARIABLE} and, for adding "
        f"products, ${INGEST_KEY_VARIABLE}.",
    )
    add = parser.add_argument
    add("--url", default=os.environ.get("PRODUCT_MATCH_URL") or DEFAULT_URL,
        help="http(s):// or grpc(s)://host:port of the product matching server (default: "
        f"$PRODUCT_MATCH_URL, else {DEFAULT_URL})")  # fmt: skip
    add("--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S", help="seconds to wait for "
        f"it (default: {DEFAULT_TIMEOUT_S:g})")  # fmt: skip
    add("--photos", type=Path, metavar="FOLDER", help="agents may name picture files below this "
        "folder; over stdio alone (default: no files)")  # fmt: skip
    add("--add-without-key", action="store_true", help="offer add_product also without "
        f"${INGEST_KEY_VARIABLE}: the server asks for no key")  # fmt: skip
    add("--http", type=int, metavar="PORT", help="serve streamable HTTP at /mcp in place of stdio")
    add("--host", default=LOOPBACK, help="where the port is; any but this machine's own needs "
        f"${TOKEN_VARIABLE}, which callers then send as a bearer token (default: "
        f"{LOOPBACK})")  # fmt: skip
    return parser


def options_from_arguments(arguments: argparse.Namespace) -> Options:
    """The options of a command line and its environment.

    Raises:
        BadRequestError: they cannot be had together, or port or folder is none.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if arguments.http is not None and not 0 < arguments.http < 65536:
        raise BadRequestError(f"--http {arguments.http}: expected a port, 1 to 65535")
    if arguments.http is not None and arguments.host not in LOOPBACK_HOSTS and not token:
        raise BadRequestError(
            f"--host {arguments.host} is open to others: set ${TOKEN_VARIABLE} to a secret that "
            "callers send as a bearer token, or leave out --host"
        )
    if arguments.photos is not None and arguments.http is not None:
        raise BadRequestError(
            "--photos is for stdio alone: over HTTP callers would read files of this machine; "
            "leave out one of --photos and --http"
        )
    if arguments.photos is not None and not arguments.photos.is_dir():
        raise BadRequestError(f"--photos {arguments.photos} is no folder; expected an existing one")
    key = os.environ.get(INGEST_KEY_VARIABLE, "").strip()
    ingest_headers = {API_KEY_HEADER: key} if key else None
    # A key that may write may match as well.
    headers = headers_from_environment() or ingest_headers or {}
    if ingest_headers is None and arguments.add_without_key:
        ingest_headers = {}
    return Options(
        url=arguments.url,
        timeout_s=arguments.timeout,
        headers=headers,
        ingest_headers=ingest_headers,
        photos=arguments.photos,
        port=arguments.http,
        host=arguments.host,
        token=token,
    )


def _refuse(message: str) -> int:
    sys.stderr.write(f"product-match-mcp: {message}\n")
    return EXIT_INPUT
