"""``python -m demo``: serve the page until Ctrl-C, beside the local server or for another one."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence

import uvicorn

from bls_models.errors import ProductMatchError, SetupError
from bls_models.settings import add_flags, values_from_files
from demo.options import DemoOptions, read_options
from demo.web import application

# Where Gradio keeps uploads.
UPLOADS_VARIABLE = "GRADIO_TEMP_DIR"
SECRETS = ("PRODUCT_MATCH_API_KEY", "DEMO_PASSWORD")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    add_flags(DemoOptions, parser, secrets=False)
    arguments = parser.parse_args(argv)
    try:
        os.environ.update(values_from_files(os.environ, SECRETS))
        options = read_options(arguments)
        if options.url:
            serve(options, options.url)
            return 0
        # Only here: the page of another server needs nothing of the local one.
        from demo.beside_server import local_url

        with local_url() as url:
            serve(options, url)
        return 0
    except (ProductMatchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


class PageServer(uvicorn.Server):
    """A server that ends when it is told to, also with pages open.

    Each open page holds streams that never end by themselves.

    Args:
        config: uvicorn's.
        greeting: printed when it serves.
    """

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        await super().startup(sockets)
        print(self._greeting, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections, then stop."""
        for connection in list(self.server_state.connections):
            connection.transport.close()
        await super().shutdown(sockets)


def serve(options: DemoOptions, url: str) -> None:
    """Serve the page of the server at ``url`` until interrupted.

    Raises:
        SetupError: the port is taken.
    """
    try:
        listening = socket.create_server((options.host, options.port))
    except OSError as error:
        raise SetupError(
            f"the page cannot listen on {options.host}:{options.port} "
            f"({os.strerror(error.errno or 0)}); choose another port with --port"
        ) from error
    with listening, tempfile.TemporaryDirectory(prefix="product-match-page-") as uploads:
        # Nothing that visitors sent outlives the page.
        os.environ[UPLOADS_VARIABLE] = uploads
        config = uvicorn.Config(
            application(options, url), log_level="warning", timeout_graceful_shutdown=5
        )
        host, port = listening.getsockname()[:2]
        greeting = f"Page: http://{host}:{port}  (server {url}). Press Ctrl-C to stop."
        PageServer(config, greeting).run(sockets=[listening])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
