"""What a request is called: its own id, the header's, or one made for it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bls_models.telemetry.request_ids import RequestId, request_id_from

MADE = re.compile("[0-9a-f]{32}")


@pytest.mark.parametrize(
    ("own", "parameters", "expected"),
    [
        ("own", {}, RequestId("own")),
        ("", {"X-Request-Id": "header"}, RequestId("header")),
        ("", {"x-request-id": "header"}, RequestId("header")),
        ("own", {"X-Request-Id": "header"}, RequestId("own", "header")),
        ("same", {"x-request-id": "same"}, RequestId("same")),
        # The header comes after what the body has.
        ("", {"x-request-id": "body", "X-Request-Id": "header"}, RequestId("header")),
        ("has space", {"x-request-id": "header"}, RequestId("header")),
        ("own", {"x-request-id": "a\tb"}, RequestId("own")),
        ("~" * 128, {}, RequestId("~" * 128)),
    ],
)
def test_a_request_has_one_name(own: str, parameters: dict[str, Any], expected: RequestId) -> None:
    assert request_id_from(own, parameters) == expected


@pytest.mark.parametrize("bad", ["", " ", "x" * 129, "ünicode", "line\nbreak", "nul\0", 7, True])
def test_what_cannot_be_a_name_is_replaced(bad: Any) -> None:
    as_header = request_id_from("", {"X-Request-Id": bad})
    assert MADE.fullmatch(as_header.value)
    assert not as_header.header
    if isinstance(bad, str):
        assert MADE.fullmatch(request_id_from(bad, {}).value)
