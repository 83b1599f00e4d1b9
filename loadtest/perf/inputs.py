"""Photos as perf_analyzer's input data."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from product_match_client.calls import Tensor, match_call


def write_inputs(photos: Sequence[bytes], path: Path) -> None:
    """Write one request a photo, without captions, as the JSON of ``--input-data``."""
    calls = (match_call(photo, caption="never") for photo in photos)
    data = [
        {tensor.name: bytes_content(tensor) for tensor in call.tensors if tensor.dtype == "BYTES"}
        for call in calls
    ]
    path.write_text(json.dumps({"data": data}), encoding="utf-8")


def bytes_content(tensor: Tensor) -> dict[str, Any]:
    """A BYTES tensor: base64 of each element after its length, 4 bytes little-endian."""
    values = tensor.array.ravel()
    raw = b"".join(len(value).to_bytes(4, "little") + value for value in values)
    return {"b64": base64.b64encode(raw).decode("ascii")}
