"""The match that health checks ask for, and how ``product_match`` knows it.

A probe is a real match that goes through the whole pipeline. There is one every few seconds for
each server, so those that are answered are left out of ``match_log``. A request counts as a probe
only if it says so and asks for what the probe asks for, so no other match can be kept out of the
log that way.

Only Python's own modules are imported here, because the probe's process starts every few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bls_models.match.request import MatchQuery

PARAMETER = "probe"
TEXT = "probe"
# Grey, 8 x 8 pixels, as PNG.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mNsaGhgwAaYGHCAwSkBADAXAZDUexXGAAAA"
    "AElFTkSuQmCC"
)
TOP_K = 1
# No product resembles a grey picture; at the least score one matches, and its document is read.
MIN_SCORE = -1.0


def probe_body() -> dict[str, Any]:
    """The match as the body of Triton's infer; with words and a picture it asks for no caption."""
    inputs = [
        {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [TEXT]},
        {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [PICTURE]},
        {"name": "top_k", "datatype": "INT32", "shape": [1, 1], "data": [TOP_K]},
        {"name": "min_score", "datatype": "FP32", "shape": [1, 1], "data": [MIN_SCORE]},
    ]
    return {
        "id": "probe",
        "parameters": {PARAMETER: True},
        "inputs": inputs,
        "outputs": [{"name": "product_id"}],
    }


def is_probe(parameters: Mapping[str, Any], query: MatchQuery) -> bool:
    """Whether a request is a probe.

    Args:
        parameters: the request's parameters.
        query: what it asks for.
    """
    return (
        parameters.get(PARAMETER) is True
        and query.texts == (TEXT,)
        and query.images == (PICTURE.encode(),)
        and query.top_k == TOP_K
        and query.min_score == MIN_SCORE
        and not query.filter
        and not query.offset
        and not query.like
        and not query.facets
        and query.sort == "score"
        and not query.wants_objects
    )
