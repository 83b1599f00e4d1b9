"""The id of a request: in its answer, in the request logs and in the server's own log.

A client names a request by ``id``, a part of Triton's protocols, or by the header ``X-Request-ID``
(over gRPC metadata), which Triton forwards as a parameter of the request.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# HTTP headers have no case, and Triton writes this one as X-Request-Id.
HEADER = "x-request-id"
# Printable ASCII without spaces: safe in headers, log lines and queries. The gateway has it too.
REQUEST_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True)
class RequestId:
    """What a request is called.

    Attributes:
        value: its own id, else the header's, else one made here.
        header: the header's where ``value`` is another, else empty. The gateway's access log knows
            the request by this one.
    """

    value: str
    header: str = ""


def request_id_from(own: str, parameters: Mapping[str, Any]) -> RequestId:
    """A request's id; one that cannot be used counts as not given.

    Args:
        own: the request's ``id``; empty where it has none.
        parameters: the request's parameters, forwarded headers among them.
    """
    headers = [value for name, value in parameters.items() if name.lower() == HEADER]
    # Triton appends headers to the parameters that the body has.
    header = _usable(headers[-1]) if headers else ""
    own = _usable(own)
    if own:
        return RequestId(own, "" if header == own else header)
    return RequestId(header or uuid.uuid4().hex)


def _usable(value: object) -> str:
    return value if isinstance(value, str) and REQUEST_ID.fullmatch(value) else ""
