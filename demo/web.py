"""The page as a web application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.utils import get_upload_folder
from starlette.middleware.trustedhost import TrustedHostMiddleware

from demo.access import OwnRequests
from demo.limits import PostLimits
from demo.options import DemoOptions
from demo.page import ASSETS, build, theme
from demo.server import Server
from demo.upload_room import UploadRoom, keep_tidy

USER = "demo"
DESCRIPTION = '<meta name="description" content="Find products by photos and words.">'
# Catalogues to import; a picture is bounded by the server.
MAX_UPLOAD = "64mb"


def application(options: DemoOptions, url: str) -> FastAPI:
    """The page of the server at a URL, with its health at ``/healthz``."""
    server = Server(url, options.api_key, options.shown_url)
    folder = Path(get_upload_folder())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tidying = asyncio.create_task(keep_tidy(folder))
        yield
        tidying.cancel()
        await server.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def health() -> dict[str, Any]:
        return {"status": "ok"}

    # The last one that is added is asked first.
    app.add_middleware(UploadRoom, folder=folder, most_bytes=options.uploads_mb * 2**20)
    app.add_middleware(PostLimits, rate=options.rate, burst=options.burst)
    app.add_middleware(OwnRequests)
    app.add_middleware(
        TrustedHostMiddleware, allowed_hosts=options.host_names(), www_redirect=False
    )
    gr.mount_gradio_app(
        app,
        build(server, options),
        path="/",
        auth=(USER, options.password) if options.password else None,
        footer_links=[],
        run_history=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        theme=theme(),
        head=DESCRIPTION,
        css_paths=ASSETS / "page.css",
        favicon_path=str(ASSETS / "icon.svg"),
    )
    return app
