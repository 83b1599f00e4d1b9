"""The API key that the gateway asks for."""

from __future__ import annotations

import os

API_KEY_VARIABLE = "PRODUCT_MATCH_API_KEY"
# In lower case, as gRPC metadata must be.
API_KEY_HEADER = "x-api-key"


def headers_from_environment() -> dict[str, str]:
    """The header with the key of ``PRODUCT_MATCH_API_KEY``; nothing where that is not set."""
    key = os.environ.get(API_KEY_VARIABLE, "").strip()
    return {API_KEY_HEADER: key} if key else {}
