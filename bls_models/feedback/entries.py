"""Feedback on matches: what it may say, and how it is stored."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime

from bls_models.database.store import Document
from bls_models.errors import RequestError
from bls_models.product import PRODUCT_ID
from bls_models.request_tensors import choice, inputs_from_tensors
from bls_models.specs import FEEDBACK_EVENTS, PRODUCT_FEEDBACK
from bls_models.telemetry.request_ids import REQUEST_ID
from bls_models.vectors import Arrays

RECORDED = "recorded"


@dataclass(frozen=True)
class Feedback:
    """What somebody made of one product of an answer.

    Attributes:
        request_id: of the match, as ``details.request_id`` says it.
        product_id: the product; it need not be one that the answer held.
        event: one of ``FEEDBACK_EVENTS``.
    """

    request_id: str
    product_id: str
    event: str


def feedback_from_tensors(tensors: Arrays) -> Feedback:
    """Read a request's tensors, which carry a batch dimension of 1.

    Raises:
        RequestError: an input cannot be used; the message names it.
    """
    inputs = inputs_from_tensors(PRODUCT_FEEDBACK, tensors)
    return Feedback(
        request_id=_matching(
            inputs,
            "request_id",
            REQUEST_ID,
            "1 to 128 printable ASCII characters without spaces, as in the answer",
        ),
        product_id=_matching(
            inputs, "product_id", PRODUCT_ID, "1 to 128 characters without spaces or slashes"
        ),
        event=choice(inputs, "event", "", FEEDBACK_EVENTS),
    )


def feedback_entry(feedback: Feedback, now: datetime) -> Document:
    """One ``feedback`` document; its id makes that the same feedback counts once."""
    values = [feedback.request_id, feedback.product_id, feedback.event]
    return {
        "_id": hashlib.sha256(json.dumps(values).encode()).hexdigest(),
        "time": now,
        "request_id": feedback.request_id,
        "product_id": feedback.product_id,
        "event": feedback.event,
    }


def _matching(inputs: Arrays, name: str, pattern: re.Pattern[str], expected: str) -> str:
    value = bytes(inputs[name][0]).decode(errors="replace")
    if not pattern.fullmatch(value):
        raise RequestError(name, repr(value)[:80], expected)
    return value
