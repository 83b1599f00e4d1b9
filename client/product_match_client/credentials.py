"""The API key that the gateway asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping

API_KEY_VARIABLE = "PRODUCT_MATCH_API_KEY"
# In lower case, as gRPC metadata must be.
API_KEY_HEADER = "x-api-key"


def headers_from_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The header with the key of ``PRODUCT_MATCH_API_KEY``; nothing where that is not set."""
    key = (os.environ if environ is None else environ).get(API_KEY_VARIABLE, "").strip()
    return {API_KEY_HEADER: key} if key else {}
