"""``product_match`` requests as whole HTTP messages, and the answers to them."""

from __future__ import annotations

import tritonclient.http as triton_http

from bls_models.specs import PRODUCT_MATCH
from loadtest.http_load import Address, HttpAnswer
from loadtest.served import AnswerFacts
from product_match_client.calls import Call, match_call
from product_match_client.results import MatchResult, match_result_from_outputs

HEADER_LENGTH = "Inference-Header-Content-Length"


def request_from_photo(
    photo: bytes, address: Address, caption: str = "never", timeout_s: float | None = None
) -> bytes:
    """The request that a client sends for one photo, head and body.

    Args:
        photo: the encoded file.
        address: the server's host and port.
        caption: ``never``, ``auto`` or ``always``.
        timeout_s: see ``request_from_call``.
    """
    return request_from_call(match_call(photo, caption=caption), address, timeout_s)


def request_from_call(
    call: Call[MatchResult], address: Address, timeout_s: float | None = None
) -> bytes:
    """The request that a client sends for a call, head and body.

    Args:
        call: of ``match_call``.
        address: the server's host and port.
        timeout_s: after which the client gives up, in seconds, as it tells the server.
    """
    inputs = []
    for tensor in call.tensors:
        item = triton_http.InferInput(tensor.name, list(tensor.array.shape), tensor.dtype)
        item.set_data_from_numpy(tensor.array)
        inputs.append(item)
    body, header_length = triton_http.InferenceServerClient.generate_request_body(
        inputs, timeout=None if timeout_s is None else round(timeout_s * 1e6)
    )
    head = (
        f"POST /v2/models/{PRODUCT_MATCH.name}/infer HTTP/1.1\r\n"
        f"Host: {address[0]}:{address[1]}\r\n"
        f"Content-Type: application/octet-stream\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{HEADER_LENGTH}: {header_length}\r\n\r\n"
    )
    return head.encode("ascii") + bytes(body)


def result_from_answer(answer: HttpAnswer) -> MatchResult:
    """Read an answer of status 200."""
    header_length = int(answer.headers[HEADER_LENGTH.lower()])
    result = triton_http.InferenceServerClient.parse_response_body(
        answer.body, header_length=header_length
    )
    found = {name: result.as_numpy(name) for name in OUTPUT_NAMES}
    return match_result_from_outputs(
        {name: array for name, array in found.items() if array is not None}
    )


def facts_from_answer(answer: HttpAnswer) -> AnswerFacts:
    """What the benchmark looks at in an answer of status 200."""
    result = result_from_answer(answer)
    first = result.matches[0].product_id if result.matches else ""
    return AnswerFacts(first, result.details["milliseconds"])


OUTPUT_NAMES = PRODUCT_MATCH.output_names
