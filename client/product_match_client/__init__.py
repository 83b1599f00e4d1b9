"""Python client of the product matching server: HTTP and gRPC, blocking and asyncio."""

from __future__ import annotations

from product_match_client.calls import MatchOptions
from product_match_client.client import AsyncProductMatchClient, ProductMatchClient
from product_match_client.errors import (
    BadRequestError,
    ClientError,
    NotFoundError,
    ServerError,
    ServiceUnavailableError,
)
from product_match_client.images import ImageSource
from product_match_client.results import (
    IngestResult,
    Match,
    MatchedObject,
    MatchResult,
    ProductPicture,
)

__all__ = [
    "AsyncProductMatchClient",
    "BadRequestError",
    "ClientError",
    "ImageSource",
    "IngestResult",
    "Match",
    "MatchOptions",
    "MatchResult",
    "MatchedObject",
    "NotFoundError",
    "ProductMatchClient",
    "ProductPicture",
    "ServerError",
    "ServiceUnavailableError",
]
